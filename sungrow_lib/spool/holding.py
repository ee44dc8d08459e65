"""Devices whose names cannot be believed: their readings are kept, and not sent until somebody names them.

A name is lost with the pages it was on. Or it came with the spool of another edge, where it may stand for
another inverter. What is noted of it stays in the spool, so that every program knows.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import count
from typing import Final

from sungrow_lib.errors import UsageError
from sungrow_lib.spool import schema
from sungrow_lib.spool.entries import HeldDevice, HeldWhy, SpoolOwner, SpoolRenaming
from sungrow_lib.spool.meta import (
    identify,
    identify_file,
    read_identity,
    read_spool_id,
    renew_generation,
)
from sungrow_lib.spool.notes import mend_copies, note_renaming, read_renamings, why_of

_LOG: Final = logging.getLogger(__name__)
_LONGEST_ID: Final = 64
_ORIGIN_PART: Final = 8
_NAMES: Final = "SELECT name FROM device UNION ALL SELECT name FROM boot"
LOST: Final = "lost-device-"
"""How the names begin that a recovery gives."""
_LOST_NAME: Final = re.compile(rf"{LOST}[0-9]+(-again)*")


def foreign_names(device_ids: Collection[str], origin: str, others: Collection[str] = ()) -> dict[str, str]:
    """Return what the devices of another spool are called here, each by its name there; none of ``others``.

    Args:
        device_ids: their names there.
        origin: `edge_id` of another edge; `spool_id` of another spool of this one.
        others: names that are not free.
    """
    names: dict[str, str] = {}
    for device_id in device_ids:
        taken = {*device_ids, *others, *names.values()}
        names[device_id] = next(name for name in _foreign_names(device_id, origin) if name not in taken)
    return names


def _foreign_names(device_id: str, origin: str) -> Iterator[str]:
    for number in count():
        tail = f"{_tail(origin)}{f'-{number}' if number else ''}"
        yield f"{device_id[: _LONGEST_ID - len(tail)]}{tail}"


def own_name(device_id: str, origin: str) -> str:
    """Return what a spool calls its device that has this name in other ones; "" for those of others."""
    return device_id.rpartition(_tail(origin))[0]


def _tail(origin: str) -> str:
    return f".{origin[:_ORIGIN_PART]}"


def is_lost_name(device_id: str) -> bool:
    """Whether a recovery gave a device this name."""
    return _LOST_NAME.fullmatch(device_id) is not None


def hold(connection: sqlite3.Connection, device_id: str, why: HeldWhy) -> None:
    """Keep a device's readings from being sent, unless it is noted already."""
    connection.execute(schema.HOLD, (device_id, why))


def is_held(connection: sqlite3.Connection, device_id: str) -> bool:
    """Whether a device's readings are not to be sent."""
    return connection.execute(schema.IS_HELD, (device_id,)).fetchone() is not None


def read_held(connection: sqlite3.Connection) -> dict[str, HeldDevice]:
    """Return the devices that are held, by name."""
    return {
        name: HeldDevice(why_of(why), undelivered, delivered)
        for name, why, undelivered, delivered in connection.execute(schema.HELD)
    }


def read_owner(connection: sqlite3.Connection) -> SpoolOwner:
    """Return what is to be remembered of a spool."""
    return SpoolOwner(read_identity(connection).edge_id, read_spool_id(connection))


def own(connection: sqlite3.Connection, owner: SpoolOwner | None) -> bool:
    """Make a spool its owner's, if that is known; hold the devices whose names cannot be believed.

    Returns:
        Whether it goes by other names from now on: these belong into the file then, not only into its log.
    """
    for statement in schema.KEEP_TWICE:
        connection.execute(statement)
    mend_copies(connection)
    connection.execute(schema.COPY_AGAIN)
    connection.execute(_NAMES).fetchall()  # no text any more? Then better now than when it is in use
    identity = identify(connection, None if owner is None else owner.edge_id)
    is_new = identify_file(connection, None if owner is None else owner.spool_id)
    if connection.execute(schema.SEE_NAMES).rowcount:
        connection.execute(schema.HOLD_LOST, (HeldWhy.LOST, LOST))
    if owner is None or owner.edge_id == identity.edge_id:
        return is_new
    if owner.spool_id is not None and owner.spool_id == read_spool_id(connection):
        # The same file never was another edge's: it is the note that is damaged.
        _LOG.warning("what is remembered of the spool does not fit it; the spool is believed")
        return is_new
    _disown(connection, identity.edge_id, owner)
    return True


def _disown(connection: sqlite3.Connection, found: str, owner: SpoolOwner) -> None:
    """Make the spool of another edge this one's: its devices are held, under names that tell them apart."""
    names = [str(name) for (name,) in connection.execute(schema.NAMES).fetchall()]
    # Also a device that has no reading any more has its name.
    others = [str(name) for (name,) in connection.execute("SELECT name FROM device").fetchall()]
    for name, new in foreign_names(names, found, others).items():
        if not is_held(connection, name):
            connection.execute(schema.RENAME_DEVICE, (new, name))
            _rename_noted(connection, name, new)
            hold(connection, new, HeldWhy.FOREIGN)
    connection.execute(schema.SET_META, ("edge_id", owner.edge_id))
    _LOG.error(
        "the spool is another edge's; its readings are kept and not sent until you name its devices",
        extra={"edge_id": owner.edge_id, "found": found, "devices": names},
    )
    renew_generation(connection)


def _rename_noted(connection: sqlite3.Connection, name: str, new: str) -> None:
    for number, note in read_renamings(connection).items():
        if note is not None and note.new == name:
            note_renaming(connection, number, replace(note, new=new))
        elif note is not None and note.old == name and note.is_undone:
            note_renaming(connection, number, replace(note, old=new))


def set_aside(connection: sqlite3.Connection, device_id: str) -> SpoolRenaming:
    """Put a held device's readings into quarantine for good; see `DurableSpool.set_aside_device`."""
    key = require_held(connection, device_id)
    moved = connection.execute(schema.SET_ASIDE, (key,)).rowcount
    left = connection.execute(schema.COUNT_WAITING, (key,)).fetchone()[0]
    if not left:
        connection.execute(schema.SET_META, (f"{schema.HELD_PREFIX}{device_id}", HeldWhy.ASIDE))
    return SpoolRenaming(moved=moved, left=left)


def require_held(connection: sqlite3.Connection, device_id: str) -> int:
    """Return the number of a device that is held.

    Raises:
        UsageError: it is not.
    """
    held = read_held(connection)
    row = connection.execute("SELECT id FROM device WHERE name = ?", (device_id,)).fetchone()
    if device_id not in held or row is None:
        known = f"held are: {', '.join(held)}" if held else "no device is"
        raise UsageError(f"{device_id} is no device whose readings are held back; {known}")
    return int(row[0])
