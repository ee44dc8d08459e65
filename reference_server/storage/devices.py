"""Devices as the database knows them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any, Final, Self
from zoneinfo import ZoneInfo

from reference_server.storage.connection import Connection
from reference_server.storage.database import Database, fetch
from reference_server.zones import known_zone
from sungrow_lib.registers.devices import device_called
from sungrow_lib.wire import DeviceInfo
from sungrow_lib.wire.answers import Device

_LOG: Final = logging.getLogger(__name__)

_CACHE_S: Final = 0.8
"""s; a setting or a deletion counts within a second."""
_CACHE_LIMIT: Final = 100_000
_STALE_INTERVALS: Final = 3


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """What every request needs of a device.

    Attributes:
        key: its small integer in the fact tables.
        device_id: its name.
        timezone: the site's zone as set, None while it is not.
        poll_interval_s: seconds between polls.
        deleted: whether readings are no longer taken.
        version: of what is known of it: another one whenever that was changed, or the device erased.
    """

    key: int
    device_id: str
    timezone: str | None
    poll_interval_s: float
    deleted: bool
    version: int

    @classmethod
    def from_record(cls, record: tuple[Any, ...]) -> Self:
        """Make it of what `find_devices` says."""
        key, name, timezone, poll_interval_s, deleted_at, version = record
        return cls(key, name, timezone, poll_interval_s, deleted_at is not None, version)

    @property
    def zone(self) -> ZoneInfo:
        """The site's zone; UTC while it is not set."""
        return known_zone(self.timezone) or ZoneInfo("UTC")


async def known_device(connection: Connection, device_id: str) -> KnownDevice | None:
    """Return the device of this name, None when nothing is known of it."""
    found = await fetch(connection, "find_devices", device_ids=[device_id])
    return KnownDevice.from_record(found[0]) if found else None


