"""What is served: the list of bundles, each in full, and a few rows of theirs to try."""

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from bundle.manifest import Manifest
from bundle.operations import Operation
from service.api.catalog_schemas import ModelDescription, ModelList
from service.api.media import Media, answer_media
from service.api.problems import problem_responses
from service.api.schemas import Examples
from service.codecs.images import png_from_rows
from service.engine.loaded import LoadedModel
from service.engine.repository import Repository
from service.errors import (
    ModelLoading,
    NotAcceptable,
    PinnedVersionUnavailable,
    UnknownExample,
    UnknownModel,
    UnknownVersion,
)

__all__ = ["catalog_router"]


def catalog_router(repository: Repository) -> APIRouter:
    """The catalog of what this repository serves."""
    router = APIRouter(prefix="/v1/models", tags=["catalog"])
    unknown = problem_responses(UnknownModel, UnknownVersion, ModelLoading, PinnedVersionUnavailable)

    @router.get("", operation_id="list_models", summary="Every bundle, in short", responses={200: {"model": ModelList}})
    async def list_models() -> Response:
        """Every bundle by the version that answers, the versions that were refused, and what was unloaded."""
        models = [_summary(model, repository) for model in repository.answering()]
        unloaded = sorted({name for name, _ in repository.unloaded})
        return _json({"models": models, "refused": _refused(repository), "unloaded": unloaded})

    @router.get(
        "/{name}",
        operation_id="describe_model",
        summary="One bundle in full",
        responses={200: {"model": ModelDescription}, **unknown},
    )
    async def describe(name: str) -> Response:
        """What the version that answers takes and does, how it was calibrated, how good it is, where it came from."""
        return _json(_description(repository.get(name), repository))

    @router.get(
        "/{name}/versions/{version}",
        operation_id="describe_model_version",
        summary="One version of a bundle in full",
        responses={200: {"model": ModelDescription}, **unknown},
    )
    async def describe_version(name: str, version: str) -> Response:
        """The same of a named version."""
        return _json(_description(repository.get(name, version), repository))

    @router.get(
        "/{name}/examples/{index}",
        operation_id="example",
        summary="A row to try the bundle with",
        response_class=Response,
        responses={
            200: {
                "model": Examples,
                "description": "A row, ready to be posted back",
                "content": {Media.PNG.value: {"schema": {"type": "string", "format": "binary"}}},
            },
            **problem_responses(UnknownModel, UnknownExample, NotAcceptable, ModelLoading, PinnedVersionUnavailable),
        },
    )
    async def example(request: Request, name: str, index: str) -> Response:
        """Row `index` of the bundle's golden probe, unseen in training, as JSON or as a picture by `Accept`."""
        model = repository.get(name)
        count = len(model.golden.inputs)
        if index not in map(str, range(count)):
            raise UnknownExample(f"{name} carries {count} examples, counted from 0; there is no {index[:20]!r}")
        row = model.golden.inputs[int(index)][None]
        image, value_range = model.manifest.input.image, model.manifest.input.range
        possible = (Media.JSON, Media.PNG) if image else (Media.JSON,)
        headers = {"Vary": "Accept", "Diabolo-Model": name, "Diabolo-Version": str(model.manifest.version)}
        if answer_media(request.headers.get("accept"), possible=possible) is Media.JSON:
            return _json({"inputs": row}, headers)
        assert image is not None
        assert value_range is not None
        return Response(png_from_rows(row, spec=image, value_range=value_range), headers=headers, media_type=Media.PNG)

    return router


def _summary(model: LoadedModel, repository: Repository) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "name": manifest.name,
        "family": manifest.family,
        "version": manifest.version,
        "versions": repository.versions(manifest.name),
        "pinned": repository.wanted.of(manifest.name).pinned,
        "description": manifest.description,
        "operations": [operation.path for operation in manifest.operations],
        "input": manifest.input.model_dump(mode="json"),
        "latent": manifest.latent.model_dump(mode="json"),
        "digest": model.digest,
    }


def _description(model: LoadedModel, repository: Repository) -> dict[str, Any]:
    manifest = model.manifest
    calibration = None
    if model.calibration is not None and manifest.calibration is not None:
        calibration = {
            **manifest.calibration.model_dump(mode="json"),
            "smallest_alpha": model.calibration.smallest_p_value,
            "thresholds": {
                str(alpha): model.calibration.threshold(alpha)
                for alpha in (0.001, 0.01, 0.05, 0.1)
                if alpha >= model.calibration.smallest_p_value
            },
        }
    return {
        **_summary(model, repository),
        "accepts": _accepts(manifest),
        "score": manifest.score.model_dump(mode="json"),
        "calibration": calibration,
        "metrics": manifest.metrics,
        "hyper_parameters": manifest.hyper_parameters,
        "provenance": manifest.provenance.model_dump(mode="json"),
        "device": model.device,
        "golden_error": model.golden_error,
        "load_seconds": round(model.load_seconds, 3),
        "examples": len(model.golden.inputs),
        "refused": [refusal for refusal in _refused(repository) if refusal["name"] == manifest.name],
    }


def _accepts(manifest: Manifest) -> dict[str, Any]:
    """The media types of inputs and the shapes that a row may have."""
    image = manifest.input.image
    shapes = [[manifest.input.size]]
    if image is not None:
        shapes.append([image.height, image.width, *([image.channels] if image.channels > 1 else [])])
    media = [Media.JSON, Media.NPY, *((Media.PNG, Media.JPEG) if image else ())]
    return {"media_types": media, "row_shapes": shapes, "dtype": "float32", "paths": _paths(manifest)}


def _paths(manifest: Manifest) -> dict[str, str]:
    return {
        operation.value: f"/v1/models/{manifest.name}/{operation.path}"
        for operation in map(Operation, manifest.operations)
    }


def _refused(repository: Repository) -> list[dict[str, Any]]:
    return [
        {"name": refusal.name, "version": refusal.version, "reason": refusal.reason, "detail": refusal.detail}
        for _, refusal in sorted(repository.refused.items())
    ]


def _json(document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    content = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, headers=headers, media_type="application/json")
