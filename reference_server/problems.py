"""Every error answer: RFC 9457 `application/problem+json`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from math import ceil
from typing import Any, Final

from pydantic import ValidationError

from reference_server.answers import Answer
from sungrow_lib.wire import PROBLEM_JSON, Problem as ProblemBody
from sungrow_lib.wording import first_fault, place_of, plainly

TITLES: Final[dict[int, str]] = {
    400: "Not JSON",
    401: "No valid token",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    413: "Too large",
    415: "Unsupported media type",
    422: "Wrong content",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available now",
}
"""Title by status; one kind of problem each."""
DETAILS: Final = {
    400: "this is no HTTP request the server can read, or a header is longer than 8190 bytes",
    404: "there is nothing at this address; see /openapi.json",
    405: "this address takes other methods; see the header Allow",
    413: "the body is too large; send smaller batches",
    500: "the server failed at this request; its log says why",
}
"""What is said where no handler says it, by status."""

_AWAY_S: Final = 5.0
_JITTER: Final = 0.5
_LEAST_JITTER_S: Final = 4


class Problem(Exception):  # noqa: N818 - an answer, not a fault of the program
    """An answer that is an error.

    Attributes:
        status: HTTP status.
        detail: what is wrong with this request and what to do.
        errors: for 422, one entry per fault.
        headers: to send along.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})

    @classmethod
    def wrong_content(cls, error: ValidationError) -> Problem:
        """422 with one entry per fault; what was sent is not repeated."""
        faults = [
            {"field": place_of(fault), "message": plainly(fault)}
            for fault in error.errors(include_url=False, include_input=False)
        ]
        return cls(422, first_fault(error), errors=faults)

    def response(self) -> Answer:
        """Return the answer to send."""
        return problem_response(self.status, self.detail, self.errors, self.headers)


def problem_type(title: str) -> str:
    """Return the name of a kind of problem that programs go by."""
    return f"urn:sungrow:problem:{title.lower().replace(' ', '-')}"


def problem_response(
    status: int,
    detail: str,
    errors: Sequence[Mapping[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    title: str | None = None,
) -> Answer:
    """Build the answer for a problem; ``title`` is needed where a status has another cause than usual."""
    title = title or TITLES.get(status) or HTTPStatus(status).phrase
    body = ProblemBody(
        type=problem_type(title),
        title=title,
        status=status,
        detail=detail,
        errors=[dict(error) for error in errors] if errors is not None else None,
    )
    text = body.model_dump_json(exclude_none=True)
    return Answer(text.encode(), status=status, media=PROBLEM_JSON, headers=headers)


def come_back(wait_s: float) -> int:
    """Choose the whole seconds of `Retry-After`: not before a wait is over, and not for all the same.

    Even those who wait for a moment only are spread over several seconds.
    """
    least_s = max(1, ceil(wait_s))
    return least_s + random.randint(0, max(_LEAST_JITTER_S, ceil(_JITTER * least_s)))  # noqa: S311 - jitter


def not_now(detail: str) -> Problem:
    """503: the database is away; the caller keeps its data and tries again."""
    return Problem(503, detail, headers={"Retry-After": str(come_back(_AWAY_S))})