class Devices:
    """Finds devices, remembering them for less than a second.

    When one of them has to be looked up, so are all that were asked for since the last time: thousands of
    devices that send all day cost one statement a second.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: dict[str, tuple[float, KnownDevice]] = {}
        self._asked: set[str] = set()
        self._seeking: dict[str, asyncio.Task[dict[str, KnownDevice]]] = {}
        self._next: asyncio.Task[dict[str, KnownDevice]] | None = None

    async def find(self, device_ids: Collection[str]) -> dict[str, KnownDevice]:
        """Those of the devices that exist, by name."""
        self._asked.update(device_ids)
        found = self._remembered(device_ids)
        if len(found) == len(device_ids):
            return found
        missing = [name for name in device_ids if name not in found]
        for name in missing:
            if name not in self._seeking:
                self._next = self._next or asyncio.create_task(self._seek())
                self._seeking[name] = self._next
        for task in {self._seeking[name] for name in missing}:
            seen = await asyncio.shield(task)
            found |= {name: seen[name] for name in missing if name in seen}
        return found

    def remembered(self, device_id: str) -> KnownDevice | None:
        """Return a device that was looked up a moment ago, else None."""
        self._asked.add(device_id)
        until, device = self._cache.get(device_id, (0.0, None))
        return device if monotonic() < until else None

    async def _seek(self) -> dict[str, KnownDevice]:
        """Look devices up, for all who asked before this began, and who ask for the same meanwhile."""
        task, self._next = self._next, None
        assert task is not None
        self._seeking |= {name: task for name in self._asked if name not in self._seeking}
        self._asked.clear()
        names = [name for name, theirs in self._seeking.items() if theirs is task]
        begin = monotonic()
        try:
            rows = await self._database.rows("find_devices", device_ids=names)
        finally:
            for name in names:
                if self._seeking.get(name) is task:
                    del self._seeking[name]
        return self._remember(rows, begin + _CACHE_S)

    def _remembered(self, device_ids: Iterable[str]) -> dict[str, KnownDevice]:
        now = monotonic()
        cached = {name: self._cache.get(name, (0.0, None)) for name in device_ids}
        return {
            name: device for name, (until, device) in cached.items() if device is not None and now < until
        }

    async def find_or_add(self, device_ids: Collection[str]) -> dict[str, KnownDevice]:
        """Return the devices by name; those not known yet are made known."""
        found = await self.find(device_ids)
        missing = [name for name in device_ids if name not in found]
        if missing:
            await self._database.rows("add_devices", device_ids=missing)
            for name in missing:  # who looks since before that does not see them
                self._seeking.pop(name, None)
            found |= await self.find(missing)
        return found

    def forget(self, device_id: str) -> None:
        """Look a device up anew next time: what is known of it has changed."""
        self._cache.pop(device_id, None)

    async def listed(self, device_ids: Collection[str] | None, now: datetime) -> list[Device]:
        """Devices that are not deleted, with health; None lists them all."""
        names = None if device_ids is None else list(device_ids)
        return [_entry(row, now) for row in await self._database.rows("list_devices", device_ids=names)]

    async def of_plant(self, plant: str, device_ids: Collection[str] | None) -> list[KnownDevice]:
        """Devices of a plant by name, deleted ones as well; only those of ``device_ids``, None sees all."""
        names = None if device_ids is None else list(device_ids)
        rows = await self._database.rows("devices_of_plant", plant=storable(plant), device_ids=names)
        return list(map(KnownDevice.from_record, rows))

    def _remember(self, rows: list[tuple[Any, ...]], until: float) -> dict[str, KnownDevice]:
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache.clear()
        found = {}
        for device in map(KnownDevice.from_record, rows):
            found[device.device_id] = device
            self._cache[device.device_id] = (until, device)
        return found


def _entry(row: tuple[Any, ...], now: datetime) -> Device:
    name, title, plant, timezone, refused, poll_interval_s, model, serial, firmware, first_ts, last_ts = row
    if last_ts is None:
        health = "empty"
    else:
        silent_s = (now - last_ts).total_seconds()
        health = "stale" if silent_s > _STALE_INTERVALS * poll_interval_s else "ok"
    return Device(
        device_id=name,
        name=title,
        plant=plant,
        model=model,
        serial=serial,
        firmware=firmware,
        timezone=timezone,
        timezone_refused=refused,
        poll_interval_s=poll_interval_s,
        first_ts=first_ts,
        last_ts=last_ts,
        health=health,
    )


async def note_edge(
    connection: Connection, device: int, edge_id: str, generation: str | None, max_seq: int | None
) -> list[str]:
    """Remember which edge sends for a device; return which others did so lately."""
    await fetch(
        connection,
        "meet_edge",
        device=device,
        edge_id=storable(edge_id),
        generation=storable(generation or ""),
        max_seq=max_seq,
    )
    others = await fetch(connection, "other_edges", device=device, edge_id=storable(edge_id))
    return [other for (other,) in others]


async def note_info(connection: Connection, device: int, info: DeviceInfo) -> bool:
    """Take over what the edge knows of a device; return whether the site's time zone changed by it.

    A time zone nobody knows is not taken over; the log says so, and the list of devices shows it. An empty
    text says nothing.
    """
    told = info.model_dump().items()
    fields = {name: (storable(v) or None) if isinstance(v, str) else v for name, v in told}
    fields["refused"] = None
    fields["nominal_kw"] = _nominal_kw(info.model)
    if info.timezone is not None and known_zone(info.timezone) is None:
        _LOG.warning(
            "an edge names a time zone nobody knows", extra={"device": device, "zone": info.timezone}
        )
        fields |= {"timezone": None, "refused": fields["timezone"]}
    before = await fetch(connection, "device_zones", devices=[device])
    await fetch(connection, "update_device_from_edge", device=device, **fields)
    return before != await fetch(connection, "device_zones", devices=[device])


def _nominal_kw(model: str | None) -> float | None:
    """Nominal power of a model, None when it is in no list."""
    known = device_called(model) if model is not None else None
    return known.power_kw if known is not None else None


def storable(text: str) -> str:
    """Replace what PostgreSQL's text cannot hold: a character, and what is none, which is spelled out."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "backslashreplace").decode()
