"""Moves readings where the server's answers say, now or with the next change of the file."""

# ruff: noqa: S608 - statements are put together from literals only; values are always bound

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from sungrow_lib.spool import schema
from sungrow_lib.spool.clock import Moment
from sungrow_lib.spool.database import Database, Transaction
from sungrow_lib.spool.dating import Dating
from sungrow_lib.spool.entries import Settlement, SpoolState
from sungrow_lib.spool.holding import is_held
from sungrow_lib.wire import LAST_DELIVERED_LIMIT, VerdictCode

LATEST_MS: Final = 10_000
"""An answer waits this long at most for a reading to be written with."""

# A delivered reading that is asked for once more carries this, until an answer accounts for it.
_ASKED: Final = "asked"
_ASK_LAST: Final = (
    f"UPDATE standing SET state = 0, code = '{_ASKED}', reason = 'asked whether the server has it still'"
    " WHERE device = ?1 AND state = 5 AND seq = ?2"
)
_ASK_AGAIN: Final = f"UPDATE standing SET state = 0 WHERE device = ?1 AND state = 5 AND code = '{_ASKED}'"
_IS_ASKED: Final = (
    f"device = ?1 AND state = 0 AND code = '{_ASKED}' AND seq IN (SELECT value FROM json_each(?2))"
)

_MOST_VERSIONS: Final = 1000
"""More are not remembered: it is a server that names another one with each answer."""


class _Answer(NamedTuple):
    """What the server said of a batch, and when."""

    device_id: str
    outcome: Settlement
    moment: Moment


class Deferrals:
    """How long the server puts readings off, by the time since the machine started: a clock may be set.

    The date in the file tells people, and which answer it was; it need not be right. Readings that an earlier
    process deferred are due: asking once too early is safe, and asking days too late is not.
    """

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}

    def start(self, moment: Moment, lasts_s: float) -> int:
        """Return the date in ms to write beside readings of one answer."""
        lasts_ms = int(lasts_s * 1000)
        at, running = moment.wall_ms + lasts_ms, self.running(moment.boot_ms)
        while at in running:
            at += 1
        self._ends[at] = moment.boot_ms + lasts_ms
        return at

    def running(self, boot_ms: int) -> list[int]:
        """Return the dates beside readings that are not due yet."""
        self._ends = {at: end for at, end in self._ends.items() if end > boot_ms}
        return list(self._ends)


class Later:
    """Answers that are not in the file yet. Losing them costs sending their batches once more.

    Args:
        key: gives the small number of a device.
        deferrals: the spool's.

    Attributes:
        answers: these answers.
    """

    def __init__(self, key: Callable[[sqlite3.Connection, str, str], int], deferrals: Deferrals) -> None:
        self._key = key
        self._deferrals = deferrals
        self.answers: list[_Answer] = []

    def add(self, device_id: str, outcome: Settlement, moment: Moment) -> None:
        """Keep an answer until it is written."""
        self.answers.append(_Answer(device_id, outcome, moment))

    def concerns(self, device_id: str) -> bool:
        """Whether an answer for that device waits."""
        return any(answer.device_id == device_id for answer in self.answers)

    def seqs(self, device_id: str) -> set[int]:
        """Numbers of a device's readings that are delivered, though the file does not say so."""
        return {n for a in self.answers if a.device_id == device_id for n in a.outcome.delivered}

    def is_due(self, boot_ms: int) -> bool:
        """Whether one has waited long enough."""
        return bool(self.answers) and boot_ms - self.answers[0].moment.boot_ms >= LATEST_MS

    def write(self, connection: sqlite3.Connection) -> int:
        """Write all of them; return how many, for `written` once they are committed."""
        for device_id, outcome, moment in self.answers:
            device = self._key(connection, "device", device_id)
            settle(connection, device, outcome, moment, self._deferrals)
        return len(self.answers)

    def written(self, count: int) -> None:
        """Forget the first ``count``: they are in the file."""
        del self.answers[:count]


class Change(Transaction):
    """A transaction of the spool; it may be used again once it is left.

    Args:
        database: the spool's.
        keys: small numbers that stand for names: to be forgotten when rows they belong to are rolled back,
            and when another program changed the file: it may have given readings another name.
        dating: the spool's; what it remembers is to be forgotten then, and when rows are settled.
    """

    __slots__ = ("_dating", "_keys")

    def __init__(self, database: Database, keys: dict[tuple[str, str], int], dating: Dating) -> None:
        super().__init__(database)
        self._keys = keys
        self._dating = dating

    def begin(self) -> sqlite3.Connection:
        """Start it, and forget what the file may not say any more; `undo` what fails from now on."""
        connection = self._connection = self._database.begin()
        if self._dating.is_changed(connection):
            self._keys.clear()
        return connection

    def undo(self, error: BaseException) -> None:
        """Leave nothing that the file does not say; raise what an error means."""
        self._keys.clear()
        self._dating.forget()
        super().undo(error)


