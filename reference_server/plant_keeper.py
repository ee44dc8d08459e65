"""Puts together what plants did on days that are over before anybody asks: the first one need not wait."""

from __future__ import annotations

import logging
import random
from asyncio import sleep
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import date, datetime, timedelta
from time import monotonic
from typing import Final, NamedTuple

from reference_server.plant_series import PlantSeriesReader, zone_of
from reference_server.storage.database import Database
from reference_server.storage.devices import Devices, KnownDevice
from reference_server.storage.errors import StorageError
from reference_server.zones import local_day, start_of_day
from sungrow_lib.wire.answers import Frame

_LOG: Final = logging.getLogger(__name__)

_INTERVAL_S: Final = 3600.0
_SOON_S: Final = 60.0, 300.0
"""After a start, or a failure: not while all else begins."""
_PAUSES: Final = 9
"""It pauses so many times longer than it works."""
_AT_ONCE: Final = timedelta(days=90)
"""So long spans are put together without a pause."""
_DAY: Final = timedelta(days=1)
_RECENT: Final = timedelta(days=40)
"""What is missing of earlier days is found after a start, or a change of the plant's devices: else it is of
late readings, of which who asks puts together the few days they changed."""


class _Seen(NamedTuple):
    """What was found of a plant, and worked off.

    Attributes:
        devices: its devices as they were when that began. Of one that is changed meanwhile nothing is kept.
        missing: first and last of the days that were missing.
    """

    devices: frozenset[tuple[int, int]]
    missing: tuple[date, date] | None


class PlantKeeper:
    """Sees to it that the days of plants of several devices are kept.

    Args:
        database: where they are.
        devices: finds devices.
        plants: puts together what they did, and keeps it.
        clock: tells the time, UTC.
    """

    def __init__(
        self,
        database: Database,
        devices: Devices,
        plants: PlantSeriesReader,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._devices = devices
        self._plants = plants
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    async def run(self) -> None:
        """Keep what is missing: soon, then every hour until cancelled."""
        pause_s = random.uniform(*_SOON_S)  # noqa: S311 - jitter
        while True:
            await sleep(pause_s)
            pause_s = _INTERVAL_S
            try:
                async with aclosing(self.work()) as parts:
                    async for worked_s in parts:
                        await sleep(_PAUSES * worked_s)
            except StorageError as error:
                pause_s = random.uniform(*_SOON_S)  # noqa: S311 - jitter
                _LOG.info("what plants did is not kept now", extra={"error": str(error)})

    async def work(self) -> AsyncGenerator[float]:
        """Keep what is missing, a part at a time; yield how many seconds each took.

        What is kept of one that was erased since is forgotten before.

        Raises:
            StorageError: the database cannot be used.
        """
        began = monotonic()
        await self._database.rows("forget_plant_sets")
        names = [name for (name,) in await self._database.rows("plants_of_several")]
        self._seen = {name: self._seen[name] for name in names if name in self._seen}
        for name in names:
            devices = await self._devices.of_plant(name, None)
            known = frozenset((device.key, device.version) for device in devices)
            seen = self._seen.get(name)
            if seen is not None and seen.devices != known:
                seen = None
            missing = await self._missing(devices, all_days=seen is None)
            yield monotonic() - began
            began = monotonic()
            if missing is not None and (seen is None or seen.missing != missing):
                async for _ in self._keep(name, *missing):
                    yield monotonic() - began
                    began = monotonic()
            if self._plants.keeps:
                self._seen[name] = _Seen(known, missing)
            else:  # whatever is missing is looked for again
                self._seen.pop(name, None)

    async def _missing(self, devices: Sequence[KnownDevice], *, all_days: bool) -> tuple[date, date] | None:
        """First and last of the days that are over and missing.

        Days that are still missing after they were put together are those of devices in other zones, say.
        """
        zone = zone_of(devices)
        now = self._clock()
        today = local_day(now, zone)
        [found] = await self._database.rows(
            "plant_days_missing",
            devices=[device.key for device in devices],
            since=date.min if all_days else today - _RECENT,
            today=today,
            offset=now.astimezone(zone).utcoffset(),
        )
        return None if found[0] is None else found

    async def _keep(self, plant: str, first: date, last: date) -> AsyncIterator[None]:
        while first <= last:
            devices = await self._devices.of_plant(plant, None)  # nothing is kept of those that were changed
            if not devices:
                return
            zone = zone_of(devices)
            end = min(first + _AT_ONCE, last + _DAY)
            sheet = await self._plants.range(
                plant, devices, start_of_day(first, zone), start_of_day(end, zone), "1d"
            )
            async for _ in sheet.pages:
                yield
            first = end
        async for _ in (await self._plants.frame(plant, devices, Frame.ALL, None)).pages:
            yield
