"""`GET /v1/realtime`: the latest reading, completed with the last known values."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from time import monotonic
from typing import Any, Final

from reference_server.answers import json_bytes
from reference_server.storage.codec import Row, implausible, shown
from reference_server.storage.database import Database
from reference_server.storage.devices import KnownDevice
from reference_server.storage.looks import last_firmware, latest_rows, look_again, newest_stamp
from sungrow_lib.quantities import QUANTITY_BY_NAME, QuantityKind
from sungrow_lib.sample import SungrowSample
from sungrow_lib.wire.answers import Realtime

_LOOK_BACK: Final = 1_000
"""Readings looked through for values the latest one lacks: more than an hour at the polite rate."""
_FORGET: Final = 2 * _LOOK_BACK
"""Rows after which it starts anew, so that counting them stays cheap."""
_STALE_INTERVALS: Final = 3
_GOOD_FOR_S: Final = 0.2
"""s without a look for what other processes stored."""
_DAY: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_COUNTED: Final = timedelta(days=31)
"""So long before the newest reading late ones are counted each time; older ones once they are rolled up."""
_FIRMWARE_AT_ONCE: Final = timedelta(days=128)
"""So long before the newest reading firmware is looked for at first, at each later look as long before that.
To look through all raw readings of a device at once may take many seconds."""
_AGEING: Final = frozenset({"age_s", "stale"})
_OF_ONE_READING: Final = frozenset(
    name for name, quantity in QUANTITY_BY_NAME.items() if quantity.kind is QuantityKind.META
) | {"clock_source"}


@dataclass(slots=True)
class _LastKnown:
    """What is known of a device: the latest row, and per field the newest value and its time.

    Attributes:
        version: of the device.
        latest: the latest row.
        since: from when on rows are counted, to see whether a late one came between.
        count: how many those were.
        older: how many came before them, as far as they are rolled up; None when those do not matter.
        values: by field, when it was read last and what it was.
        looked_at: monotonic time of the last look into the database, if nothing was stored here since.
        arrivals: how often something was stored here.
        looking: held by who looks into the database.
        unread: readings before it were not looked through for firmware yet; None when there is no need to.
        text: JSON of all this, without what depends on the time; None when it has to be made.
    """

    version: int
    latest: Row
    since: datetime
    older: int | None
    count: int = 0
    values: dict[str, tuple[datetime, Any]] = field(default_factory=dict)
    looked_at: float = -inf
    arrivals: int = 0
    text: bytes | None = None
    unread: datetime | None = None
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_fresh(self) -> bool:
        """Whether it needs no look into the database now."""
        return monotonic() - self.looked_at < _GOOD_FOR_S

    def learn(self, rows: Sequence[Row]) -> None:
        """Take over rows, in any order."""
        self.count += sum(row.ts >= self.since for row in rows)
        if rows:
            self.text = None
        for row in rows:
            if row.ts >= self.latest.ts:
                self.latest = row
            for name, value in shown(row).items():
                known = self.values.get(name)
                if name not in _OF_ONE_READING and (known is None or known[0] <= row.ts):
                    self.values[name] = (row.ts, value)


class LatestReadings:
    """Answers what a device shows now, remembering what it has seen.

    Args:
        database: where readings are.
        clock: tells the time, UTC.
    """

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[int, _LastKnown] = {}

    async def of(self, device: KnownDevice) -> Realtime | None:
        """Return the latest reading of a device; None while there is none."""
        known = await self._up_to_date(device)
        if known is None:
            return None
        age_s, stale = self._age(device, known)
        return _shown(device, known, round(age_s, 3), stale=stale)

    async def json_of(self, device: KnownDevice) -> bytes | None:
        """Return the same as JSON; asked for often, it is made once for each reading."""
        known = self._remembered(device)
        if known is None or not known.is_fresh():
            known = await self._up_to_date(device)
        if known is None:
            return None
        if known.text is None:
            lasting = _shown(device, known, 0.0, stale=False)
            known.text = json_bytes(lasting, exclude=_AGEING)[:-1]
        age_s, stale = self._age(device, known)
        return b'%b,"age_s":%.3f,"stale":%b}' % (known.text, age_s, b"true" if stale else b"false")

    def arrived(self, devices: Iterable[int]) -> None:
        """Note that this process stored readings of these devices."""
        for device in devices:
            if (known := self._known.get(device)) is not None:
                known.arrivals += 1
                known.looked_at = -inf

    def _age(self, device: KnownDevice, known: _LastKnown) -> tuple[float, bool]:
        """How old the latest reading is, in seconds, and whether that is too old."""
        age_s = (self._clock() - known.latest.ts).total_seconds()
        if age_s < 0.0:
            return 0.0, False
        return age_s, age_s > _STALE_INTERVALS * device.poll_interval_s

    def _remembered(self, device: KnownDevice) -> _LastKnown | None:
        """What is known of a device as it is: nothing of what it was before it was erased, say."""
        known = self._known.get(device.key)
        if known is not None and known.version != device.version:
            del self._known[device.key]
            return None
        return known

    async def _up_to_date(self, device: KnownDevice) -> _LastKnown | None:
        known = self._remembered(device)
        if known is None:
            return await self._anew(device)
        if not known.is_fresh():
            async with known.looking:  # those who ask meanwhile need no look of their own
                if not known.is_fresh() and not await self._caught_up(device.key, known):
                    return await self._anew(device)
        return known

    async def _caught_up(self, device: int, known: _LastKnown) -> bool:
        """Look for newer rows; False when a late one came between those that are known."""
        begin, arrivals, latest = monotonic(), known.arrivals, known.latest.ts
        is_silent = self._clock() - latest > _DAY
        if is_silent and await newest_stamp(self._database, device) != latest:
            return False
        count, older, rows = await look_again(
            self._database, device, known.since, latest, latest + 2 * _DAY, _LOOK_BACK
        )
        known.learn(rows)
        if known.count > _FORGET or known.count != count or known.older not in {None, older}:
            return False
        await self._learn_firmware(device, known)
        known.looked_at = begin if known.arrivals == arrivals else -inf
        return True

    async def _anew(self, asked: KnownDevice) -> _LastKnown | None:
        """Look at the newest rows again: nothing is known yet, or a late one came between."""
        device = asked.key
        newest = await newest_stamp(self._database, device)
        if newest is None:
            return None
        since = newest - _COUNTED
        older: int | None = await self._older(device, since)
        rows = await latest_rows(self._database, device, newest, _LOOK_BACK)
        if not rows:
            return None  # forgotten meanwhile
        if len(rows) == _LOOK_BACK and rows[-1].ts > since:
            since, older = rows[-1].ts, None
        before = self._remembered(asked)
        known = _LastKnown(asked.version, rows[0], since, older, unread=newest + _MICROSECOND)
        known.learn(rows)
        await self._learn_firmware(device, known)
        if known.unread is not None and before is not None:  # what was looked through once is not again
            known.unread = before.unread and min(before.unread, known.unread)
            if "firmware" in before.values:
                known.values["firmware"] = before.values["firmware"]
        self._known[device] = known
        return known

    async def _older(self, device: int, before: datetime) -> int:
        [(count,)] = await self._database.rows("count_rolled_before", device=device, before=before)
        return int(count)

    async def _learn_firmware(self, device: int, known: _LastKnown) -> None:
        """Firmware is sent when it changed only: perhaps long before the rows looked through."""
        if "firmware" in known.values:
            known.unread = None
        if known.unread is None:
            return
        found, known.unread = await last_firmware(self._database, device, known.unread, _FIRMWARE_AT_ONCE)
        if found is not None:
            known.values["firmware"] = found
            known.text = None


_OURS: Final = Realtime.model_fields.keys() - SungrowSample.model_fields.keys() | {"_fields_set"}
"""Names that no field of a newer edge takes away; the last one is an argument of `model_construct`."""


def _shown(device: KnownDevice, known: _LastKnown, age_s: float, *, stale: bool) -> Realtime:
    own = shown(known.latest)
    older = {name: (ts, value) for name, (ts, value) in known.values.items() if name not in own}
    fields = {name: value for name, (_, value) in older.items()} | own
    for name in _OURS & fields.keys():
        del fields[name]
    return Realtime.model_construct(
        device_id=device.device_id,
        ts=known.latest.ts,
        **fields,
        read_at={name: ts for name, (ts, _) in older.items() if name in fields},
        implausible=implausible(fields),
        age_s=age_s,
        stale=stale,
    )
