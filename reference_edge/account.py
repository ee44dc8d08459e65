"""What became of every poll, counted: the one source of health file, metrics and reports to the server."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from reference_edge.advice import advise
from reference_edge.refused import RefusalLog
from sungrow_lib.counters import CounterWatch
from sungrow_lib.errors import DeviceError
from sungrow_lib.inverter import Reading
from sungrow_lib.modbus.connection import ConnectionState
from sungrow_lib.sample import SungrowSample, format_ts
from sungrow_lib.spool import SpoolCounts, SpoolEntry

_LOG: Final = logging.getLogger("sungrow_edge")
_BYTES: Final = r""": (?:b['"].*|[0-9a-f]{2}(?: [0-9a-f]{2})+)"""
_VARIES: Final = re.compile(rf"{_BYTES}|\d+")
"""What makes no difference in a reason: bytes of a damaged reply, and figures such as the seconds left."""
ACCEPTED: Final = "accepted"
SPOOL_REFUSED: Final = "spool refused"
STOPPED: Final = "stopped"
SUMMED_AFTER: Final = 20
"""So many equal polls without a reading between them have a line of the log each; then they are summed up."""
SUM_OF: Final = 120
"""One line stands for so many then: ten minutes at the fastest rate."""
SAID_WITHIN_S: Final = 600.0
"""So long, at a slower rate, a poll waits for its line at most: a kill takes what was not said."""
MOST_ROWS: Final = 30
"""So many kinds of failure are summed up at a time: a reason that nobody thought of may differ each time."""


@dataclass
class _Row:
    """Equal polls without a reading; figures and bytes in the reason make no difference."""

    outcome: str = ""
    reason: str = ""
    is_asleep: bool = False
    length: int = 0
    unsaid: int = 0
    unsaid_since: float = 0.0


@dataclass
class DeviceAccount:
    """One inverter's account since the start.

    Attributes:
        device_id: which.
        address: host and port it is asked at.
        polled: polls made, whatever came of them.
        accepted: readings the spool took.
        not_accepted: the others that are known not to be taken, by outcome.
        at: when the last poll ended, aware UTC.
        outcome: what came of it.
        reason: why there was no reading; None when there was one.
        connection: what the connection did then.
        unread: polls since the last reading.
        sample: the last reading, accepted or not yet.
        counts: where its readings stood when the spool was last asked.
        counter_breaks: how often each counter ran back or jumped; the readings are kept as they are.
        refusals: what it was found to refuse.
    """

    device_id: str
    address: str
    polled: int = 0
    accepted: int = 0
    not_accepted: Counter[str] = field(default_factory=Counter)
    at: datetime | None = None
    outcome: str | None = None
    reason: str | None = None
    connection: str | None = None
    unread: int = 0
    sample: SungrowSample | None = None
    counts: SpoolCounts | None = None
    counter_breaks: Counter[str] = field(default_factory=Counter)
    refusals: RefusalLog = field(init=False)
    _watch: CounterWatch = field(default_factory=CounterWatch)
    _rows: dict[tuple[str, str, bool], _Row] = field(default_factory=dict)
    _returns: int = 0
    """How often it was read again since it was last read many times in a row."""
    _in_a_row: int = 0

    def __post_init__(self) -> None:
        self.refusals = RefusalLog(self.device_id)

    def polled_now(self, reading: Reading) -> None:
        """Count a poll; `took` or `lost` follows."""
        self._say_overdue()
        self.polled += 1
        self._in_a_row = self._in_a_row + 1 if reading.sample else 0
        if reading.sample and self.unread and self.connection != ConnectionState.ASLEEP:
            self._say_again()
        self.at = datetime.now(UTC)
        self.connection = str(reading.state)
        self.sample = reading.sample or self.sample
        self.outcome = str(reading.outcome)
        self.unread = 0 if reading.sample else self.unread + 1
        self.reason = None if reading.sample else advise(str(reading.error or DeviceError()))
        if reading.sample is not None:
            self._watch.nominal_kw = reading.identity.nominal_kw if reading.identity else None
            self._watch_counters(reading.sample)
            self.refusals.see(reading.refused)

    def _say_again(self) -> None:
        """Say that it was read again; of one that comes and goes all the time, now and then."""
        self._returns += 1
        if self._returns <= SUMMED_AFTER:
            self.say_rest()
        if self._returns <= SUMMED_AFTER or self._returns % SUM_OF == 0:
            extra = {"device_id": self.device_id, "polls": self.unread, "number": self._returns}
            _LOG.info("read again", extra=extra)

    def _watch_counters(self, sample: SungrowSample) -> None:
        """Name counters that run back or jump, each once; one that does so all the time, now and then."""
        for broken in self._watch.see(sample):
            self.counter_breaks[broken.counter] += 1
            number = self.counter_breaks[broken.counter]
            if number <= SUMMED_AFTER or number % SUM_OF == 0:
                _LOG.warning(
                    "counter", extra={"device_id": self.device_id, "reason": str(broken), "number": number}
                )

    def took(self, entry: SpoolEntry, missing: Iterable[object] = ()) -> None:
        """Count a reading the spool took."""
        if self._in_a_row >= SUMMED_AFTER:
            self._returns = 0
        if self._returns <= SUMMED_AFTER:  # else it fails again soon, and that is summed up
            self.say_rest()
        self.accepted += 1
        _LOG.debug(
            "poll",
            extra={
                "device_id": self.device_id,
                "outcome": ACCEPTED,
                "seq": entry.seq,
                "ts": format_ts(entry.ts),
                "missing": [str(block) for block in missing],
            },
        )

    def lost(self, outcome: str, reason: str, *, was_asked: bool = True) -> None:
        """Account for a poll that brought no accepted reading.

        Each is a line of the log, until many in a row say the same: a dongle that is dead for a night must
        not fill the disk. Then one line stands for many, and says for how many. So it does at once where
        nothing was asked, because the pause after a failure lasts, and that failure was said. A few readings
        in between make no difference where that happened many times.
        """
        self.not_accepted[outcome] += 1
        is_asleep = self.connection == ConnectionState.ASLEEP  # every night, and no failure
        row = self._row(outcome, reason, is_asleep=is_asleep)
        row.unsaid_since = row.unsaid_since if row.unsaid else monotonic()
        row.reason = reason
        row.length += 1
        row.unsaid += 1
        is_news = row.length <= SUMMED_AFTER and (was_asked or len(self._rows) == 1 == row.length)
        if is_news or row.unsaid >= SUM_OF:
            self._say(row)

    def _row(self, outcome: str, reason: str, *, is_asleep: bool) -> _Row:
        """Return the row of such polls, a new one where there is none."""
        key = (outcome, _VARIES.sub("", reason), is_asleep)
        if key not in self._rows and len(self._rows) >= MOST_ROWS:
            self.say_rest()
        return self._rows.setdefault(key, _Row(outcome, is_asleep=is_asleep))

    def _say_overdue(self) -> None:
        """Say what was counted long ago and not said yet; its row goes on."""
        for row in self._rows.values():
            if row.unsaid and monotonic() - row.unsaid_since >= SAID_WITHIN_S:
                self._say(row)

    def say_rest(self) -> None:
        """Say what was counted and not said yet; the next ones begin new rows."""
        for row in self._rows.values():
            if row.unsaid:
                self._say(row)
        self._rows.clear()

    def _say(self, row: _Row) -> None:
        extra: dict[str, object] = {"device_id": self.device_id, "outcome": row.outcome, "reason": row.reason}
        if row.unsaid > 1:
            extra["polls"] = row.unsaid
        _LOG.log(logging.INFO if row.is_asleep else logging.WARNING, "poll", extra=extra)
        row.unsaid = 0
