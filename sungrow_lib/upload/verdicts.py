"""What the edge does about an answer of the server: the whole delivery table, without input or output."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Final

from pydantic import ValidationError

from sungrow_lib.spool import Judged, Settlement
from sungrow_lib.upload.status import ConnectionState
from sungrow_lib.wire import IngestAnswer, Problem, Verdict
from sungrow_lib.wording import shown

DEFERRED_RETRY_S: Final = 300.0
"""Readings the server defers are offered again every five minutes."""

_PIECE: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{,]', re.DOTALL)
"""A text, or what begins a value outside of one. Texts are small as they are read, values are not: a list of
nothing takes three bytes here and a thousand in memory."""
_PIECES: Final = 200
_PIECES_PER_READING: Final = 24
"""So many are in an answer at most: a verdict has nine, and five more fields of a newer server find room."""
_PIECES_OF_PROBLEM: Final = 2_000
"""Seven for each fault of a body, and a server names many."""
_DETAIL_LIMIT: Final = 300
CODE_LIMIT: Final = 100
REASON_LIMIT: Final = 1_000
"""Each is kept beside its reading: a server that says much must not fill the disk."""
VERSION_LIMIT: Final = 100
_OK: Final = 200
_SERVER_ERRORS: Final = range(500, 600)
_CREDENTIALS: Final = frozenset({401, 403})
UNFIT: Final = frozenset({400, 413, 422})
"""What is said of a batch as a whole."""
UNFIT_ADVICE: Final = (
    "If a proxy in between says so, let it pass larger requests; else see that SERVER_URL is the server's "
    "address, and that server and edge are of one version."
)
"""What to do where that is said of everything."""
_TOO_MANY: Final = 429
_REDIRECTS: Final = range(300, 400)
_WRONG_ADDRESS: Final = frozenset({404, 405, 415})


class Action(StrEnum):
    """What to do with a batch after an attempt."""

    SETTLE = "settle"
    """The answer accounts for each reading: do as it says."""
    KEEP = "keep"
    """Keep all, back off."""
    ALARM = "alarm"
    """Keep all, back off, and tell somebody: waiting alone will not help."""
    PAUSE = "pause"
    """Keep all, pause this device, tell somebody: the token is refused."""
    HALVE = "halve"
    """Keep all; part of the batch may pass without the rest."""
    TROUBLE = "trouble"
    """Keep all, back off; when it repeats for this batch alone, halve it."""


_WAITS: Final = frozenset({Action.KEEP, Action.TROUBLE})
_STATES: Final = {
    Action.PAUSE: ConnectionState.REFUSED,
    Action.HALVE: ConnectionState.NOT_TAKEN,
    Action.TROUBLE: ConnectionState.TROUBLED,
    Action.KEEP: ConnectionState.TROUBLED,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, as far as delivery is concerned.

    Attributes:
        status: HTTP status.
        body: content, complete.
        retry_after_s: seconds the server asked to wait.
        date: the server's clock, UTC.
        took_s: seconds from when the request began to be sent; what connecting took is not counted.
    """

    status: int
    body: bytes = b""
    retry_after_s: float | None = None
    date: datetime | None = None
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ruling:
    """What an attempt came to.

    Attributes:
        action: what to do.
        detail: why, for people; holds nothing secret.
        code: the same for programs.
        settlement: for SETTLE: where each reading goes.
        retry_after_s: seconds the server asked to wait.
        resend: whether the server lacks readings it once had.
        inserted: for SETTLE: how many of the readings the server did not have before.
    """

    action: Action
    detail: str
    code: str
    settlement: Settlement | None = None
    retry_after_s: float | None = None
    resend: bool = False
    inserted: int = 0

    @property
    def connection(self) -> ConnectionState:
        """What an answer that settles nothing says of the server."""
        return _STATES.get(self.action, ConnectionState.NOT_UNDERSTOOD)


