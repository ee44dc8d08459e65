"""Whether a folder takes files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sungrow_lib.errors import SpoolUnavailableError
from sungrow_lib.spool.disk import NO_ROOM


def require_folder(folder: Path, variable: str) -> None:
    """Make sure that a file can be made in a folder, and written.

    Args:
        folder: which.
        variable: the setting that names it.

    Raises:
        SpoolUnavailableError: it cannot, with what to do.
    """
    try:
        if not folder.is_dir():
            what = "is no folder; remove it" if is_there(folder) else "does not exist; make it"
            raise SpoolUnavailableError(f"the folder {folder} {what} ({variable})")
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(b"\0")  # a full disk still makes empty files
    except OSError as error:
        advice = "free some" if error.errno in NO_ROOM else "let this user write there"
        raise SpoolUnavailableError(
            f"no file can be made in {folder}: {error.strerror}; {advice}, or choose another folder "
            f"({variable})"
        ) from error


def require_room(file: Path, variable: str) -> None:
    """Do what `require_folder` does, with the folder of a file."""
    require_folder(file.absolute().parent, variable)


def is_there(path: Path) -> bool:
    """Whether anything has this name."""
    try:
        return os.path.lexists(path)
    except OSError:
        return True  # to look further says how
