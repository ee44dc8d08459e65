"""Tells server processes, through PostgreSQL, which devices have new readings. Every hint may be lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from reference_server.storage.connection import Connection, address
from reference_server.storage.database import Database, fetch
from reference_server.storage.errors import translated
from reference_server.storage.queries import array_text, query
from reference_server.zones import near_each_other

_LONGEST_PAYLOAD: Final = 7_900  # PostgreSQL takes less than 8000 bytes
_CONNECT_TIMEOUT_S: Final = 5
_PATIENCE_S: Final = 10.0
_QUIET_S: Final = 5.0
"""When nothing was told for so long, the database is asked whether it is still there."""

_NEAR: Final = timedelta(days=1)

ANY_DEVICE: Final[frozenset[int] | None] = None
"""A hint that names nobody: any device may have new readings."""


@dataclass(frozen=True, slots=True)
class LateBatch:
    """Readings that arrived after younger ones.

    Attributes:
        device: key of the device.
        first: time stamp of the oldest.
        last: time stamp of the youngest.
        count: how many were new.
        stamps: when each was taken, in microseconds since 1970, where it may be that only some came after
            younger ones; empty of one alone, and of a great many.
    """

    device: int
    first: datetime
    last: datetime
    count: int
    stamps: Sequence[int] = ()


class ArrivalChannel:
    """One connection of its own that tells; another that listens.

    A `NOTIFY` takes a lock of the whole database at its commit, so it never shares one with readings.

    Args:
        url: the database, as libpq takes it.
    """

    def __init__(self, url: str) -> None:
        self._url = address(url)
        self._telling: Connection | None = None

    async def tell(self, devices: Collection[int], late: Sequence[LateBatch]) -> None:
        """Tell that these devices have new readings, and note what came late.

        Raises:
            StorageError: nothing is known to be told; the next call connects again.
        """
        try:
            with translated():
                connection = self._telling = self._telling or await self._connected()
                if late:
                    await _note(connection, late)
                if devices:  # to tell of none is to tell of any
                    await fetch(connection, "tell_arrivals", keys=_payload(devices))
        except BaseException:
            await self.close()
            raise

    async def listen(self) -> AsyncIterator[frozenset[int] | None]:
        """Yield what others tell: device keys, or :data:`ANY_DEVICE`; first that once it listens.

        Raises:
            StorageError: the connection is lost; listen again.
        """
        with translated():
            async with await self._connected() as connection:
                await connection.execute(query("listen_for_arrivals"))
                yield ANY_DEVICE
                while True:
                    async for notice in connection.notifies(timeout=_QUIET_S):
                        if self._telling is None or notice.pid != self._telling.info.backend_pid:
                            yield _keys(notice.payload)
                    await connection.execute("")  # is it only quiet, or gone?

    async def close(self) -> None:
        """Close the connection that tells."""
        connection, self._telling = self._telling, None
        if connection is not None:
            await connection.close()

    async def _connected(self) -> Connection:
        connection = await Connection.connect(
            self._url,
            autocommit=True,
            connect_timeout=_CONNECT_TIMEOUT_S,
            application_name="sungrow-server live",
        )
        connection.patience_s = _PATIENCE_S
        return connection


async def _note(connection: Connection, late: Sequence[LateBatch]) -> None:
    noted = set(await fetch(connection, "note_backfills", **_listed(late)))
    newest = [batch for batch in late if batch.stamps and (batch.device, batch.last) not in noted]
    for some in near_each_other(newest, key=lambda batch: batch.first, most=_NEAR):
        await _note_partly_late(connection, some)
    await fetch(connection, "forget_backfills")


async def _note_partly_late(connection: Connection, batches: Sequence[LateBatch]) -> None:
    """Note the readings that came after a younger one between those of their batch; hardly any do."""
    bounds = {
        "lowest": min(batch.first for batch in batches),
        "until": max(batch.last for batch in batches),
    }
    numbers = await fetch(connection, "mixed_batches", **_listed(batches), **bounds)
    mixed = [batches[number - 1] for (number,) in numbers]
    stamps = [(number, batch, stamp) for number, batch in enumerate(mixed) for stamp in batch.stamps]
    if stamps:
        await fetch(
            connection,
            "note_partly_late",
            batches=[number for number, _, _ in stamps],
            devices=[batch.device for _, batch, _ in stamps],
            stamps=[stamp for _, _, stamp in stamps],
            **bounds,
        )


def _listed(batches: Sequence[LateBatch]) -> dict[str, str]:
    """Batches as parameters of a statement."""
    return {
        "devices": array_text(str(batch.device) for batch in batches),
        "begins": array_text(batch.first.isoformat() for batch in batches),
        "ends": array_text(batch.last.isoformat() for batch in batches),
        "counts": array_text(str(batch.count) for batch in batches),
    }


def _payload(devices: Iterable[int]) -> str:
    text = ",".join(map(str, devices))
    return text if len(text) <= _LONGEST_PAYLOAD else ""


def _keys(payload: str) -> frozenset[int] | None:
    """Read a hint; one that cannot be read may mean any device."""
    try:
        return frozenset(map(int, payload.split(","))) if payload else ANY_DEVICE
    except ValueError:
        return ANY_DEVICE


async def present(database: Database, devices: Collection[int]) -> frozenset[int]:
    """Those of the devices that are not deleted."""
    return frozenset(device for (device,) in await database.rows("devices_present", devices=list(devices)))


async def recent_late(database: Database, devices: Collection[int]) -> dict[int, LateBatch]:
    """What came late for these devices in the last seconds, by the entry that says so."""
    rows = await database.rows("recent_backfills", devices=list(devices))
    return {entry: LateBatch(*batch) for entry, *batch in rows}
