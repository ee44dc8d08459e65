"""Tells whether a damaged spool and the log beside it are of one spool, or of two.

Somebody copies a spool over another one, and the log of that one stays: SQLite takes the two for one. Devices
are numbers in the rows, and a number stands for another device in each spool, also in two that one edge began
one after the other. So only rows of one of them may be taken.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from sungrow_lib.spool.entries import SpoolOwner
from sungrow_lib.spool.meta import FOLLOWS, SPOOL_ID
from sungrow_lib.spool.pages import Log, Pages, read_log

_GENERATION: Final = "generation"
_EDGE_ID: Final = "edge_id"
_NO_LOG: Final = Log({}, {}, 0, 0)


def pages_of(
    path: Path, step: Callable[[], None], *, is_mixed: bool = False, owner: SpoolOwner | None = None
) -> Pages:
    """Return what is to be taken: file and log, or one of them where they are of two spools.

    Goes by the name that a file has all its life, and by readings that both have: what an edge calls itself
    may have changed in the log.

    Args:
        path: the file.
        step: called for each page; what it raises ends the reading.
        is_mixed: the file is known to have later pages than its log.
        owner: whose the log is where it does not say so itself.

    Raises:
        OSError: the file cannot be read now.
    """
    log = read_log(Path(f"{path}-wal"), step)
    with closing(Pages(path, log, is_log_alone=True, step=step)) as alone:
        in_log = _Said(alone)
    with closing(Pages(path, _NO_LOG, step=step)) as file:
        in_file = _Said(file, in_log.moments)
        file.require_settled()
    if not (log.frames or log.behind) or _are_one(in_file, in_log, owner):
        return Pages(path, log, is_mixed=is_mixed, step=step)
    if owner is not None and owner.spool_id is not None and owner.spool_id == in_file.names.get(SPOOL_ID):
        return Pages(path, _NO_LOG, step=step)
    return Pages(path, log, is_log_alone=True, step=step)


class _Said:
    """What pages say of the spool they are of.

    Attributes:
        names: what it is called.
        moments: number -> boot and boot-time clock of readings, which never change.
    """

    def __init__(self, pages: Pages, wanted: Container[int] | None = None) -> None:
        self.names: dict[str, str] = {}
        self.moments: dict[int, tuple[Any, Any]] = {}
        for row in pages.rows():
            match row.values:
                case (str() as key, str() as value) if key in {SPOOL_ID, FOLLOWS, _GENERATION, _EDGE_ID}:
                    self.names[key] = value
                case (None, _, _, boot, boot_ms, _, _) if row.rowid is not None and (
                    wanted is None or row.rowid in wanted
                ):
                    self.moments[row.rowid] = boot, boot_ms


def _are_one(file: _Said, log: _Said, owner: SpoolOwner | None) -> bool:
    """Whether nothing tells that a file and a log are of two spools; one damaged page is no reason."""
    ids = [said.names.get(SPOOL_ID) for said in (file, log)]
    if None not in ids:
        return ids[0] == ids[1]
    same = sum(moment == log.moments[seq] for seq, moment in file.moments.items())
    if file.moments:  # of numbers that both have
        return 2 * same >= len(file.moments)
    if ids[0] is not None:
        # Then the log is what the owner had open: the file itself, or that in whose place it was put.
        remembered = None if owner is None else owner.spool_id
        return remembered is None or remembered in {ids[0], file.names.get(FOLLOWS)}
    edge_id = log.names.get(_EDGE_ID) or (None if owner is None else owner.edge_id)
    if None in {edge_id, file.names.get(_EDGE_ID)} or edge_id == file.names[_EDGE_ID]:
        return True
    # An earlier version made the file: what is its name from now on was its generation.
    return ids[1] is not None and ids[1] == file.names.get(_GENERATION)
