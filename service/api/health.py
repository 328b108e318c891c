"""Health, for those who restart and those who route."""

from collections.abc import Callable

from fastapi import APIRouter, Response

from service.api.catalog_schemas import Live, Ready
from service.engine.administration import Administration
from service.engine.repository import Repository

__all__ = ["health_router"]

NOT_NOW = "Not now: starting, draining, or a bundle is not served"
LOADING = {
    "ready": False,
    "draining": False,
    "scanned": True,
    "serving": ["pumps/2"],
    "unserved": ["pumps"],
    "faults": {"pumps/2": "a forward pass has not come back for more than 30 s"},
    "unmet": {},
    "revision": 0,
    "problem": "desired.json is wrong: Invalid JSON: expected value at line 1 column 1",
}


def health_router(repository: Repository, administration: Administration, draining: Callable[[], bool]) -> APIRouter:
    """`/livez`: restart me unless it answers. `/readyz`: send traffic while it says 200."""
    router = APIRouter(tags=["health"])

    @router.get("/livez", operation_id="live", summary="Does the process answer?")
    async def live() -> Live:
        """Touches no bundle, so it answers while all of them are busy."""
        return Live(live=True)

    @router.get(
        "/readyz",
        operation_id="ready",
        summary="Should traffic be sent here?",
        responses={
            503: {"model": Ready, "description": NOT_NOW, "content": {"application/json": {"example": LOADING}}}
        },
    )
    async def ready(response: Response) -> Ready:
        """True once the folder has been gone through and while every name in it has a version that answers. A forward
        pass that does not come back for `DIABOLO_STALL_SECONDS` makes it false until it does."""
        state = Ready(
            ready=repository.ready and not draining(),
            draining=draining(),
            scanned=repository.scanned,
            serving=[model.label for model in repository.answering()],
            unserved=repository.unserved,
            faults={model.label: why for model in repository.loaded.values() if (why := model.batcher.fault)},
            unmet={name: why for name, why in repository.unmet.items() if name in repository.wanted.models},
            revision=administration.revision,
            problem=administration.problem,
        )
        response.status_code = 200 if state.ready else 503
        return state

    return router
