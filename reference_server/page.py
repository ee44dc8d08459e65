"""The web page: served at `/`, its files under `/static` for as long as a browser likes to keep them."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import hdrs, web

from reference_server.answers import File, LastingFile
from reference_server.handlers import Call
from reference_server.problems import DETAILS, Problem
from reference_server.resources import web_folder
from reference_server.server import Server

FILES: Final = "/static/"
_INDEX: Final = "index.html"


async def index(server: Server, call: Call[Any]) -> web.StreamResponse:
    """Show the page; a checkout in which it is not built yet serves everything else."""
    del server, call
    file = web_folder() / _INDEX
    if not file.is_file():
        raise Problem(404, "the web page is not built in this checkout; `make demo` or `make test` builds it")
    return File(file, headers={hdrs.CACHE_CONTROL: "no-cache"})


async def static(server: Server, call: Call[Any]) -> web.StreamResponse:
    """Send a file; aiohttp's own way answers what is not there without a word."""
    del server
    folder = web_folder().resolve()
    file = (folder / call.request.path.removeprefix(FILES).replace("\0", "")).resolve()
    if not file.is_relative_to(folder) or not file.is_file():
        raise Problem(404, DETAILS[404])
    return LastingFile(file)
