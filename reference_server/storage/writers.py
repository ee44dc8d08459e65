"""Who deletes a device, and those who are just writing something of it: nothing of it may come afterwards.

Whoever writes asks in the same transaction whether the device was deleted, once the table is locked that it
writes to (an `INSERT` locks it and then looks around). So after a deletion was committed, only transactions
that hold such a lock already may not know of it; when they have ended, nobody writes any more. It costs those
who store readings next to nothing, and is as good where one of them stands still for hours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from time import monotonic
from typing import Final

from reference_server.storage.connection import Connection
from reference_server.storage.database import fetch

_LOOK_AGAIN_S: Final = 0.02


async def deleted_ones(connection: Connection, devices: Collection[int]) -> set[int]:
    """Those of the devices that were deleted."""
    if not devices:
        return set()
    return {device for (device,) in await fetch(connection, "those_deleted", marked=list(devices))}


async def older_writers(connection: Connection, patience_s: float) -> list[int]:
    """Wait until those who are writing now have ended.

    Args:
        connection: outside of any transaction; what they must not miss is committed.
        patience_s: how long.

    Returns:
        The database's processes in which some go on after that; none in the end.
    """
    until = monotonic() + patience_s
    older = set(await fetch(connection, "writers"))
    while older and monotonic() < until:
        await asyncio.sleep(_LOOK_AGAIN_S)
        older &= set(await fetch(connection, "writers"))
    return sorted(pid for _, pid in older)
