"""Tells a damaged spool from a file that never was one, which must be left alone.

A power cut can take the beginning of a spool, which says what the file is. Then what stands beside it, or a
reading anywhere inside, tells that it is ours. A file of zeros is what some disks make of one they lose.
"""

from __future__ import annotations

from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, Final

from sungrow_lib.errors import NotASpoolError
from sungrow_lib.spool.clock import ESTIMATED, FROM_SERVER
from sungrow_lib.spool.packing import unpack
from sungrow_lib.spool.pages import MAGIC, Pages, Row, read_log
from sungrow_lib.spool.schema import APPLICATION_ID

_COMPANIONS: Final = ("-wal", "-shm", "-reserve")
_CHUNK: Final = 2**20
_HEAD: Final = 100
_ID_AT, _ID_END = 68, 72
"""Where a file of SQLite says which program's it is."""
REPLACED: Final = ".replaced"
"""How the ending begins of what was found in a spool's place and set aside."""
NO_BOOT: Final = 0
"""In place of the number of a boot that is not known; those of boots begin at 1."""
_CLOCKS: Final = frozenset({FROM_SERVER, ESTIMATED})


def require_spool(path: Path) -> None:
    """Make sure that a file is a spool, a damaged one, or yet to be made.

    Raises:
        NotASpoolError: it is something else; it was only read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
        if not head or head == MAGIC or _was_ours(path):
            return
    except IsADirectoryError:
        raise NotASpoolError(
            f"{path} is a folder; name a file in it (SPOOL_PATH).", variable="SPOOL_PATH"
        ) from None
    except OSError:
        return  # missing, or out of reach: SQLite says how
    raise NotASpoolError(
        f"{path} is no spool but some other file, which was left as it is; name another file (SPOOL_PATH).",
        variable="SPOOL_PATH",
    )


def unfinished(path: Path) -> Path:
    """Return where a recovery has the new file until that takes the place of the damaged one."""
    return path.with_name(f"{path.name}.recovering")


def is_unused(path: Path) -> bool:
    """Whether a file is missing or empty, or a spool that has no reading; nor has the log beside it.

    One that cannot be read may have some.
    """
    try:
        if not path.exists():
            return True
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if head and head[_ID_AT:_ID_END] != APPLICATION_ID.to_bytes(_ID_END - _ID_AT, "big"):
            return False
        with closing(Pages(path, read_log(Path(f"{path}-wal")))) as pages:
            return all(as_reading(row) is None for row in chain(pages.rows(), pages.rows_behind()))
    except OSError:
        return False


def is_missing(path: Path) -> bool:
    """Whether there is no spool: the file is missing or empty, and neither a log nor a recovery has one."""
    try:
        if unfinished(path).exists():
            return False
        if path.exists() and path.stat().st_size:
            return False
        log = read_log(Path(f"{path}-wal"))
    except OSError:
        return False  # opening it says how
    return not (log.frames or log.behind)


def _was_ours(path: Path) -> bool:
    if any(Path(f"{path}{suffix}").exists() for suffix in _COMPANIONS) or _is_blank(path):
        return True
    with closing(Pages(path)) as pages:
        return any(_is_ours(row) for row in pages.rows())


def _is_blank(path: Path) -> bool:
    with path.open("rb") as file:
        return not any(any(chunk) for chunk in iter(lambda: file.read(_CHUNK), b""))


def _is_ours(row: Row) -> bool:
    if (reading := as_reading(row)) is not None:
        return unpack(reading[-1]).startswith("{")
    match row:
        case Row(None, ("edge_id", str())):
            return True
    return False


def as_reading(row: Row) -> tuple[Any, ...] | None:
    """Return the columns of a row of `reading`, its number first; None for a row of another shape.

    Where its date came from is not known any more where that has a wrong bit; nor is its boot-time stamp,
    which then is of `NO_BOOT`.
    """
    match row:
        case Row(int() as seq, (None, int(), int(), boot, boot_ms, clock, str() | bytes() as content)):
            is_stamp = isinstance(boot, int) and isinstance(boot_ms, int)
            stamp = (boot, boot_ms) if is_stamp else (NO_BOOT, 0)
            return (seq, *row.values[1:3], *stamp, clock if clock in _CLOCKS else None, content)
    return None