class SettlingChange(Change):
    """One with which the answers that wait are written.

    Args:
        database: as above.
        keys: as above.
        dating: as above.
        later: these answers.
    """

    __slots__ = ("_later", "_settled")

    def __init__(
        self, database: Database, keys: dict[tuple[str, str], int], dating: Dating, later: Later
    ) -> None:
        super().__init__(database, keys, dating)
        self._later = later

    def begin(self) -> sqlite3.Connection:
        """Start it, and write them; `undo` what fails from now on."""
        connection, self._settled = super().begin(), 0
        if self._later.answers:
            self._dating.forget()
            self._settled = self._later.write(connection)
        return connection

    def commit(self) -> None:
        """Make it durable, and forget them; `undo` if that fails."""
        super().commit()
        self._later.written(self._settled)


def settle(
    connection: sqlite3.Connection, device: int, outcome: Settlement, moment: Moment, deferrals: Deferrals
) -> int:
    """Move a batch's readings where the answer says; return how many moved."""
    if outcome.server_version is not None:
        _welcome(connection, outcome.server_version)
    future = [(seq,) for seq, code, _ in outcome.deferred if code == VerdictCode.FUTURE]
    connection.executemany(schema.RESERVE_SEQ, future)
    delivered = (moment.date_ms, outcome.were_known, device, json.dumps(list(outcome.delivered)))
    moved = connection.execute(schema.DELIVER, delivered).rowcount
    until_ms = deferrals.start(moment, outcome.retry_in_s) if outcome.deferred else 0
    moves = _moves(outcome, device, moment.wall_ms, until_ms)
    moved += max(connection.executemany(schema.MOVE, moves).rowcount, 0)
    if future:
        connection.execute(schema.LOWER_FLOOR, (device, json.dumps([seq for (seq,) in future])))
    if kept := (*outcome.delivered, *(seq for seq, *_ in outcome.conflicts)):
        connection.execute(schema.NOTE_ANSWERED, (max(kept),))
        connection.execute(schema.NOTE_ANSWERED, (outcome.witness,))
        connection.execute(schema.TRIM_ANSWERED, (device, LAST_DELIVERED_LIMIT))
    return moved


def _welcome(connection: sqlite3.Connection, version: str) -> None:
    known = connection.execute("SELECT 1 FROM server_version WHERE version = ?", (version,)).fetchone()
    if known is None:  # it may take what its predecessors rejected
        [count] = connection.execute("SELECT count(*) FROM server_version").fetchone()
        if count >= _MOST_VERSIONS:  # forgotten ones may offer rejects once more, never too seldom
            connection.execute("DELETE FROM server_version")
        connection.execute("INSERT INTO server_version VALUES (?)", (version,))
        connection.execute(schema.REQUEUE_REJECTS)


def _moves(outcome: Settlement, device: int, now_ms: int, until_ms: int) -> list[tuple[object, ...]]:
    """Parameters of MOVE, one row per reading that was not delivered."""
    judged = (
        (SpoolState.CONFLICT, now_ms, outcome.conflicts),
        (SpoolState.REJECTED, now_ms, outcome.rejected),
        (SpoolState.DEFERRED, until_ms, outcome.deferred),
    )
    return [
        (state, at, code, reason, device, seq)
        for state, at, verdicts in judged
        for seq, code, reason in verdicts
    ]


def ask_last(connection: sqlite3.Connection, device_id: str) -> None:
    """Offer the reading again that was answered last; see `DurableSpool.ask_last`."""
    if (device := _sent(connection, device_id)) is not None:
        rows = connection.execute(schema.LAST_NEW, (device, 1)).fetchall()
        connection.executemany(_ASK_LAST, [(device, row[0]) for row in rows[-1:]])


def ask_refused(connection: sqlite3.Connection, device_id: str) -> None:
    """Offer again what was asked for when the token was refused."""
    if (device := _sent(connection, device_id)) is not None:
        connection.execute(_ASK_AGAIN, (device,))


def take_back(connection: sqlite3.Connection, device_id: str, seqs: Collection[int]) -> bool:
    """Let readings that were only asked for be delivered as before; return whether all of them were such."""
    values = (_sent(connection, device_id), json.dumps([*seqs]))
    asked = connection.execute(f"SELECT count(*) FROM standing WHERE {_IS_ASKED}", values).fetchone()[0]
    if asked < len(seqs):
        return False
    connection.execute(f"UPDATE standing SET state = 5 WHERE {_IS_ASKED}", values)
    return True


def _sent(connection: sqlite3.Connection, device_id: str) -> int | None:
    """Return the number of a device whose readings are sent."""
    row = connection.execute("SELECT id FROM device WHERE name = ?", (device_id,)).fetchone()
    return None if row is None or is_held(connection, device_id) else int(row[0])
