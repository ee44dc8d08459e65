"""Watches the counters of one device from reading to reading: values that run back or jump are named.

The readings stay as they are. What makes energies of counters leaves such a step out; the server does so in
its rollups, by the same rule (:mod:`sungrow_lib.quantities.counters`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sungrow_lib.quantities import QUANTITIES, QUANTITY_BY_NAME, Quantity
from sungrow_lib.quantities.counters import MIDNIGHT_S, STANDSTILL_S, BreakKind, break_of, most_steps
from sungrow_lib.sample import SungrowSample

_COUNTERS: Final = tuple(quantity for quantity in QUANTITIES if quantity.pace is not None)
_STANDSTILL: Final = timedelta(seconds=STANDSTILL_S)
_MIDNIGHT: Final = timedelta(seconds=MIDNIGHT_S)
_MS: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class CounterBreak:
    """A counter's value that does not go on from the one before.

    Attributes:
        counter: which quantity.
        kind: whether it ran back or jumped.
        ts: time stamp of the reading that shows it.
        value: what it shows, in the quantity's unit.
        before: what it was compared with: the value before, or the highest one lately if it is above that.
    """

    counter: str
    kind: BreakKind
    ts: datetime
    value: float
    before: float

    def __str__(self) -> str:
        unit = QUANTITY_BY_NAME[self.counter].unit
        return f"{self.counter} {self.kind} from {self.before} to {self.value} {unit}"


@dataclass(slots=True)
class _Seen:
    """A counter's last value and the highest one lately, in resolution steps."""

    last: int
    last_at: datetime
    peak: int
    peak_at: datetime


class CounterWatch:
    """Compares each reading of a device with those before it.

    A value below the last one is a step back, unless a daily counter began anew at the inverter's midnight
    (by its own clock, once it was read; until then any start from about 0 is taken for one). A value above
    what the device could have counted in the time between is a jump. After either, the counter goes on from
    where it is: so a new inverter's counters are one break each, and a zero for a moment is one, too.

    Args:
        nominal_kw: nominal power of the device; None takes that of the largest.
    """

    def __init__(self, nominal_kw: float | None = None) -> None:
        self.nominal_kw = nominal_kw
        self._seen: dict[str, _Seen] = {}
        self._offset: timedelta | None = None

    def see(self, sample: SungrowSample) -> tuple[CounterBreak, ...]:
        """Take the next reading, and return its counters that do not go on from the ones before."""
        if sample.inverter_clock is not None:
            self._learn_clock(sample.inverter_clock, sample.ts)
        found = []
        for quantity in _COUNTERS:
            value = getattr(sample, quantity.name)
            if value is not None and (broken := self._step(quantity, value, sample.ts)) is not None:
                found.append(broken)
        return tuple(found)

    def _learn_clock(self, text: str, ts: datetime) -> None:
        with suppress(ValueError):  # a reading that somebody else made may hold any text
            self._offset = datetime.fromisoformat(text).replace(tzinfo=UTC) - ts

    def _step(self, quantity: Quantity, value: float, ts: datetime) -> CounterBreak | None:
        now, seen = quantity.to_steps(value), self._seen.get(quantity.name)
        if seen is None:
            self._seen[quantity.name] = _Seen(now, ts, now, ts)
            return None
        since, compared = (seen.peak_at, seen.peak) if now >= seen.peak else (seen.last_at, seen.last)
        elapsed_ms = max(0, (ts - since) // _MS)
        kind = break_of(quantity, now, compared, elapsed_ms, self.nominal_kw, may_reset=False)
        if kind is BreakKind.RAN_BACK:
            may_reset = self._may_reset(quantity, now, elapsed_ms, since, ts)
            kind = break_of(quantity, now, compared, elapsed_ms, self.nominal_kw, may_reset=may_reset)
        if now >= seen.peak or seen.peak_at < seen.last_at - _STANDSTILL:
            seen.peak, seen.peak_at = now, ts
        seen.last, seen.last_at = now, ts
        if kind is None:
            return None
        return CounterBreak(quantity.name, kind, ts, value, quantity.from_steps(compared))

    def _may_reset(
        self, quantity: Quantity, now: int, elapsed_ms: int, since: datetime, ts: datetime
    ) -> bool:
        if self._offset is None:
            return now <= most_steps(quantity, elapsed_ms, self.nominal_kw)
        day_before = (since + self._offset - _MIDNIGHT).date()
        return (ts + self._offset + _MIDNIGHT).date() > day_before
