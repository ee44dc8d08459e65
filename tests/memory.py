"""Folders in memory, where the machine has plenty: what is thrown away need not wait for a disk."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")
PLENTY: Final = 4 << 30
_PREFIX: Final = "sungrow-tests-"


def has_plenty(memory: Path = MEMORY, wanted: int = PLENTY) -> bool:
    """Whether so many bytes are free both in the folder and in the machine, and the folder may be used."""
    try:
        told = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
        free = min(shutil.disk_usage(memory).free, int(told[1]) * 1024 if told else 0)
    except OSError:
        return False
    return free >= wanted and os.access(memory, os.W_OK | os.X_OK)


@contextmanager
def folder_in_memory(memory: Path = MEMORY) -> Iterator[Path]:
    """A folder that is gone afterwards; if this process is killed, as soon as the next one wants one."""
    _remove_left(memory)
    folder, lock = _locked(memory)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(lock)


def _locked(memory: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=memory))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)  # another process took it for a left one before it was locked


def _remove_left(memory: Path) -> None:
    """Remove folders that no process holds any more."""
    for folder in memory.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is another user's, or gone
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)
