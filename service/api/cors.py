"""Pages of other origins: which of them may call the service, and with what (Fetch Standard, CORS protocol)."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware

from service.api.direct import DirectApp

__all__ = ["allow_origins"]

SENT = ("Accept", "Authorization", "Content-Type", "Inference-Header-Content-Length", "Request-Timeout-Ms")
KEPT_SECONDS = 600


def allow_origins(app: DirectApp, origins: Sequence[str]) -> None:
    """From here on browsers let pages of these origins call the app and read its answers; keys are sent as fields,
    never as cookies."""
    app.has_cors = True
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=[*SENT, "X-API-Key", "X-Request-ID"],
        expose_headers=["*"],
        max_age=KEPT_SECONDS,
    )
