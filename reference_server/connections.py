"""Connections: what comes on one is read by aiohttp; what is no HTTP gets the one error body, too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

from reference_server.limits import Visitor
from reference_server.problems import DETAILS, problem_response
from sungrow_lib.logs import CONTEXT

_LOG: Final = logging.getLogger(__name__)
_ACCESS: Final = logging.getLogger("reference_server.access")
_TITLES: Final = {400: "Not HTTP"}
_PROBLEM: Final = 400
"""The least status that tells of one."""
_LONG_S: Final = 1.0
_AHEAD_BYTES: Final = 2**16
"""Of a body that nobody reads yet; it may be twice as many."""


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
                "request_id": CONTEXT.get().get("request_id"),
                "method": request.method,
                "path": request.rel_url.raw_path,
                "status": response.status,
                "duration_ms": round(time * 1000, 1),
                "bytes_in": request.content_length or 0,
                "bytes_out": response.body_length,
                "remote": _client(request),
            },
        )


class ProblemLogger(AccessLogger):
    """The same for what went wrong or took long: a fleet's readings alone are thousands of lines a second."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the line if there is anything to tell."""
        if response.status >= _PROBLEM or time >= _LONG_S:
            super().log(request, response, time)


def _client(request: web.BaseRequest) -> str | None:
    """Return who asked, as limits believe: behind trusted proxies that is not who connected."""
    connection = request.protocol
    visitor = connection.visitor if isinstance(connection, Connection) else None
    return request.remote if visitor is None else visitor.remote


LOGGERS: Final[Mapping[str, type[AccessLogger]]] = {"all": AccessLogger, "problems": ProblemLogger}
"""What writes the lines, by the setting `ACCESS_LOG`."""


class Connection(web.RequestHandler):
    """A connection of a client.

    Attributes:
        credentials: what its last request had to say of who sends it.
        visitor: who that was; None where that cannot be read.
    """

    __slots__ = ("credentials", "visitor")

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self.credentials: object = None
        self.visitor: Visitor | None = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what never reached a handler; the connection ends."""
        del message  # it may repeat a header
        self.visitor = None  # of the request before; behind a proxy that may be somebody else's
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was begun; there can be no other")
        if isinstance(exc, HttpProcessingError):
            _LOG.info("no HTTP", extra={"remote": request.remote, "error": type(exc).__name__})
        else:
            self.log_exception("request failed", exc_info=exc)
        status = status if status in DETAILS else web.HTTPBadRequest.status_code
        response = problem_response(status, DETAILS[status], title=_TITLES.get(status))
        response.force_close()
        return response


class Connections(web.Server):
    """Makes connections; bodies are decompressed by us, within our limits.

    Args:
        answer: answers what comes on them.
        largest: bytes of the largest body.
        logger: what writes a line for each request.
    """

    def __init__(
        self,
        answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        largest: int,
        logger: type[AccessLogger] = AccessLogger,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._options: dict[str, Any] = {
            "loop": loop,
            "access_log_class": logger,
            "access_log": _ACCESS,
            "auto_decompress": False,
            "read_bufsize": _AHEAD_BYTES,
        }
        super().__init__(answer, request_factory=partial(web.BaseRequest, loop=loop, client_max_size=largest))

    def __call__(self) -> Connection:
        """Make one; asyncio asks for it."""
        return Connection(self, **self._options)
