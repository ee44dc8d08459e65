"""The one way that every request goes: its name, who asks, what is asked, the answer, and what is counted."""

from __future__ import annotations

import logging
import re
import secrets
from itertools import count
from time import monotonic
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel, ValidationError

from reference_server.answers import IS_LAST, X_REQUEST_ID, Answer, json_bytes
from reference_server.auth import Principal
from reference_server.handlers import Call, login, visitor_of
from reference_server.limits import Visitor
from reference_server.problems import DETAILS, Problem, not_now, problem_response
from reference_server.queries import check_names
from reference_server.routes import Route, route_of
from reference_server.server import NOBODY, Server
from reference_server.storage.errors import StorageUnavailableError
from sungrow_lib.logs import CONTEXT

_LOG: Final = logging.getLogger(__name__)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OTHER: Final = "other"
"""The path that requests count under which no route is for: anybody may think of any number of them."""
_MOST_KNOWN: Final = 256


class _RequestIds:
    """Makes names for requests that have none: nobody finds the same twice, and the next one is no secret."""

    def __init__(self) -> None:
        self._process = secrets.token_hex(4)
        self._numbers = count(secrets.randbits(31))

    def __next__(self) -> str:
        return f"{self._process}{next(self._numbers):08x}"


class Front:
    """Answers requests, whatever becomes of them.

    Args:
        server: the parts that do the work.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._new_ids = _RequestIds()
        self._known: dict[tuple[str, str], tuple[Route, BaseModel]] = {}

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Name a request, count its answer, and turn everything that goes wrong into the one error body."""
        began = monotonic()
        name = request.headers.get(X_REQUEST_ID)
        if name is None or not _REQUEST_ID.fullmatch(name):
            name = next(self._new_ids)
        CONTEXT.set({"request_id": name})
        stopping = self._server.stopping
        if stopping.is_set():
            request[IS_LAST] = True
        path = _OTHER
        try:
            visitor = visitor_of(self._server, request)  # first: the log names it, come what may
            known = self._known.get((request.method, request.raw_path))
            route = known[0] if known else route_of(request.method, request.rel_url.path_safe)
            path = route.path
            response = await self._answered(request, visitor, route, known and known[1])
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is a problem
            response = _failure(request, error)
        if stopping.is_set():  # whatever comes next is for another server
            response.force_close()
        self._server.metrics.answered(request.method, path, response.status, monotonic() - began)
        return response

    async def _answered(
        self, request: web.BaseRequest, visitor: Visitor, route: Route, query: BaseModel | None
    ) -> web.StreamResponse:
        server, principal = self._server, NOBODY
        if route.scopes:
            principal = server.authenticator.remembered(visitor.token) or await login(server, visitor)
            self._admit(visitor, principal, route)
        call: Call[Any] = Call(request, visitor, principal, query or self._checked(request, route))
        answer = await route.handler(server, call)
        return answer if isinstance(answer, web.StreamResponse) else Answer(json_bytes(answer))

    def _admit(self, visitor: Visitor, principal: Principal, route: Route) -> None:
        if route.is_counted_by_body:
            self._server.guard.body(visitor)
        else:
            self._server.guard.request(visitor)
        if principal.scopes.isdisjoint(route.scopes):
            raise Problem(403, f"this token lacks the scope {' or '.join(route.scopes)}")

    def _checked(self, request: web.BaseRequest, route: Route) -> BaseModel:
        """Check a query; the same one is asked again and again, and models of queries do not change."""
        try:
            check_names(route.query, [name for name, _ in request.query.items()])
            query = route.query.model_validate(dict(request.query))
        except ValidationError as error:
            raise Problem.wrong_content(error) from None
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[request.method, request.raw_path] = route, query
        return query


def _failure(request: web.BaseRequest, error: Exception) -> Answer:
    """Make the answer to what went wrong, without details of what nobody foresaw."""
    if isinstance(error, Problem):
        return error.response()
    if isinstance(error, web.HTTPError):
        return problem_response(error.status, DETAILS.get(error.status, error.reason))
    if isinstance(error, StorageUnavailableError):
        _LOG.warning("the database cannot be used now", extra={"error": str(error)})
        return not_now(f"{str(error).rstrip('.')}; nothing of this request is known to be stored").response()
    about = {"method": request.method, "path": request.path}
    _LOG.error("request failed", exc_info=error, extra=about)
    return problem_response(500, DETAILS[500])
