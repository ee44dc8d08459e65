"""The aiohttp application: routes, error answers, access log, background work."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from itertools import count
from time import monotonic
from typing import Final

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from reference_server import handlers
from reference_server.ending import end
from reference_server.metrics import CONTENT_TYPE
from reference_server.operations import OPERATIONS, route
from reference_server.page import add_page
from reference_server.problems import Problem, not_now, problem_response
from reference_server.server import SERVER, Server
from reference_server.storage.errors import StorageUnavailableError
from sungrow_lib._version import __version__
from sungrow_lib.logs import CONTEXT

_LOG: Final = logging.getLogger(__name__)
_ACCESS: Final = logging.getLogger("reference_server.access")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Server": f"sungrow-server/{__version__}",
}
REQUEST_ID: Final = web.RequestKey("request_id", str)
"""Where a request keeps its id: the client's or the proxy's `X-Request-ID`, else a new one."""
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_WATCH_S: Final = 5.0
_TIDY_S: Final = 10.0
"""More than the driver takes to give a statement up."""
_TITLES: Final = {400: "Not HTTP"}
_IS_KEEPER: Final = web.AppKey("is_keeper", bool)
_DETAILS: Final = {
    400: "this is no HTTP request the server can read, or a header is longer than 8190 bytes",
    500: "the server failed at this request; its log says why",
    404: "there is nothing at this address; see /openapi.json",
    405: "this address takes other methods; see the header Allow",
    413: "the body is too large; send smaller batches",
}


class AccessLogger(AbstractAccessLogger):
    """One line for each request: never a header, never a body, so never a token."""

    @property
    def enabled(self) -> bool:
        """Whether anybody wants the lines."""
        return _ACCESS.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the line."""
        _ACCESS.info(
            "request",
            extra={
                "request_id": request.get(REQUEST_ID),
                "method": request.method,
                "path": request.rel_url.raw_path,
                "status": response.status,
                "duration_ms": round(time * 1000, 1),
                "bytes_in": request.content_length or 0,
                "bytes_out": response.body_length,
                "remote": request.remote,
            },
        )


class _RequestIds:
    """Makes names for requests that have none: nobody finds the same twice, and the next one is no secret."""

    def __init__(self) -> None:
        self._process = secrets.token_hex(4)
        self._numbers = count(secrets.randbits(31))

    def __next__(self) -> str:
        return f"{self._process}{next(self._numbers):08x}"


_NEW_IDS: Final = _RequestIds()


