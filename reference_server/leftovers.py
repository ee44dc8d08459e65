"""Temporary folders of servers that were killed: the next one that starts removes them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl

FOLDERS: Final = "sungrow-metrics-"
"""How the names of the folders begin in which workers count together."""

_OWNER: Final = "owner"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder: its lock goes with this process, however it ends, and is inherited by none."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder / _OWNER, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def clean_up(temporary: Path) -> None:
    """Remove the folders whose owner is gone; of one without a lock nobody knows, and it stays."""
    for folder in temporary.glob(f"{FOLDERS}*"):
        if _is_left(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    if sys.platform == "win32" or folder.is_symlink():
        return False
    with suppress(OSError):  # another user's, or not there any more
        descriptor = os.open(folder / _OWNER, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False  # its server runs
        else:
            return True
        finally:
            os.close(descriptor)
    return False
