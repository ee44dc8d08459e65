"""Imports what was found in a spool's place and set aside when the spool went back there: see `returning`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from sungrow_lib.errors import SpoolError
from sungrow_lib.spool.entries import HeldWhy, SpoolImport, SpoolOptions, SpoolRecord
from sungrow_lib.spool.holding import foreign_names, read_held, read_owner
from sungrow_lib.spool.returning import found_aside, mark_done
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.spool.system_clock import SystemClock

if TYPE_CHECKING:
    from sungrow_lib.spool.durable import DurableSpool

_LOG: Final = logging.getLogger(__name__)
_SETTLED_S: Final = 10.0
"""A file that changed later than so long ago may still be written by whoever put it there."""
_ROWS: Final = 500
_left: Final[set[tuple[Path, float]]] = set()
"""What was said to be none, or damaged, with the time of its last change: it is not tried again."""


async def take_in(spool: DurableSpool, path: Path) -> None:
    """Import each such file once; what is none, or damaged, stays as it is.

    Raises:
        SpoolError: this spool takes nothing now; it goes on with the next call.
    """
    for file in found_aside(path):
        changed_at = file.lstat().st_ctime
        if abs(time.time() - changed_at) < _SETTLED_S or (file, changed_at) in _left:
            continue
        try:
            found = await anyio.to_thread.run_sync(_open, file)
        except (SpoolError, OSError) as error:
            _LOG.error(
                "what was found in the spool's place cannot be taken in; it is left to you",
                extra={"file": str(file), "reason": str(error)},
            )
            _left.add((file, changed_at))
            continue
        left_out: set[int] = set()
        try:
            done = await _take_in(spool, found, left_out)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(found.close)
        _LOG.warning(
            "what was found in the spool's place is taken in",
            extra={
                "file": str(mark_done(file)),
                "imported": done.imported,
                "known": done.known,
                "different": list(done.different[:10]),
                "ahead": done.ahead,
                "damaged": sorted(left_out)[:10],
            },
        )


async def _take_in(spool: DurableSpool, found: SpoolStore, left_out: set[int]) -> SpoolImport:
    """Import a store's readings; what another edge calls its devices does not count here.

    What is damaged of it is no damage of this spool, and stays in the file that was found.
    """
    edge_id, why = found.identity.edge_id, HeldWhy.LOST
    names: dict[str, str] = {}
    if edge_id != spool.identity.edge_id:
        names = foreign_names(await anyio.to_thread.run_sync(found.devices), edge_id)
        why = HeldWhy.FOREIGN
    elif (spool_id := found.look(read_owner).spool_id) != (await spool.owner()).spool_id:
        # What has no name there is none of those that have no name here.
        names = foreign_names(list(found.look(read_held)), spool_id or edge_id)
    return await spool.import_records(_named(record, names, why) for record in _records(found, left_out))


def _named(record: SpoolRecord, names: dict[str, str], why: HeldWhy) -> SpoolRecord:
    """Give a reading's device the name it has here; each says that it is held, for somebody may rename it."""
    name = names.get(record.entry.device_id)
    if name is None:
        return record
    return replace(record, entry=record.entry._replace(device_id=name), held=record.held or why)


def _open(file: Path) -> SpoolStore:
    if file.is_symlink() or not file.is_file() or not file.stat().st_size:
        raise SpoolError("it is no spool, or an empty one")
    return SpoolStore(file, SpoolOptions(), SystemClock())


def _records(store: SpoolStore, left_out: set[int]) -> Iterator[SpoolRecord]:
    after = 0
    while page := store.records(after, _ROWS, left_out):
        yield from page
        after = page[-1].entry.seq
