"""Whether a folder takes files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sungrow_lib.errors import SpoolUnavailableError


def require_folder(folder: Path, variable: str) -> None:
    """Make sure that a file can be made in a folder, and written.

    Args:
        folder: which.
        variable: the setting that names it.

    Raises:
        SpoolUnavailableError: it cannot, with what to do.
    """
    if not folder.is_dir():
        what = "is no folder; remove it" if is_there(folder) else "does not exist; make it"
        raise SpoolUnavailableError(f"the folder {folder} {what} ({variable})")
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(b"\0")  # a full disk still makes empty files
    except OSError as error:
        raise SpoolUnavailableError(
            f"no file can be made in {folder}: {error.strerror}; let this user write there, or choose "
            f"another folder ({variable})"
        ) from None


def require_room(file: Path, variable: str) -> None:
    """Do what `require_folder` does, with the folder of a file."""
    require_folder(file.absolute().parent, variable)


def is_there(path: Path) -> bool:
    """Whether anything has this name."""
    try:
        return os.path.lexists(path)
    except OSError:
        return True  # to look further says how
