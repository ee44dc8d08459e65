"""Which handler a request is for: the operations of the API, and the web page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs

from reference_server import page
from reference_server.operation import Handler
from reference_server.operations import OPERATIONS
from reference_server.problems import DETAILS, Problem
from reference_server.queries import NoQuery

_ANY_FILE: Final = page.FILES + "{name}"


@dataclass(frozen=True, slots=True)
class Route:
    """Requests of one method for one path.

    Attributes:
        method: HTTP method.
        path: HTTP path; with `{name}` in place of a file's.
        handler: answers them.
        scopes: what the token must allow, one of them; empty when no token is needed.
        is_counted_by_body: whether the handler counts them against a limit once the body is read.
        query: model of the query parameters.
    """

    method: str
    path: str
    handler: Handler
    scopes: tuple[str, ...] = ()
    is_counted_by_body: bool = False
    query: type[NoQuery] = NoQuery


def _all() -> Iterator[Route]:
    for op in OPERATIONS:
        scopes = tuple(scope.value for scope in (op.scope, op.or_scope) if scope is not None)
        yield Route(op.method, op.path, op.handler, scopes, op.is_counted_by_body, op.query)
        if op.method == hdrs.METH_GET:
            yield Route(hdrs.METH_HEAD, op.path, op.handler, scopes, op.is_counted_by_body, op.query)
    for method in (hdrs.METH_GET, hdrs.METH_HEAD):
        yield Route(method, "/", page.index)
        yield Route(method, _ANY_FILE, page.static)


ROUTES: Final = tuple(_all())
"""All there are."""
_BY_PATH: Final[dict[str, dict[str, Route]]] = {}
for _route in ROUTES:
    _BY_PATH.setdefault(_route.path, {})[_route.method] = _route


def route_of(method: str, path: str) -> Route:
    """Return the route of a request.

    Args:
        method: HTTP method.
        path: HTTP path, decoded but for its slashes.

    Raises:
        Problem: 404 there is none, 405 there is one for other methods.
    """
    routes = _BY_PATH.get(_ANY_FILE if path.startswith(page.FILES) and path != page.FILES else path)
    if routes is None:
        raise Problem(404, DETAILS[404])
    if method not in routes:
        raise Problem(405, DETAILS[405], headers={"Allow": ",".join(sorted(routes))})
    return routes[method]
