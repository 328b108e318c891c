"""The whole service by its own OpenAPI document: whatever is sent, the answer is one that the document has.

Schemathesis makes valid and invalid requests of it, with all of its checks on and none excused. Valid ones have to be
accepted, invalid ones refused; answers have statuses, media types, fields and bodies that the document has, and no key
but a known one is let in.
"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from schemathesis import HookContext
from schemathesis.core.failures import Failure
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.engine.statistic import Statistic

from tests.fuzz.budget import CASES, tried
from tests.fuzz.narrowed import FORMATS, MOST_ROWS, AnyCase, agreed, is_failure, narrowed
from tests.fuzz.served import running
from tests.key_files import KEY, write_keys

LEAST = 2
REFUSED = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422"]


@pytest.fixture(scope="module", autouse=True)
def _media_types() -> None:
    schemathesis.serializer.alias(["application/x-npy", "application/x-ndjson"], "application/octet-stream")
    for name, strategy in FORMATS.items():
        schemathesis.openapi.format(name, strategy)


@pytest.fixture(params=[False, True], ids=["without keys", "with keys"])
def schema(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[schemathesis.BaseSchema]:
    """The document of a running service, narrowed to its bundles; it asks for keys or does not."""
    keys = {"api_keys_file": write_keys(tmp_path / "keys.json")} if request.param else {}
    with running(tmp_path, max_rows=MOST_ROWS, **keys) as url:
        document = narrowed(httpx.get(f"{url}/openapi.json").json())
        config = {
            "base-url": url,
            "continue-on-failure": True,
            "request-timeout": 30,
            "generation": {
                "max-examples": max(LEAST, CASES // 10),
                "deterministic": not CASES,
                "database": "none",
            },
            # Which names there are is known, and what Schemathesis learns from answers makes it slower and slower.
            "phases": {phase: {"extra-data-sources": {"responses": False}} for phase in ("examples", "fuzzing")},
            "checks": {"enabled": True, "negative_data_rejection": {"expected-statuses": REFUSED}},
            **({} if CASES else {"seed": 1}),
            **({"auth": {"openapi": {"api_key": {"api_key": KEY}}}} if keys else {}),
        }
        yield schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(config))


@pytest.mark.timeout(0 if CASES else 600)  # thousands of requests, on a machine that may be busy
def test_the_service_answers_as_its_document_says(
    schema: schemathesis.BaseSchema, request: pytest.FixtureRequest
) -> None:
    @schema.hook
    def map_case(_: HookContext, case: AnyCase) -> AnyCase:
        return agreed(case)

    @schema.hook
    def filter_failure(_: HookContext, failure: Failure, case: AnyCase, response: schemathesis.Response) -> bool:  # noqa: ARG001  # Schemathesis looks at these names
        return is_failure(failure, case)

    found, errors = Statistic(), []
    for event in from_schema(schema).execute():
        if isinstance(event, ScenarioFinished):
            found.on_scenario_finished(event.recorder)
        elif isinstance(event, NonFatalError | FatalError):
            errors.append(event)
    tried[request.node.name] = found.total_cases
    failures = [
        f"{label}\n{group.format(index=None, curl=group.code_sample, config=schema.config.output)}"
        for label, groups in found.failures.items()
        for group in groups.values()
    ]
    assert not failures, "\n\n".join(failures)
    assert not errors
    assert len(found.tested_operations) == len(list(schema.get_all_operations()))
