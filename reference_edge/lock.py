"""One daemon for one spool, whatever becomes of the spool's files; the kernel lets go of it with its holder.

A locked file beside the spool is what any program sees that shares the folder. But whoever removes or moves
the spool is likely to take it along. So the path has a lock of its own, too, which no deed on files reaches:
a name in Linux's abstract space of sockets. And the file is made again where it is missing.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import anyio
import anyio.to_thread

from sungrow_lib.errors import SpoolUnavailableError
from sungrow_lib.spool.disk import disk_of, is_gone, is_setting, missing_place

_LONGEST_PID: Final = 20
_LOOK_S: Final = 1.0
_GONE: Final = errno.ENODEV
"""Of a disk that is no longer mounted where it was."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class SpoolLock:
    """The right to be the only daemon on a spool.

    Args:
        spool_path: the spool; another name of it, such as a link, is the same spool.

    Raises:
        SpoolUnavailableError: another daemon has it, or the lock file beside the spool cannot be made, and
            not because its disk fails or is missing: then it is made later, and nobody else can make it.
    """

    def __init__(self, spool_path: Path) -> None:
        self._spool = spool_path
        self._disk: Path | None = None
        self._is_closed = False
        self._failure: OSError | None = None
        path = os.path.realpath(spool_path)
        self._path = Path(f"{path}.lock")
        self._turn = threading.Lock()
        self._file: int | None = None
        self._name: socket.socket | None = None
        try:
            self._name = _take_name(path)
            self._file = self._locked()
        except BlockingIOError:
            self.close()
            raise self._taken() from None
        except OSError as error:
            self._failure = error
            if is_setting(error) and missing_place(spool_path) is None:
                self.close()
                raise self._unmade(error) from error

    def close(self) -> None:
        """Let others have it. The file stays: whoever removed it could let two others in."""
        self._is_closed = True
        if self._file is not None:
            os.close(self._file)
        if self._name is not None:
            self._name.close()

    async def watch(self) -> None:
        """Keep it until cancelled.

        Raises:
            SpoolUnavailableError: see `keep`.
        """
        while True:
            await anyio.sleep(_LOOK_S)
            # A disk that hangs would hold up the end; what is left behind only looks, or waits for the disk.
            await anyio.to_thread.run_sync(self.keep, abandon_on_cancel=True)

    def keep(self) -> None:
        """Make the file again if it is not where it belongs; where that cannot be done, later.

        Raises:
            SpoolUnavailableError: another daemon has locked one meanwhile.
        """
        with self._turn:
            if self._is_closed:
                return
            try:
                mine = self._file if self._file is not None and self._is_ours(self._file) else self._locked()
            except BlockingIOError:
                raise self._taken() from None
            except OSError as error:  # no folder, no room: until there is, nobody else can make one either
                self._failure = error
                return
            self._failure = None
            if self._file is not None and self._file != mine:
                os.close(self._file)
            self._file = mine

    def require(self) -> None:
        """Make sure that the file is made and locked, which a disk that fails may have put off, and in place.

        Raises:
            SpoolUnavailableError: it is not; or its disk is no longer mounted, so that a spool that is opened
                now would be a new one, out of sight once the disk is back; or another daemon has locked it.
        """
        self.keep()
        error = self._failure
        if error is not None and (self._file is None or error.errno == _GONE):
            raise self._unmade(error) from error

    def holds(self) -> bool:
        """Whether no other daemon has it; from any thread."""
        try:
            self.keep()
        except SpoolUnavailableError:
            return False
        return True

    def _locked(self) -> int:
        """Open and lock the file, and see to it that it is still the one there."""
        if self._disk is not None and is_gone(self._disk):
            raise OSError(_GONE, f"no disk is mounted at {self._disk} any more; mount it again")
        if (why := missing_place(self._spool)) is not None:
            raise FileNotFoundError(errno.ENOENT, why)
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_ours(file):
                    _sign(file)
                    self._disk = disk_of(self._spool)
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _is_ours(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # nobody can tell, and nobody else can lock it
            return True

    def _unmade(self, error: OSError) -> SpoolUnavailableError:
        advice = "put the spool into a folder of a local disk that this user may write (SPOOL_PATH)"
        what = f"the lock file {self._path} cannot be made or locked: {error.strerror}"
        return SpoolUnavailableError(f"{what}; {advice}" if is_setting(error) else what)

    def _taken(self) -> SpoolUnavailableError:
        holder = _written(self._path) or "of unknown number"
        return SpoolUnavailableError(
            f"process {holder} works on {self._spool} already; stop it, or give this "
            "daemon another spool (SPOOL_PATH)"
        )


def _sign(file: int) -> None:
    """Write down whose it is; where a full disk has no room for that, nobody's: the lock is what counts."""
    name = f"{os.getpid()}\n".encode()
    try:
        os.pwrite(file, name, 0)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        name = b""
    os.ftruncate(file, len(name))


def _take_name(path: str) -> socket.socket | None:
    """Take the path's name among the sockets; None where there are no such names.

    Raises:
        BlockingIOError: it is taken.
    """
    if not sys.platform.startswith("linux"):
        return None
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(_name_of(path))
    except OSError as error:
        name.close()
        if error.errno == errno.EADDRINUSE:
            raise BlockingIOError(error.errno, "taken") from None
        return None  # not allowed here: the file is what there is
    return name


def _name_of(path: str) -> str:
    # Containers that share a network may well use one path for different spools: their roots differ.
    root = os.stat("/")  # noqa: PTH116 - no path of ours
    known = hashlib.sha256(f"{root.st_dev} {root.st_ino} {path}".encode(errors="surrogateescape"))
    return f"\0sungrow-edge {known.hexdigest()}"


def _written(lock_file: Path) -> str:
    """Return what a holder wrote of itself; nothing where that cannot be read."""
    try:
        with lock_file.open("rb") as file:
            return file.read(_LONGEST_PID).decode(errors="replace").strip()
    except OSError:
        return ""


def is_held(spool_path: Path) -> bool:
    """Whether a daemon has a spool, as far as can be told without taking the lock from one that starts.

    Only Linux tells, of a daemon in the same container or outside of all.
    """
    if not sys.platform.startswith("linux"):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(_name_of(os.path.realpath(spool_path)))
        except OSError:
            return False
    return True


class Holder(NamedTuple):
    """Who has a spool, as the lock file tells; None for what cannot be known.

    Attributes:
        pid: the number of the process, where it is.
        user: the number of the user.
        age_s: seconds for which that process has had it; below zero where the clock was set back.
    """

    pid: int | None = None
    user: int | None = None
    age_s: float | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it may do what this process may."""
        return self.user == os.geteuid()


def holder(spool_path: Path) -> Holder:
    """Return who has a spool, where `is_held`."""
    file = Path(f"{os.path.realpath(spool_path)}.lock")
    try:
        about = file.stat()
    except OSError:
        return Holder()
    said = _written(file)
    return Holder(int(said) if said.isdecimal() else None, about.st_uid, time.time() - about.st_mtime)


@contextmanager
def sole_user(spool_path: Path) -> Iterator[SpoolLock]:
    """Be the only daemon that works on a spool, for as long as the context lasts.

    Raises:
        SpoolUnavailableError: another one does, or the lock file beside the spool cannot be made.
    """
    lock = SpoolLock(spool_path)
    try:
        yield lock
    finally:
        lock.close()
