"""The page at `/docs`, whose parts come from this service and from no other host."""

from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from service.api.pages import page_fields

__all__ = ["add_docs_page"]

STATIC = "/static-offline-docs"
# Swagger UI draws its icons from data, shows pictures that are answered, and calls the service where it is tried out.
LOADS = "; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'"


def add_docs_page(app: FastAPI) -> None:
    """From here on the app has the page. FastAPI's own takes its parts from a CDN; they are fastapi_offline's, whose
    own way to an app makes a plain FastAPI."""
    app.mount(STATIC, StaticFiles(directory=str(files("fastapi_offline") / "static")), name=STATIC[1:])

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            swagger_js_url=f"{root}{STATIC}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{STATIC}/swagger-ui.css",
            swagger_favicon_url=f"{root}{STATIC}/favicon.png",
            swagger_ui_parameters=app.swagger_ui_parameters,
        )
        page.headers.update(page_fields(bytes(page.body), loads=LOADS))
        return page