def judge_reply(reply: Reply, *, batch_id: str, seqs: Sequence[int]) -> Ruling:
    """Decide what the answer to a batch means.

    Args:
        reply: the answer.
        batch_id: the id sent with this attempt.
        seqs: running numbers of the batch's readings, in the order sent.
    """
    status = reply.status
    if status == _OK:
        return _judge_answer(reply.body, batch_id, seqs)
    action, what = _judge_status(status)
    return Ruling(
        action,
        what.format(_name(reply)),
        f"http_{status}",
        retry_after_s=reply.retry_after_s if action in _WAITS else None,
    )


def _judge_status(status: int) -> tuple[Action, str]:
    if status in _CREDENTIALS:
        return Action.PAUSE, "The server refuses the token for this device ({}); give the edge a valid one."
    if status in UNFIT:
        return Action.HALVE, "The server refuses the batch as a whole ({})."
    if status == _TOO_MANY:
        return Action.KEEP, "The server asks to slow down ({})."
    if status in _SERVER_ERRORS:
        return Action.TROUBLE, "The server has trouble ({})."
    if status in _REDIRECTS or status in _WRONG_ADDRESS:
        return Action.ALARM, "There is no ingest at this address ({}); check SERVER_URL."
    return Action.ALARM, "The server answers in a way not agreed on ({})."


def _judge_answer(body: bytes, batch_id: str, seqs: Sequence[int]) -> Ruling:
    if not _is_small(body, _PIECES + len(seqs) * _PIECES_PER_READING):
        return _not_ours("it says far more than there is to say of so many readings")
    try:
        answer = IngestAnswer.model_validate_json(body)
    except ValidationError:
        return _not_ours("it is not an ingest answer; a captive portal or proxy may have sent it")
    if answer.batch_id != batch_id:
        return _not_ours("it belongs to another batch")
    if not answer.accounts_for(len(seqs)):
        return _not_ours("its sums are wrong")
    settlement = settlement_of(answer, seqs)
    return Ruling(
        Action.SETTLE, "Delivered.", "answered", settlement, resend=answer.resend, inserted=answer.inserted
    )


def _is_small(body: bytes, most: int) -> bool:
    """Whether JSON holds no more than so many pieces."""
    return next(islice(_PIECE.finditer(body), most, None), None) is None


def _not_ours(why: str) -> Ruling:
    return Ruling(Action.ALARM, f"The answer was not counted: {why}.", "not_our_answer")


def settlement_of(answer: IngestAnswer, seqs: Sequence[int]) -> Settlement:
    """Turn an answer that accounts for a batch into where each of its readings goes."""

    def judged(verdicts: Sequence[Verdict]) -> tuple[Judged, ...]:
        return tuple(
            Judged(seqs[verdict.index], shown(verdict.code, CODE_LIMIT), shown(verdict.reason, REASON_LIMIT))
            for verdict in verdicts
        )

    apart = {verdict.index for verdict in (*answer.conflicts, *answer.rejected, *answer.deferred)}
    return Settlement(
        delivered=tuple(seq for index, seq in enumerate(seqs) if index not in apart),
        were_known=answer.inserted == 0,
        conflicts=judged(answer.conflicts),
        rejected=judged(answer.rejected),
        deferred=judged(answer.deferred),
        retry_in_s=DEFERRED_RETRY_S,
        server_version=shown(answer.server_version, VERSION_LIMIT),
    )


def _name(reply: Reply) -> str:
    """Write status, phrase and, when the server gave one, its explanation."""
    from http import HTTPStatus  # noqa: PLC0415 - memory, only where a server refuses something

    known = reply.status in frozenset(HTTPStatus)
    name = f"{reply.status} {HTTPStatus(reply.status).phrase}" if known else str(reply.status)
    if not _is_small(reply.body, _PIECES_OF_PROBLEM):
        return name
    try:
        detail = shown(Problem.model_validate_json(reply.body).detail, _DETAIL_LIMIT)
    except ValidationError:
        return name
    return f"{name}: {detail}"