@web.middleware
async def _counted(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Name every request, count every answer, and turn everything that goes wrong into the one error body.

    One function and not one for each: a middleware costs as much as a handler.
    """
    began = monotonic()
    given = request.headers.get("X-Request-ID")
    name = given if given is not None and _REQUEST_ID.fullmatch(given) else next(_NEW_IDS)
    request[REQUEST_ID] = name
    CONTEXT.set({"request_id": name})
    response = await _answer(request, handler)
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else "other"
    request.app[SERVER].metrics.answered(request.method, path, response.status, monotonic() - began)
    return response


async def _answer(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        if error.status < web.HTTPBadRequest.status_code:
            raise
        allow = error.headers.get("Allow")
        headers = {"Allow": allow} if allow else None
        return problem_response(error.status, _DETAILS.get(error.status, error.reason), headers=headers)
    except StorageUnavailableError as error:
        _LOG.warning("the database cannot be used now", extra={"error": str(error)})
        return not_now(f"{str(error).rstrip('.')}; nothing of this request is known to be stored").response()
    except Exception:  # noqa: BLE001 - whatever it is, the answer is a problem without details
        _LOG.exception("request failed", extra={"method": request.method, "path": request.path})
        return problem_response(500, _DETAILS[500])


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    headers = response.headers
    if (name := request.get(REQUEST_ID)) is not None:
        headers["X-Request-ID"] = name
    headers.update(_SECURITY_HEADERS)
    if request.app[SERVER].stopping.is_set():  # whatever comes next is for another server
        headers[hdrs.CONNECTION] = "close"
        response.force_close()


async def _background(app: web.Application) -> AsyncIterator[None]:
    """Open the database and do the background work for as long as the application runs."""
    server = app[SERVER]
    await server.database.open()
    shared = (server.refresher, server.retention) if app[_IS_KEEPER] else ()
    tasks = [asyncio.create_task(work.run()) for work in (server.live, *shared)]
    tasks.append(asyncio.create_task(_watch(server)))
    yield
    await end(tasks, again_s=_TIDY_S)
    await server.database.close()
    for task in tasks:
        if not task.cancelled():
            task.result()  # it ended before its time: say why


async def _watch(server: Server) -> None:
    """Say what the database is once it answers, and keep the metrics of this process fresh."""
    engine = None
    while True:
        if engine is None:
            with suppress(StorageUnavailableError):
                engine = await server.database.engine()
                _LOG.info("database", extra=handlers.described(engine).model_dump())
        server.metrics.connections(server.database.pool())
        if server.refresher.refreshed_at is not None:
            server.metrics.refreshed(server.refresher.refreshed_at)
        await asyncio.sleep(_WATCH_S)


async def _end_streams(app: web.Application) -> None:
    app[SERVER].stopping.set()
    app[SERVER].live.end_all()


def make_app(server: Server, *, is_keeper: bool = True) -> web.Application:
    """Make the application; it opens the database when it starts and closes it when it ends.

    Args:
        server: what answers.
        is_keeper: whether it keeps the rollups fresh and drops old readings, which one process does for all.
    """
    app = web.Application(middlewares=[_counted], client_max_size=server.settings.max_request_bytes)
    app[SERVER] = server
    app[_IS_KEEPER] = is_keeper
    app.cleanup_ctx.append(_background)
    app.on_shutdown.append(_end_streams)
    app.on_response_prepare.append(_add_headers)
    for op in OPERATIONS:
        app.router.add_route(op.method, op.path, route(op))
        if op.method == hdrs.METH_GET:
            app.router.add_route(hdrs.METH_HEAD, op.path, route(op))
    add_page(app)
    return app


def make_metrics_runner(server: Server) -> web.AppRunner:
    """Make what shows `/metrics`, and nothing else, without a token."""

    async def show(_request: web.Request) -> web.Response:
        text = await server.metrics.text(server.clock())
        return web.Response(body=text, content_type=CONTENT_TYPE, charset="utf-8")

    app = web.Application()
    app.router.add_get("/metrics", show)
    return web.AppRunner(app, access_log=None, handle_signals=False)


class _ProblemHandler(RequestHandler):
    """A connection on which also what is no HTTP is answered with the one error body."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what never reached the application; the connection ends."""
        del message  # it may repeat a header
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was begun; there can be no other")
        if isinstance(exc, HttpProcessingError):
            _LOG.info("no HTTP", extra={"remote": request.remote, "error": type(exc).__name__})
        else:
            self.log_exception("request failed", exc_info=exc)
        status = status if status in _DETAILS else web.HTTPBadRequest.status_code
        response = problem_response(
            status, _DETAILS[status], headers=_SECURITY_HEADERS, title=_TITLES.get(status)
        )
        response.force_close()
        return response


class _ProblemServer(web.Server):
    """Makes such connections."""

    def __call__(self) -> _ProblemHandler:
        return _ProblemHandler(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    """Runs the application on such connections; aiohttp has no public way to say so."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _ProblemServer(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,  # noqa: SLF001 - as above
            **made._kwargs,  # noqa: SLF001
        )


def make_runner(server: Server, *, is_keeper: bool = True) -> web.AppRunner:
    """Make what serves the application; bodies are decompressed by us, within our limits."""
    return _Runner(
        make_app(server, is_keeper=is_keeper),
        access_log_class=AccessLogger,
        access_log=_ACCESS,
        auto_decompress=False,
        handle_signals=False,
        shutdown_timeout=10.0,
    )
