"""What is done to the running deployment, one function a step: each says in words what it counted, and raises where a
promise is broken."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np

from tests.deploy.expressions import HAPROXY, rules
from tests.docker import calls, monitoring
from tests.docker.engine import PROJECT, ROOT, Project, docker, inspect, until, writable, written
from tests.docker.figures import (
    addresses,
    answered,
    firing,
    known,
    megabytes,
    prometheus,
    retried,
    scraped,
    taken,
    versions,
)
from tests.docker.load import Load, questions, under_load

__all__ = ["PROFILES", "STEPS"]

IMAGES = {"service": PROJECT, "slim": f"{PROJECT}:slim", "train": f"{PROJECT}:train"}
# Compose passes over what belongs to a profile that is not named, even where it runs.
PROFILES = ("--profile", "observability")
BASE = "python:3.11-slim-bookworm"
REPLICAS = 3
TRAINED = "digits-vae"
EPOCHS = "5"


def build(project: Project) -> str:
    """All images are built from the tree as it is: first, as one does, those that `up` needs."""
    project.compose("build", timeout=1800)
    project.compose("build", "prometheus", "train", timeout=1800)
    docker("build", "-q", "--target", "slim", "-t", IMAGES["slim"], str(ROOT), timeout=1800)
    base = megabytes(BASE)
    sizes = {name: megabytes(image) for name, image in (*IMAGES.items(), ("proxy", f"{PROJECT}-proxy"))}
    assert sizes["slim"] - base < 400
    return f"MB beyond the base's {base}: " + ", ".join(f"{name} {size - base}" for name, size in sizes.items())


def replay(_: Project) -> str:
    """Every shipped bundle loads and replays its golden probe in each image."""
    said = []
    bundles = len(list((ROOT / "models").glob("*/1/manifest.json")))
    for name, image in IMAGES.items():
        lines = docker(
            "run", "--rm", "--read-only", "-v", f"{ROOT / 'models'}:/models:ro", image, "verify", timeout=300
        ).splitlines()
        runtimes = [
            runtime for runtime in ("torchscript", "onnx") if all(f"in {runtime} within" in line for line in lines)
        ]
        assert sum("replayed" in line for line in lines) == len(lines) == bundles, lines
        said.append(f"{name} {len(lines)} in {' and '.join(runtimes)}")
    return "bundles replayed: " + ", ".join(said)


def bring_up(project: Project) -> str:
    """`up` returns once the shipped bundles are served through the one port that is published."""
    project.compose("up", "-d")
    _, took = until("the proxy is well", lambda: project.healthy("proxy") == 1)
    served = {model["name"] for model in httpx.get(f"{project.address}/v1/models").raise_for_status().json()["models"]}
    assert served == {path.name for path in (ROOT / "models").iterdir()}
    published = {
        inspect(container)["Config"]["Labels"]["com.docker.compose.service"]
        for container in project.everything()
        if any(inspect(container)["HostConfig"]["PortBindings"] or {})
    }
    assert published == {"proxy"}
    return f"{len(served)} bundles, healthy {took:.0f} s after `up` returned; published: {', '.join(published)}"


def operate(project: Project) -> str:
    """Everything that clients may ask is answered through the proxy, and what they may not is refused."""
    answers = calls.every_operation(project.address)
    size = calls.large(project.address, "fashion-vanilla")
    lines = calls.streams(project.address, "fashion-vanilla")
    closed = calls.closed(project.address) + calls.request_ids(project.address)
    streamed = f"{lines} lines each answered before the next"
    return f"{answers} answers, {size / 1e6:.0f} MB in one, {streamed}, {closed} heads and closed paths"


def observe(project: Project) -> str:
    """Prometheus scrapes every replica itself, and the proxy, and has loaded every rule."""
    project.compose("up", "-d", "--no-recreate", "--scale", f"service={REPLICAS}", "service", "proxy", "prometheus")
    _all_well(project)
    until("Prometheus is well", lambda: project.healthy("prometheus") == 1)
    replicas = {f"{address}:8000" for container in project.containers("service") for address in addresses(container)}
    _, took = until("all replicas are scraped", lambda: scraped(project) == replicas)
    told = [
        f'{name}{{job="proxy",' + ",".join(f'{label}!=""' for label in labels) + "}" for name, labels in HAPROXY.items()
    ]
    until("the proxy is scraped", lambda: all(known(project, series) for series in told))
    loaded = [rule for group in prometheus(project, "rules")["groups"] for rule in group["rules"]]
    assert len(loaded) == len(list(rules()))
    assert not [rule for rule in loaded if rule["health"] == "err"]
    return f"{len(replicas)} replicas scraped after {took:.0f} s, {len(loaded)} rules loaded"


def provoke(project: Project) -> str:
    """A version that cannot be right is refused, which fires its alert; rows of noise are for a later one."""
    noise = np.random.default_rng(0).random((1500, 784), dtype=np.float32).tolist()
    asked = f"{project.address}/v1/models/fashion-vanilla/anomaly-score"
    httpx.post(asked, json={"inputs": noise}, timeout=60).raise_for_status()
    _in_volume("mkdir -p /models/fashion-vae/99 && echo '{}' > /models/fashion-vae/99/manifest.json")
    _, took = until("DiaboloBundleRefused fires", lambda: "DiaboloBundleRefused" in firing(project))
    _in_volume("rm -r /models/fashion-vae/99")
    assert (
        httpx.post(f"{project.address}/v1/models/fashion-vae/sample", json={"count": 1, "seed": 1}).json()["version"]
        == 1
    )
    return f"DiaboloBundleRefused fires {took:.0f} s after a damaged version came; version 1 answers"


def scale(project: Project) -> str:
    """Replicas that come while the proxy runs get their share, and those that go lose nothing. One that comes may be
    asked before the proxy has had its first look at it, and then refuses while it loads: that is counted."""
    with _asked(project, "fashion-vae") as load:
        project.compose("up", "-d", "--no-recreate", "--scale", "service=1", "service", "proxy")
        until("one is left", lambda: len(project.containers("service")) == 1)
        project.compose("up", "-d", "--no-recreate", "--scale", f"service={REPLICAS}", "service", "proxy")
        _all_well(project)
        before = {container: answered(container) for container in project.containers("service")}
        _, took = until(
            "all get requests", lambda: all(answered(container) > count + 10 for container, count in before.items())
        )
    return f"{REPLICAS} to 1 to {REPLICAS} while asked, each in use {took:.0f} s after it was well: {load}"


def kill(project: Project) -> str:
    """A replica that dies takes no request with it: the proxy asks another, and nobody is refused."""
    retried_before = retried(project)
    with _unnoticed(project, "fashion-vae") as load:
        before = load.answered
        docker("kill", "-s", "KILL", project.containers("service")[0])
        until("the others go on", lambda: load.answered > before + 300)
    # Some hundred requests a second, a third of them to it, and a second until the proxy looks at it again.
    elsewhere = retried(project) - retried_before
    assert elsewhere > 0, "no request was with the replica or on its way there, so nothing was seen"
    project.compose("up", "-d", "--no-recreate", "--scale", f"service={REPLICAS}", "service", "proxy")
    _all_well(project)
    return f"{load}; {elsewhere} were sent to another replica"


def roll(project: Project) -> str:
    """A new version is trained into the shared volume and taken up by every replica while the old one answers."""
    first = _train(project)
    until("it is served", lambda: versions(project, TRAINED) == [1] * REPLICAS)
    with _unnoticed(project, TRAINED) as load:
        second = _train(project, "--seed", "1")
        until("it has taken over", lambda: versions(project, TRAINED) == [2] * REPLICAS)
        _more(load, 50)
    assert set(load.versions) == {1, 2}
    old, new = load.versions[1], load.versions[2]
    return f"trained in {first:.0f} and {second:.0f} s; {old} answers by version 1, then {new} by 2: {load}"


def roll_back(project: Project) -> str:
    """Pinning the old version in one replica is in force in all of them, and is remembered."""
    with _unnoticed(project, TRAINED) as load:
        docker("exec", project.containers("service")[0], "diabolo", "models", "pin", TRAINED, "1")
        _, took = until("all have gone back", lambda: versions(project, TRAINED) == [1] * REPLICAS)
    return f"all replicas within {took:.1f} s of the command: {load}"


def drift(project: Project) -> str:
    """The noise of before has fired the alert on anomalies."""
    _, took = until("DiaboloManyAnomalies fires", lambda: "DiaboloManyAnomalies" in firing(project))
    return f"DiaboloManyAnomalies fires; waited {took:.0f} s more"


def restart(project: Project) -> str:
    """Everything restarts: nothing that was taken is lost, pins and trained versions are still there."""
    with _asked(project, TRAINED, keep_alive=False) as load:
        _more(load, 50)
        begun = time.monotonic()
        project.compose(*PROFILES, "restart")
        _all_well(project)
        took = time.monotonic() - begun
        _more(load, 50)
    assert set(load.versions) == {1}, "the pin was forgotten"
    until("Prometheus is well", lambda: project.healthy("prometheus") == 1)
    return f"{took:.0f} s: {load}; the pin holds"


def lock(project: Project) -> str:
    """With a file of keys, mounted as a secret, the service reads it and asks for one; Prometheus has its own."""
    keys, metrics = project.folder / "keys.json", project.folder / "metrics_key"
    project.key = _new_key(keys, "web", "infer")
    metrics.write_text(_new_key(keys, "prometheus", "metrics"))
    for file in (keys, metrics):  # whom of this machine they do not concern, their folder keeps away
        file.chmod(0o644)
    project.variables |= {
        "DIABOLO_API_KEYS_FILE": "/run/secrets/keys",
        "KEYS_FILE": str(keys),
        "METRICS_KEY_FILE": str(metrics),
    }
    project.compose("up", "-d", "--scale", f"service={REPLICAS}", "service", "proxy", "prometheus")
    _all_well(project)
    without = httpx.get(f"{project.address}/v1/models")
    with_key = httpx.get(f"{project.address}/v1/models", headers={"X-API-Key": project.key})
    assert (without.status_code, with_key.status_code) == (401, 200), (without.text, with_key.text)
    until("Prometheus has a key", lambda: len(scraped(project)) == REPLICAS)
    return "401 without a key, 200 with one; Prometheus scrapes with its own"


def stop(project: Project) -> str:
    """Everything stops in order: what was taken is answered, every process ends by itself."""
    with _asked(project, TRAINED, keep_alive=False) as load:
        _more(load, 50)
        begun = time.monotonic()
        project.compose(*PROFILES, "stop", timeout=180)
        took = time.monotonic() - begun
    states = {container[:12]: inspect(container)["State"] for container in project.everything()}
    ended = {container: (state["Status"], state["ExitCode"]) for container, state in states.items()}
    assert set(ended.values()) == {("exited", 0)}, ended
    return f"{took:.0f} s, {len(ended)} containers ended with 0: {load}"


def writes(project: Project) -> str:
    """No container has written anywhere but into its volumes, nor could have: those that bore the load are asked."""
    found = {container: written(container) for container in project.everything()}
    assert not any(found.values()), found
    wrong = {container: why for container in found if (why := writable(container))}
    assert not wrong, wrong
    return f"{len(found)} containers, {sum(map(len, found.values()))} files written outside of volumes, nor can root"


STEPS: tuple[Callable[[Project], str], ...] = (
    build, replay, bring_up, operate, observe, monitoring.check, monitoring.fire, provoke, scale, kill, roll, roll_back,
    drift, monitoring.ask, restart, writes, lock, stop,
)  # fmt: skip


@contextlib.contextmanager
def _asked(project: Project, name: str, *, keep_alive: bool = True) -> Iterator[Load]:
    """The block runs under load, of which nothing is lost or answered wrongly."""
    asked = questions(project.address, name, key=project.key, exact=name != TRAINED)
    with under_load(project.address, asked, keep_alive=keep_alive) as load:
        yield load
    load.settle(taken(project))
    assert load.faultless, f"{load}\n{load.lost}\n{load.wrong}"


@contextlib.contextmanager
def _unnoticed(project: Project, name: str) -> Iterator[Load]:
    """The block runs under load, of which every request is answered, and rightly."""
    with _asked(project, name) as load:
        yield load
    assert load.unnoticed, load


def _more(load: Load, answers: int) -> None:
    """So many more answers have come."""
    before = load.answered
    until("more answers", lambda: load.answered >= before + answers)


def _all_well(project: Project) -> None:
    until("all replicas are well", lambda: project.healthy("service") == REPLICAS)
    until("the proxy is well", lambda: project.healthy("proxy") == 1)


def _in_volume(script: str) -> None:
    """A shell script has been run where the bundles of the deployment are."""
    docker("run", "--rm", "-v", f"{PROJECT}_models:/models", "--entrypoint", "sh", IMAGES["service"], "-euc", script)


def _train(project: Project, *options: str) -> float:
    """Seconds that training a version took. Its container stays until the end, to see what it has written."""
    begun = time.monotonic()
    project.compose("--profile", "train", "run", "-T", "train", TRAINED, "--epochs", EPOCHS, *options, timeout=900)
    return time.monotonic() - begun


def _new_key(file: Path, name: str, scope: str) -> str:
    command = [sys.executable, "-c", "from cli.main import main; main()", "keys", "add", name, "--scope", scope]
    ended = subprocess.run([*command, "--keys-file", str(file)], cwd=ROOT, capture_output=True, text=True, check=True)
    return ended.stdout.split()[-1]
