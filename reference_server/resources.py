"""Finds the files the server carries: its SQL and its web page."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parent


def db_folder() -> Path:
    """Folder of the SQL: inside the package when installed, beside it in a clone."""
    installed = _PACKAGE / "db"
    return installed if installed.is_dir() else _PACKAGE.parent / "db"


def web_folder() -> Path:
    """Folder of the page served at ``/``; built from `dashboard/` and not part of the repository."""
    return _PACKAGE / "web"
