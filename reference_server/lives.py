"""When the devices of a plant were there: from their first reading on, and until they end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from reference_server.storage.devices import KnownDevice
from reference_server.zones import QUARTER, local_day, quarter_of


@dataclass(frozen=True, slots=True)
class Life:
    """When a device was heard.

    Attributes:
        device: which; one that was deleted ended with its last reading.
        first: its first reading, or where single readings are gone that of a counter, or the quarter of an
            hour; None before any.
        last: its last one.
        has_battery: whether it ever told how full a battery is.
        begin: of the quarter of an hour in which it was heard first.
        end: of the quarter in which it was heard last; None while it is to be heard.
    """

    device: KnownDevice
    first: datetime | None
    last: datetime | None
    has_battery: bool
    begin: datetime | None = field(init=False)
    end: datetime | None = field(init=False)

    def __post_init__(self) -> None:
        """Find out once what is asked for each of thousands of buckets."""
        last = self.last if self.device.deleted else None
        object.__setattr__(self, "begin", None if self.first is None else quarter_of(self.first))
        object.__setattr__(self, "end", None if last is None else quarter_of(last) + QUARTER)

    def time_in(self, begin: datetime, end: datetime) -> timedelta:
        """Time between two moments in which it ought to be heard."""
        if self.begin is None or self.last is None:
            return timedelta(0)
        if self.end is not None:
            end = min(end, self.end)
        return max(end - max(begin, self.begin), timedelta(0))

    def days(self, zone: ZoneInfo) -> tuple[date, date]:
        """Local days on which it was heard first and last; of one never heard, none."""
        if self.first is None or self.last is None:
            return date.max, date.min
        return local_day(self.first, zone), local_day(self.last, zone)

    def is_over_before(self, other: Life) -> bool:
        """Whether it was heard for the last time before another one was heard first."""
        if self.last is None or other.first is None or self is other:
            return False
        return self.last <= other.first

    def goes_before(self, other: Life) -> bool:
        """The same, within a quarter of an hour; at one moment both were there.

        Of two of which no more than that quarter is known, neither goes before the other.
        """
        if self.last is None or other.first is None or quarter_of(self.last) != quarter_of(other.first):
            return False
        return self.last < other.first
