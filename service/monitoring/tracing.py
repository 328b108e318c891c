"""OpenTelemetry as its own variables ask for it: whether requests are traced, and where their spans go.

Nothing of it is imported where they do not ask. Each process has a provider of its own, started after every fork, whose
thread sends spans in batches; nobody waits for it but the end of the process, and that for a moment.
"""

import asyncio
import contextlib
import logging
import os
import threading
import uuid
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Tracer

    from service.monitoring.trace_ids import GivenIds

__all__ = ["FLUSH_SECONDS", "Tracing", "exporters_asked_for", "start_tracing"]

FLUSH_SECONDS = 1.0
"""The end of a process waits no longer for a collector to take the last spans."""
GROUP = "opentelemetry_traces_exporter"
PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
logger = logging.getLogger("diabolo.tracing")


class Tracing:
    """What spans are made with, until `close`. `sampler` is to be asked first, as OTEL_TRACES_SAMPLER says: every span
    that `tracer` is asked for is made, in the trace that `ids` is given where it has no parent. What is not sampled, as
    a rule nearly all, then costs a third of what it costs when a tracer does both."""

    def __init__(self, provider: "TracerProvider", sampler: "Sampler", ids: "GivenIds") -> None:
        self._provider = provider
        self.tracer: Tracer = provider.get_tracer("diabolo", version("diabolo"))
        self.sampler = sampler
        self.ids = ids

    async def close(self, seconds: float) -> None:
        """The collector has the last spans, or that took too long and they are lost."""
        loop = asyncio.get_running_loop()
        closed = asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # too late: the loop has ended
                loop.call_soon_threadsafe(closed.set)

        # A thread that the interpreter does not wait for: with a dead collector this takes half a minute.
        threading.Thread(target=shut_down, name="flush-spans", daemon=True).start()
        try:
            await asyncio.wait_for(closed.wait(), seconds)
        except TimeoutError:
            logger.warning("the last spans are lost: the collector did not take them within %g s", seconds)


def start_tracing() -> Tracing | None:
    """What requests are to be traced with; None where the variables do not ask for it, and where they ask for what
    cannot be had, which the log says: no traces are no reason not to serve."""
    asked = exporters_asked_for()
    if not asked:
        return None
    try:
        return _start(asked)
    except ModuleNotFoundError:
        fault = "the extra is not installed: pip install 'diabolo[otel]'"
    except Exception as error:  # each exporter has its own ways to refuse its variables
        fault = str(error)
    logger.warning("OTEL_* variables ask for traces by %s, but %s. Nothing is traced.", ", ".join(asked), fault)
    return None


def exporters_asked_for() -> Sequence[str]:
    """The exporters that the variables ask for, by the names of their entry points. OTEL_TRACES_EXPORTER alone would
    default to a collector on this machine; here somebody must have said that there is one."""
    if _variable("OTEL_SDK_DISABLED").lower() == "true":
        return ()
    endpoint = _variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or _variable("OTEL_EXPORTER_OTLP_ENDPOINT")
    names = _variable("OTEL_TRACES_EXPORTER") or ("otlp" if endpoint else "none")
    protocol = _variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or _variable("OTEL_EXPORTER_OTLP_PROTOCOL")
    otlp = PROTOCOLS.get(protocol or "http/protobuf", protocol)
    asked = [name.strip() for name in names.split(",") if name.strip()]
    return () if "none" in asked else [otlp if name == "otlp" else name for name in asked]


def _variable(name: str) -> str:
    """Empty where it is not set, which means the same."""
    return os.environ.get(name, "").strip()


def _start(asked: Sequence[str]) -> Tracing:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    from service.monitoring.trace_ids import GivenIds

    exporters = [_exporter(name) for name in asked]
    ids = GivenIds()
    provider = TracerProvider(ALWAYS_ON, resource=_resource(), shutdown_on_exit=False, id_generator=ids)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider, TracerProvider(shutdown_on_exit=False).sampler, ids)


def _exporter(name: str) -> Any:
    """It has read its own variables. Raises ModuleNotFoundError, LookupError, or what it raises."""
    found = entry_points(group=GROUP, name=name)
    if not found and name == PROTOCOLS["http/protobuf"]:
        raise ModuleNotFoundError(name)
    if not found:
        known = ", ".join(sorted(entry_points(group=GROUP).names))
        raise LookupError(f"no exporter {name} is installed; there are {known}")
    return next(iter(found)).load()()


def _resource() -> "Resource":
    """Who we are, as far as OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES do not say it."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    said = OTELResourceDetector().detect().attributes
    ours = {
        "service.name": "diabolo",
        "service.version": version("diabolo"),
        "service.instance.id": str(uuid.uuid4()),
    }
    return Resource.create({name: value for name, value in ours.items() if name not in said})
