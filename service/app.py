"""The composition root: everything is built here, from the settings, and nothing at import."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, Security
from fastapi.responses import RedirectResponse

from bundle.read import Bundle, read_bundle
from service.api.access_log import AccessLog
from service.api.aside import Aside
from service.api.auth import ACCESS_ERRORS, ADMIN_ERRORS, Guard
from service.api.bodies import Bodies
from service.api.catalog import catalog_router
from service.api.compression import Compression
from service.api.cors import allow_origins
from service.api.direct import DirectApp, DirectRoute
from service.api.docs_page import add_docs_page
from service.api.health import health_router
from service.api.metrics import metrics_router
from service.api.observation import Observer
from service.api.openapi import correct_openapi
from service.api.operations import operations_router
from service.api.problems import failure_responses, handle_problems, problem_responses
from service.api.problems import router as problems_router
from service.api.request_id import RequestId
from service.api.v2.repository import administration_router, index_router
from service.api.v2.routes import v2_health_router, v2_router
from service.engine.administration import Administration
from service.engine.loaded import LoadedModel, Proven
from service.engine.memory import share_one_arena
from service.engine.repository import Repository
from service.engine.runtimes import OpenRuntime
from service.engine.runtimes.selection import runtime_opener
from service.keys import KeyScope
from service.monitoring.metrics import Metrics
from service.monitoring.snapshot import Snapshot
from service.monitoring.tracing import FLUSH_SECONDS, exporters_asked_for, start_tracing
from service.settings import Settings

__all__ = ["StrictRefusal", "create_app"]

ACKNOWLEDGE_SECONDS = 5.0
# FastAPI's own would see half of the requests, and tell their queries.
NO_TELEMETRY = dict.fromkeys(("auto_configure", "tracing", "metrics", "logs"), False)
logger = logging.getLogger("diabolo")

DESCRIPTION = """Autoencoders over HTTP. Start with `GET /v1/models`; `GET /v1/models/{name}/examples/0` gives a row to
try. Inputs are rows, as JSON, `.npy`, or one picture as PNG or JPEG; answers come as JSON, `.npy` or PNG, by `Accept`.
Where the body is no JSON, parameters go into the query. Errors are problem documents (RFC 9457)."""


class StrictRefusal(Exception):
    """A bundle was refused at start, and the settings make that fatal."""


def create_app(settings: Settings, *, open_runtime: OpenRuntime | None = None) -> FastAPI:
    """The service as an ASGI app. Its lifespan starts the loading of bundles in the background and closes them.

    `open_runtime` opens a bundle's program; by default in the runtime and on the device of the settings. Starting
    raises StrictRefusal where `strict` is set and a bundle is refused, and KeyFileDamaged where the file of keys is.
    """
    share_one_arena()  # before a runtime is imported, which starts threads
    metrics = Metrics()
    repository = Repository(
        settings.models_dir,
        open_runtime=open_runtime or runtime_opener(settings.runtime, device=settings.device),
        make_loaded=lambda proven: _load(proven, settings, metrics),
        drain_seconds=settings.drain_seconds,
        read=signed_reader(settings),
    )

    administration = Administration(repository, settings.state_dir, patience_seconds=ACKNOWLEDGE_SECONDS)
    guard = Guard(settings.api_keys_file)
    stopping = asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await guard.start()
        if settings.strict:
            await administration.follow()
            if not administration.known:
                raise StrictRefusal(f"{administration.problem}, and DIABOLO_STRICT is set")
            await repository.refresh()
            if repository.refused:
                raise StrictRefusal(f"{len(repository.refused)} bundles were refused and DIABOLO_STRICT is set")
        watches = [
            asyncio.create_task(administration.watch(settings.poll_seconds)),
            asyncio.create_task(guard.watch(settings.poll_seconds)),
        ]
        publishing = asyncio.create_task(metrics.publish(own))
        tracing = start_tracing()
        if tracing is not None:
            from service.api.spans import Spans

            observer.trace(Spans(tracing))
        yield
        app.state.draining = True
        stopping.set()
        for watch in watches:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        administration.close()
        await repository.close()
        publishing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await publishing
        if tracing is not None:
            await tracing.close(FLUSH_SECONDS)

    app = DirectApp(
        title="Diabolo",
        version=version("diabolo"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": "/"}],
        lifespan=lifespan,
        swagger_ui_parameters={"tryItOutEnabled": True},
        telemetry=NO_TELEMETRY,
    )
    app.state.repository = repository
    app.state.administration = administration
    app.state.draining = False
    app.state.stopping = stopping
    aside = Aside()
    bodies = Bodies(
        max_bytes=settings.max_body_bytes,
        max_held_bytes=settings.max_bodies_bytes,
        seconds=settings.receive_seconds,
        expected_seconds=aside.expected_seconds,
    )
    app.state.bodies = bodies
    app.state.metrics = metrics

    def own() -> Snapshot:
        return metrics.own(repository, bodies, ready=repository.ready and not app.state.draining)

    operations = operations_router(repository, settings, bodies=bodies, aside=aside, stopping=stopping)
    inference = v2_router(repository, settings, bodies=bodies, aside=aside)
    direct = [route for route in (*operations.routes, *inference.routes) if isinstance(route, DirectRoute)]
    app.shorten(
        direct,
        compress_bytes=settings.compress_bytes,
        bodies=bodies,
        timeout_ms=settings.request_timeout_ms,
        guard=guard,
    )
    if settings.compress_bytes:
        app.add_middleware(Compression, min_bytes=settings.compress_bytes)
    app.add_middleware(RequestId)
    if settings.cors_origins:
        allow_origins(app, settings.cors_origins)
    handle_problems(app)
    infer, admin = (Security(guard, scopes=[scope]) for scope in (KeyScope.INFER, KeyScope.ADMIN))
    for router in (operations, catalog_router(repository)):
        app.include_router(router, dependencies=[infer], responses=problem_responses(*ACCESS_ERRORS))
    app.include_router(health_router(repository, administration, lambda: bool(app.state.draining)))
    app.include_router(v2_health_router(repository, lambda: bool(app.state.draining)))
    for router in (inference, index_router(repository, bodies=bodies)):
        app.include_router(router, dependencies=[infer], responses=failure_responses(*ACCESS_ERRORS))
    administrative = administration_router(repository, administration, bodies=bodies)
    app.include_router(administrative, dependencies=[admin], responses=failure_responses(*ADMIN_ERRORS))
    log = AccessLog(share=settings.log_share, slow_seconds=settings.log_slow_ms / 1000)
    observer = Observer(metrics.traffic if settings.metrics else None, log)
    if settings.metrics or settings.log_level != "error" or exporters_asked_for():
        app.observe(observer)
    if settings.metrics:
        app.include_router(
            metrics_router(metrics, own),
            dependencies=[Security(guard, scopes=[KeyScope.METRICS])],
            responses=problem_responses(*ACCESS_ERRORS),
        )
    app.include_router(problems_router)

    add_docs_page(app)
    correct_openapi(app, keys=guard.has_keys)

    @app.get("/", include_in_schema=False)
    async def home() -> RedirectResponse:
        return RedirectResponse("docs")

    return app


def signed_reader(settings: Settings) -> Callable[[Path], Bundle] | None:
    """What reads bundles that have to be signed; None where they need not be. Raises KeyUnusable, or
    ModuleNotFoundError where the extra `signing` is not installed."""
    if settings.require_signature is None:
        return None
    from service.engine.signatures import require_signature

    return partial(read_bundle, check_signature=require_signature(settings.require_signature))


def _load(proven: Proven, settings: Settings, metrics: Metrics) -> LoadedModel:
    manifest = proven.bundle.manifest
    return LoadedModel(
        proven,
        max_batch_rows=settings.max_batch_rows,
        max_pending_rows=settings.max_pending_rows,
        max_pending_bytes=settings.max_pending_bytes,
        stall_seconds=settings.stall_seconds,
        inline_seconds=settings.inline_ms / 1000,
        tally=metrics.tally(manifest.name, manifest.version),
    )
