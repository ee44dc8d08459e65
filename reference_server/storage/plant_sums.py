"""Keeps what the devices of a plant did together on days, and in months, that are over."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from reference_server.storage.connection import Connection
from reference_server.storage.database import Database, fetch
from reference_server.storage.errors import StorageError

_LOG: Final = logging.getLogger(__name__)
_NAMES: Final = (
    *("pv", "pv_ms", "battery", "battery_ms", "soc", "soc_ms"),
    *("load", "load_ms", "export", "export_ms"),
)

Sums = tuple[bytes, Sequence[int | None]]
"""A digest of what all of it comes from, and what was found."""


class KeptSums:
    """Sums of plants in the database. Without them all is put together anew, so that losing them costs time.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self, devices: Sequence[int], first: datetime, last: datetime, *, is_month: bool
    ) -> dict[datetime, Sums]:
        """What is kept of days or months that begin between two moments, in which these devices were heard.

        Raises:
            StorageError: the database cannot be used.
        """
        rows = await self._database.rows(
            "plant_sums", devices=list(devices), first=first, last=last, is_month=is_month
        )
        return {begins: (digest, sums) for begins, digest, *sums in rows}

    async def keep(
        self,
        versions: Mapping[int, int],
        devices: Sequence[int],
        found: Mapping[datetime, Sums],
        *,
        is_month: bool,
    ) -> bool:
        """Keep what was found, in place of what was kept.

        Nothing of a device that was changed, or erased, since its version was seen: while it is kept, none
        of them can be, and who erases one forgets afterwards what was kept of it.

        Returns:
            Whether it is kept; else it may be later, where the database takes nothing now or somebody is at
            one of the devices.
        """
        digests = [digest for digest, _ in found.values()]
        columns: dict[str, list[Any]] = {"begins": list(found), "digests": digests}
        columns |= {name: [sums[at] for _, sums in found.values()] for at, name in enumerate(_NAMES)}

        async def job(connection: Connection) -> bool:
            rows = await fetch(connection, "hold_device_versions", devices=sorted(versions))
            if dict(rows) != dict(versions):
                return False
            await fetch(connection, "add_plant_set", devices=list(devices))
            await fetch(connection, "keep_plant_sums", devices=list(devices), is_month=is_month, **columns)
            return True

        try:
            return await self._database.run(job)
        except StorageError as error:
            _LOG.info("what a plant did is not kept now", extra={"error": str(error)})
            return False
