"""The page that documents the API, with scripts of our own: the framework's come from elsewhere."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse

router = APIRouter(include_in_schema=False)

_SCRIPT, _STYLE, _ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"
#: Where the page and its files are.
PATHS = ("/docs", *(f"/docs/{name}" for name in (_SCRIPT, _STYLE, _ICON)))


@router.get(PATHS[0])
async def page(request: Request) -> HTMLResponse:
    """The page itself."""
    root = request.scope.get("root_path", "").rstrip("/")
    return get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="Voxsight's API",
        swagger_js_url=f"{root}/docs/{_SCRIPT}",
        swagger_css_url=f"{root}/docs/{_STYLE}",
        swagger_favicon_url=f"{root}/docs/{_ICON}",
    )


async def _file(request: Request) -> FileResponse:
    """Swagger UI's file of that name, out of the package that carries it."""
    name = Path(request.url.path).name
    return FileResponse(Path(str(files("fastapi_swagger.resources").joinpath(name))))


for _path in PATHS[1:]:
    router.add_api_route(_path, _file, response_class=FileResponse)
