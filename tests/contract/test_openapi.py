"""The OpenAPI document: committed, whole, and exemplary in the literal sense."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from service.app import create_app
from service.errors import error_classes
from service.settings import Settings

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(COMMITTED.read_text())
PROBLEM = "application/problem+json"

OPERATION_IDS = [
    "anomaly_score",
    "anomaly_score_version",
    "decode",
    "decode_version",
    "denoise",
    "denoise_version",
    "describe_model",
    "describe_model_version",
    "encode",
    "encode_version",
    "example",
    "interpolate",
    "interpolate_version",
    "list_models",
    "live",
    "metrics",
    "ready",
    "reconstruct",
    "reconstruct_version",
    "sample",
    "sample_version",
    "v2_index",
    "v2_infer",
    "v2_infer_version",
    "v2_live",
    "v2_load",
    "v2_model",
    "v2_model_ready",
    "v2_model_ready_version",
    "v2_model_version",
    "v2_ready",
    "v2_server",
    "v2_unload",
]


class Documented(NamedTuple):
    """One operation of the document."""

    path: str
    method: str
    content: dict[str, Any]

    def __str__(self) -> str:
        return str(self.content["operationId"])


OPERATIONS = [
    Documented(path, method, content)
    for path, methods in DOCUMENT["paths"].items()
    for method, content in methods.items()
]


def responses(operations: list["Documented"]) -> list[Any]:
    return [
        pytest.param(status, response, id=f"{operation} {status}")
        for operation in operations
        for status, response in operation.content["responses"].items()
    ]


RESPONSES = responses(OPERATIONS)
V1_RESPONSES = responses([operation for operation in OPERATIONS if not operation.path.startswith("/v2")])
V2_RESPONSES = responses([operation for operation in OPERATIONS if operation.path.startswith("/v2")])


def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def examples_of(media: dict[str, Any]) -> list[Any]:
    """The examples beside a schema, or within it, or within what it refers to."""
    if "examples" in media:
        return [example["value"] for example in media["examples"].values()]
    if "example" in media:
        return [media["example"]]
    name = media["schema"].get("$ref", "").rpartition("/")[2]
    return list(DOCUMENT["components"]["schemas"].get(name, media["schema"]).get("examples", []))


def test_the_committed_document_is_what_the_service_serves() -> None:
    current = create_app(Settings()).openapi()
    assert current == DOCUMENT, "the OpenAPI document has changed: run `make openapi` and look at the difference"
    assert create_app(Settings()).openapi() == current, "it does not depend on what was made before"


def test_operation_ids_are_unique_and_pinned_because_generated_clients_are_named_by_them() -> None:
    assert sorted(str(operation) for operation in OPERATIONS) == OPERATION_IDS


def test_the_document_is_openapi_3_1_relative_to_where_it_is_served() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["servers"] == [{"url": "/"}]
    assert DOCUMENT["info"]["title"] == "Diabolo"


def parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from parts(part)
    elif isinstance(value, list):
        for part in value:
            yield from parts(part)


def test_every_reference_leads_somewhere_and_every_schema_is_used_and_sound() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    references = {part["$ref"] for part in parts(DOCUMENT) if "$ref" in part}
    kinds = ("schemas", "headers")
    assert references == {f"#/components/{kind}/{name}" for kind in kinds for name in DOCUMENT["components"][kind]}
    for part in parts(DOCUMENT):
        if "schema" in part:
            jsonschema.Draft202012Validator.check_schema(part["schema"])
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_every_operation_is_described_and_its_path_parameters_declared(operation: Documented) -> None:
    content = operation.content
    assert content["summary"]
    assert content["description"]
    assert len(content["tags"]) == 1
    declared = {parameter["name"] for parameter in content.get("parameters", []) if parameter["in"] == "path"}
    assert declared == {part[1:-1] for part in operation.path.split("/") if part.startswith("{")}
    assert ("requestBody" in content) == (operation.method == "post")


@pytest.mark.parametrize("operation", [found for found in OPERATIONS if found.method == "post"], ids=str)
def test_every_request_has_an_example_that_is_valid_and_a_schema_that_refuses(operation: Documented) -> None:
    media = operation.content["requestBody"]["content"]["application/json"]
    examples = examples_of(media)
    assert examples
    for example in examples:
        validator(media["schema"]).validate(example)
        with pytest.raises(jsonschema.ValidationError, match="Additional properties"):
            validator(media["schema"]).validate({**example, "unknown": 1})
    if operation.content["requestBody"]["required"]:
        with pytest.raises(jsonschema.ValidationError, match="is a required property"):
            validator(media["schema"]).validate({})


@pytest.mark.parametrize(("status", "response"), RESPONSES)
def test_every_response_has_a_valid_example(status: str, response: dict[str, Any]) -> None:
    assert response["description"]
    checked = 0
    for name, media in response["content"].items():
        if "json" not in name:
            assert media["schema"] == {"type": "string", **({} if name == "text/plain" else {"format": "binary"})}
            checked += "example" in media
            continue
        for example in examples_of(media):
            validator(media["schema"]).validate(example)
            checked += 1
    assert checked, f"{status} has no example"


@pytest.mark.parametrize(("status", "response"), V1_RESPONSES)
def test_every_error_is_a_problem_document_of_its_status_and_nothing_else(
    status: str, response: dict[str, Any]
) -> None:
    if PROBLEM not in response["content"]:
        assert status == "200" or "ready" in json.dumps(response), "only readiness answers otherwise"
        return
    assert set(response["content"]) == {PROBLEM}
    known = {error.slug: error for error in error_classes()}
    titles = []
    for slug, example in response["content"][PROBLEM]["examples"].items():
        error = known[slug]
        assert example["value"]["type"] == f"/problems/{slug}"
        assert (example["value"]["title"], example["value"]["status"]) == (error.title, int(status))
        assert error.status == int(status)
        titles.append(error.title)
    assert response["description"] == " / ".join(titles)
    assert ("Retry-After" in response.get("headers", {})) == (status in {"429", "503"})


@pytest.mark.parametrize(("status", "response"), V2_RESPONSES)
def test_every_error_under_v2_is_the_protocols_own_and_of_its_status(status: str, response: dict[str, Any]) -> None:
    if status in {"200", "202"}:
        return
    media = response["content"]["application/json"]
    assert set(response["content"]) == {"application/json"}
    if media["schema"].get("$ref", "").endswith("/ServerReady"):
        return
    known = {error.slug: error for error in error_classes()}
    for slug, example in media["examples"].items():
        assert known[slug].status == int(status)
        assert list(example["value"]) == ["error"]
    assert response["description"] == " / ".join(known[slug].title for slug in media["examples"])


def test_every_error_of_the_table_is_declared_somewhere_but_for_those_outside_all_operations() -> None:
    known = {error.slug for error in error_classes()}
    declared = {
        slug
        for operation in OPERATIONS
        for response in operation.content["responses"].values()
        for media in response["content"].values()
        for slug in media.get("examples", {})
        if slug in known
    }
    outside = {"not-found", "method-not-allowed", "head-too-large", "malformed-request"}
    assert declared == known - outside
