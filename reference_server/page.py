"""The web page: served at `/`, its files under `/static` for as long as a browser likes to keep them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from reference_server.problems import Problem
from reference_server.resources import web_folder

_STATIC: Final = "/static"
_INDEX: Final = "index.html"


def add_page(app: web.Application) -> None:
    """Serve the page; a checkout in which it is not built yet serves everything else."""
    app.router.add_get("/", _index)
    app.router.add_get(_STATIC + "/{name:.+}", _file)
    app.on_response_prepare.append(_say_how_long_to_keep)


async def _index(_request: web.Request) -> web.StreamResponse:
    index = web_folder() / _INDEX
    if not index.is_file():
        raise Problem(404, "the web page is not built in this checkout; `make demo` or `make test` builds it")
    return web.FileResponse(index, headers={hdrs.CACHE_CONTROL: "no-cache"})


async def _file(request: web.Request) -> web.StreamResponse:
    """Serve a file; aiohttp's own way answers what is not there without a word."""
    folder = web_folder().resolve()
    file = (folder / request.match_info["name"].replace("\0", "")).resolve()
    if not file.is_relative_to(folder) or not file.is_file():
        raise web.HTTPNotFound
    return web.FileResponse(file)


async def _say_how_long_to_keep(request: web.Request, response: web.StreamResponse) -> None:
    """A file's name holds the digest of its content: what is under this name never changes."""
    if request.path.startswith(f"{_STATIC}/") and response.status == HTTPStatus.OK:
        response.headers.setdefault(hdrs.CACHE_CONTROL, "public, max-age=31536000, immutable")


__all__ = ["add_page"]
