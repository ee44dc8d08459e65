"""One daemon for one spool: a lock file that the kernel releases however its holder ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sungrow_lib.errors import SpoolUnavailableError

_LONGEST_PID = 20


@contextmanager
def sole_user(spool_path: Path) -> Iterator[None]:
    """Be the only daemon that works on a spool, for as long as the context lasts.

    Raises:
        SpoolUnavailableError: another one does, or the lock file beside the spool cannot be made.
    """
    path = spool_path.with_name(spool_path.name + ".lock")
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SpoolUnavailableError(
            f"the lock file {path} cannot be made: {error.strerror} (SPOOL_PATH)"
        ) from None
    try:
        _take(file, spool_path)
        yield
    finally:
        # The file stays: whoever removed it could let two others in, one with the old and one with the new.
        os.close(file)


def _take(file: int, spool_path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(file, _LONGEST_PID, 0).decode(errors="replace").strip() or "of unknown number"
        raise SpoolUnavailableError(
            f"process {holder} works on {spool_path} already; stop it, or give this daemon another spool "
            "(SPOOL_PATH)"
        ) from None
    except OSError as error:
        raise SpoolUnavailableError(
            f"{spool_path} cannot be locked: {error.strerror}; put it on a local disk (SPOOL_PATH)"
        ) from None
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
