"""`GET /metrics`, for Prometheus."""

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from service.monitoring.exposition import exposed
from service.monitoring.metrics import Metrics
from service.monitoring.snapshot import Snapshot

__all__ = ["metrics_router"]

EXAMPLE = """# HELP diabolo_model_ready 1 where a version of the name can answer, in every process
# TYPE diabolo_model_ready gauge
diabolo_model_ready{model="pumps"} 1.0
"""


def metrics_router(metrics: Metrics, own: Callable[[], Snapshot]) -> APIRouter:
    """The numbers of this process, which `own` gives, with those of all that serve with it."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/metrics",
        operation_id="metrics",
        summary="What Prometheus reads",
        response_class=Response,
        responses={
            200: {
                "description": "All metrics, of all worker processes; OpenMetrics where that is preferred",
                "content": {"text/plain": {"schema": {"type": "string"}, "example": EXAMPLE}},
            }
        },
    )
    async def read(request: Request) -> Response:
        """Counters are exact but for the last quarter of a second of other workers, which is lost where one is killed.
        Label values are names of bundles, routes and reasons that there are, never what clients wrote."""
        found = await metrics.together(own())
        text, media = await asyncio.to_thread(exposed, found, request.headers.get("accept", ""))
        return Response(text, media_type=media, headers={"Cache-Control": "no-store"})

    return router
