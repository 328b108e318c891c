"""Whether requests are traced is for the standard variables to say; what is in the way is said once, and hinders
nobody."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import pytest

from benchmarks.collector import PATIENCE, collecting
from service.monitoring import tracing
from service.monitoring.tracing import exporters_asked_for, start_tracing
from tests.service.serving import ROWS, serving

ROOT = Path(__file__).parents[2]
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
HTTP, GRPC = "otlp_proto_http", "otlp_proto_grpc"


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "exporters"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "pumps"}, []),
        (ENDPOINT, [HTTP]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, []),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, [HTTP]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, [HTTP]),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", HTTP]),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, []),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, []),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "1"}, [HTTP]),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, [GRPC]),
        (
            {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            [HTTP],
        ),
    ],
)
def test_the_standard_variables_say_whether_and_whereto(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], exporters: Sequence[str]
) -> None:
    set_all(monkeypatch, variables)
    assert list(exporters_asked_for()) == exporters


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "no exporter otlp_proto_grpc is installed; there are"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "no exporter zipkin is installed; there are console, otlp_proto_http"),
        ({**ENDPOINT, "OTEL_BSP_MAX_QUEUE_SIZE": "1"}, "max_export_batch_size"),
    ],
)
async def test_what_cannot_be_had_is_said_and_the_service_serves(
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variables: dict[str, str],
    said: str,
) -> None:
    set_all(monkeypatch, variables)
    async with serving(models) as served:
        assert (await served.post("tiny/encode", json={"inputs": ROWS})).status_code == 200
    (record,) = [record for record in caplog.records if record.name == "diabolo.tracing"]
    assert record.levelno == logging.WARNING
    assert said in record.getMessage()
    assert "Nothing is traced" in record.getMessage()


@pytest.mark.parametrize("missing", ["opentelemetry.sdk.trace", "opentelemetry.exporter"])
def test_a_missing_extra_is_one_line_that_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    set_all(monkeypatch, ENDPOINT)
    if missing == "opentelemetry.exporter":
        monkeypatch.setattr(tracing, "entry_points", lambda **_: ())
    else:
        monkeypatch.setitem(sys.modules, missing, None)
    assert start_tracing() is None
    (record,) = caplog.records
    assert "pip install 'diabolo[otel]'" in record.getMessage()


ASKS = """
import asyncio, sys
from service.app import create_app
from service.settings import Settings

async def live():
    app = create_app(Settings(models_dir=sys.argv[1]))
    async with app.router.lifespan_context(app):
        pass

asyncio.run(live())
print(*(name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "requests"))))
"""


@pytest.mark.parametrize(("variables", "imported"), [({}, False), (ENDPOINT, True)])
def test_nothing_of_it_is_imported_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], imported: bool
) -> None:
    set_all(monkeypatch, variables)
    command = [sys.executable, "-c", ASKS, str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert bool(found.stdout.split()) == imported


async def test_a_collector_that_never_answers_holds_up_neither_requests_nor_the_end(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.app.FLUSH_SECONDS", 0.05)
    with collecting() as collector:
        collector.hold()
        set_all(monkeypatch, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "1"})
        async with serving(models) as served:
            assert (await served.post("tiny/encode", json={"inputs": ROWS})).status_code == 200
            assert await asyncio.to_thread(collector.asked.wait, PATIENCE)
            # It waits for an answer that does not come; nobody here waits for it.
            assert (await served.post("tiny/encode", json={"inputs": ROWS})).status_code == 200
            began = monotonic()
        assert monotonic() - began < 25, "its own patience is longer"
        collector.release()
        assert collector.spans(requests=2), "whoever has patience has them"
    assert "the last spans are lost" in caplog.text
