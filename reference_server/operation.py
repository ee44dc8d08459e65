"""What one operation of the API is."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web
from pydantic import BaseModel

from reference_server.handlers import Call
from reference_server.queries import NoQuery
from reference_server.server import Server
from reference_server.tokens import Scope

Answer = BaseModel | Mapping[str, Any] | web.StreamResponse


class Handler(Protocol):
    """Answers one operation."""

    def __call__(
        self, server: Server, call: Call[Any], /
    ) -> Awaitable[BaseModel | Mapping[str, Any] | web.StreamResponse]:
        """Return what to send as JSON, or the answer itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operation of the API.

    Attributes:
        method: HTTP method.
        path: HTTP path.
        name: operation id, verb_noun.
        tag: what it is about.
        summary: one line for people.
        handler: answers it.
        answer: model of the answer, None for a free-form object.
        scope: what the token must allow, None when no token is needed.
        or_scope: what it may allow in place of that.
        is_counted_by_body: whether its handler counts it against a limit once the body is read.
        query: model of the query parameters.
        headers: what may be sent in which header, beside those every operation takes.
        body: model of the JSON body, None when there is none.
        media: media type of the answer.
        also: other media types of the answer, by the client's choice, each with an example of a text.
        has_etag: whether a client that has the answer already is told so with 304.
        example: an answer, or for a text its beginning.
        body_example: a body.
        query_example: parameters of the request that is shown, by their names in a URL.
        problems: statuses of the errors it may answer, beside those every operation may.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    handler: Handler
    answer: type[BaseModel] | None
    scope: Scope | None = None
    or_scope: Scope | None = None
    is_counted_by_body: bool = False
    query: type[NoQuery] = NoQuery
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)
    body: type[BaseModel] | None = None
    media: str = "application/json"
    also: Mapping[str, str | None] = field(default_factory=dict, compare=False)
    has_etag: bool = False
    example: Any = field(default=None, compare=False)
    body_example: Any = field(default=None, compare=False)
    query_example: Mapping[str, str] = field(default_factory=dict, compare=False)
    problems: tuple[int, ...] = ()

    @property
    def statuses(self) -> tuple[int, ...]:
        """Statuses of all errors it may answer."""
        token = (401, 403, 429, 503) if self.scope is not None else ()
        return tuple(sorted({*self.problems, *token, 500}))
