"""Loading and unloading, as the command `diabolo models` does: the service's HTTP calls need a key, which would close
inference to the clients that measure."""

import time

from benchmarks.reliability.service import Service
from service.engine.acknowledgements import pending
from service.engine.desired import StateFile, Wish

__all__ = ["STATE", "administer"]

STATE = "state"
WAIT_SECONDS, ASK_SECONDS = 60.0, 0.02
VERBS = {"load": Wish.load, "unload": Wish.unload}


def administer(service: Service, name: str, verb: str) -> None:
    """Every worker has loaded or unloaded the bundle. The service keeps its state in the folder STATE beside its
    bundles. Raises RuntimeError where a worker has not."""
    state = StateFile(service.models.parent / STATE)
    revision = state.change(name, VERBS[verb]).revision
    deadline = time.monotonic() + WAIT_SECONDS
    while waiting := pending(state.folder, name, revision=revision):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{verb} is not in force in {waiting}")
        time.sleep(ASK_SECONDS)
