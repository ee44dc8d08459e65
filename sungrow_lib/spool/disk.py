"""What the disk says: whether an error is the disk's or the settings', and that a name is safe on it."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from sungrow_lib.errors import NotASpoolError, SpoolError, SpoolUnavailableError
from sungrow_lib.spool.errors import code_of

_SETTINGS: Final = frozenset(
    {
        errno.EACCES,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOLCK,
        errno.ENOSYS,
        errno.ENOTDIR,
        errno.EOPNOTSUPP,
        errno.EPERM,
    }
)
"""What no waiting mends: a wrong path, a right that is missing, a file system without locks."""
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What is over when somebody frees some room."""
_UNTOLD: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
"""SQLite says that it could not; the system knows why."""
_COMPANIONS: Final = ("", "-wal", "-shm")
_TO_MOUNT: Final = Path("/etc/fstab")
_MOUNTED: Final = Path("/proc/self/mountinfo")
_POINT: Final = 1
"""Which word of a line of the table of what is to be mounted says where."""
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def sync(path: Path) -> None:
    """Have the disk write a file, or the names in a folder.

    Raises:
        OSError: it does not.
    """
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def free_bytes(folder: Path) -> int:
    """How much room a folder's disk has for us.

    Raises:
        OSError: it cannot be asked.
    """
    disk = os.statvfs(folder)  # not by `shutil`, which takes half a megabyte of the daemon's memory
    return disk.f_bavail * disk.f_frsize


def is_setting(error: OSError) -> bool:
    """Whether an error comes of a path or a right, and not of the disk."""
    return error.errno in _SETTINGS


def is_passing(error: SpoolError, path: Path) -> bool:
    """Whether a spool that could not be opened may open later, with these settings and this program.

    Args:
        error: why it could not.
        path: the spool, which must not be open.
    """
    if isinstance(error, NotASpoolError):
        return False
    if missing_place(path) is not None:
        return True
    cause = error.__cause__
    if isinstance(cause, OSError):
        return not is_setting(cause)
    if isinstance(cause, sqlite3.Error) and code_of(cause) in _UNTOLD:
        return _asked(path) not in _SETTINGS
    return cause is not None or not isinstance(error, SpoolUnavailableError)  # else it said what to do


def may_work(path: Path) -> bool:
    """Whether the disk takes and gives something where a spool is; no word on whether the spool opens.

    Args:
        path: the spool, which must not be open: to close a file ends SQLite's locks on it.
    """
    return missing_place(path) is None and _asked(path) in {0, *_SETTINGS, *NO_ROOM}


def missing_place(path: Path) -> str | None:
    """Say why there is no place for a spool yet, as while its disk is not mounted; None where there is one.

    A folder on which the system is to mount a disk is no place until it did: a new spool would be on another
    disk, and out of sight afterwards. One that is there is believed.
    """
    whole = Path(os.path.realpath(path))
    try:
        whole.parent.stat()
        whole.stat()
    except FileNotFoundError:
        if not whole.parent.exists():
            return (
                f"the folder {whole.parent} does not exist; mount its disk, or make it, "
                "or name another (SPOOL_PATH)"
            )
        if (point := _unmounted(whole)) is not None:
            return (
                f"no disk is mounted at {point} as /etc/fstab says; mount it, "
                "or name another place (SPOOL_PATH)"
            )
    except OSError:  # whoever opens it says how
        pass
    return None


def disk_of(path: Path) -> Path | None:
    """Return the folder above an open spool on which its disk is mounted.

    None where that is the system's own disk, which is not unmounted, and in doubt.
    """
    with suppress(OSError, ValueError, LookupError):
        folders = {mount.at for mount in _mounts()} - {Path("/")}
        above = (folder for folder in Path(os.path.realpath(path)).parents if folder in folders)
        return next((folder for folder in above if not _is_bare(folder)), None)
    return None


def is_gone(disk: Path) -> bool:
    """Whether a disk is no longer mounted where it was: no other program sees what is written to it now.

    Args:
        disk: the folder that `disk_of` returned.
    """
    try:
        return _is_bare(disk)
    except FileNotFoundError:  # who mounted it removed the folder, too
        return True
    except (OSError, ValueError, LookupError):
        return False


def _unmounted(path: Path) -> Path | None:
    """Return the folder above a file on which a disk is to be mounted, and is not.

    In doubt it is mounted: whoever waits for ever for what is there gives up readings in the end.
    """
    try:
        points = (point for point in _points() if point in path.parents and point != Path("/"))
        return next((point for point in points if _is_bare(point)), None)
    except (OSError, ValueError, LookupError):  # another system, or a table that does not tell
        return None


def _points() -> Iterator[Path]:
    """Yield the folders on which the system mounts something by itself, as the kernel calls them."""
    mounted = {mount.at for mount in _mounts()}
    for line in _TO_MOUNT.read_text().splitlines():
        words = line.split()
        if len(words) <= _POINT or words[0].startswith("#") or "noauto" in "".join(words[3:4]).split(","):
            continue
        point = _unescaped(words[_POINT])
        if point.is_absolute() and point not in mounted:  # of what is, a disk that hangs need not be asked
            point = Path(os.path.realpath(point))
        if point != _unescaped(words[0]):  # what is to be bound onto itself is no disk's
            yield point


def _is_bare(point: Path) -> bool:
    """Whether a folder is what lies there in the file system of the folder above.

    That is so where nothing is mounted, and where the folder is bound onto itself, as systemd does for a unit
    with what it may write to. Where a disk is mounted too, the one on top is seen.
    """
    if _device(point) != _device(point.parent):  # a subvolume, too, whose device no table names
        return False
    table = _mounts()
    if not any(mount.at == Path("/") for mount in table):  # of a part of the system: its disks are not listed
        return False
    here = [mount for mount in table if mount.at == point]
    tops = [mount for mount in here if mount.number not in {other.beneath for other in here}]
    return all(_is_same(mount, table) for mount in tops) if tops else not here


def _mounts() -> list[_Mount]:
    return [_Mount.read(line) for line in _MOUNTED.read_text().split("\n") if line]


def _is_same(mount: _Mount, table: list[_Mount]) -> bool:
    """Whether a mount shows the folder that lies at its place in the file system beneath all mounts there."""
    rest = {other.number: other for other in table}
    beneath = mount
    while beneath.at == mount.at:
        beneath = rest.pop(beneath.beneath)
    place = beneath.root / mount.at.relative_to(beneath.at)
    return (mount.device, mount.root) == (beneath.device, place)


def _device(folder: Path) -> int:
    return folder.stat().st_dev


class _Mount(NamedTuple):
    """A line of the system's table of mounts."""

    number: str
    beneath: str
    """The number of the mount that it lies on."""
    device: str
    root: Path
    """The folder of the device's file system that is seen."""
    at: Path

    @classmethod
    def read(cls, line: str) -> _Mount:
        number, beneath, device, root, at, *_ = line.split(" ")
        return cls(number, beneath, device, _unescaped(root), _unescaped(at))


def _unescaped(name: str) -> Path:
    return Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), name))


def _asked(path: Path) -> int:
    """Read and write what is needed to open a spool; return the number of the error, 0 for none."""
    import tempfile  # noqa: PLC0415 - memory, hardly ever needed

    path = Path(os.path.realpath(path))
    try:
        for suffix in _COMPANIONS:
            with suppress(FileNotFoundError), Path(f"{path}{suffix}").open("r+b", buffering=0) as file:
                file.read(1)
        with tempfile.TemporaryFile(dir=path.parent, buffering=0) as file:
            file.write(b"\0")
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno or errno.EIO
    return 0
