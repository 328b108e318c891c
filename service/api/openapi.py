"""The OpenAPI document: FastAPI's, put right where FastAPI cannot be told."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from service.api.problems import MEDIA_TYPE

__all__ = ["correct_openapi", "json_body"]

UNUSED_SCHEMAS = ("HTTPValidationError", "ValidationError")
FIELDS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "the request's own, where that was well formed, or a new one",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    },
    "WWW-Authenticate": {"description": "how to say who asks", "required": True, "schema": {"type": "string"}},
}


def correct_openapi(app: FastAPI, *, keys: bool) -> None:
    """From here on the app's document says that errors are problem documents, and nothing of FastAPI's own errors; and,
    unless there are `keys`, that what anybody may do needs none."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas = document["components"]["schemas"]
            for operations in document["paths"].values():
                for operation in operations.values():
                    operation["responses"] = _responses(operation["responses"])
                    for status, response in operation["responses"].items():
                        names = ["X-Request-ID", *(["WWW-Authenticate"] if status == "401" else [])]
                        fields = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
                        response["headers"] = fields | response.get("headers", {})
                    ways = operation.get("security", [])
                    if ways and not keys and all(["admin"] not in way.values() for way in ways):
                        operation["security"] = [{}, *ways]
                    for media in operation.get("requestBody", {}).get("content", {}).values():
                        schemas |= media["schema"].pop("$defs", {})
            document["components"]["headers"] = FIELDS
            for name in UNUSED_SCHEMAS:
                schemas.pop(name, None)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def json_body(schema: type[BaseModel], *, required: bool, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """The request body of an operation that reads it by itself: this schema, with its first example."""
    described = schema.model_json_schema(ref_template="#/components/schemas/{model}")
    example = described.pop("examples")[0]
    return {
        "required": required,
        "content": {"application/json": {"schema": described, "example": example}, **(more or {})},
    }


def _responses(responses: dict[str, Any]) -> dict[str, Any]:
    """The same responses by status, without FastAPI's validation error, and errors of one media type only."""
    found = {}
    for status, response in sorted(responses.items()):
        content = response["content"]
        if MEDIA_TYPE in content:
            content = {MEDIA_TYPE: {**content.pop("application/json"), **content[MEDIA_TYPE]}}
        elif status == "422" and not any("examples" in media for media in content.values()):
            continue
        found[status] = {**response, "content": content}
    return found
