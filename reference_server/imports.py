"""What `sungrow-server import` does with its files, and what it says on the way."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Final

from reference_server.history import ImportBrokenOffError, ImportResult, import_captures, import_csv
from sungrow_lib.errors import UsageError

_PROGRESS_S: Final = 5.0


class Progress:
    """Says on stderr what a long import has stored, every few seconds, and remembers it."""

    def __init__(self) -> None:
        self._next = monotonic() + _PROGRESS_S
        self.result = ImportResult()

    def __call__(self, result: ImportResult) -> None:
        """Say it if it is time."""
        self.result = result
        if monotonic() >= self._next:
            self._next = monotonic() + _PROGRESS_S
            sys.stderr.write(f"{result.rows} rows so far: {result}\n")
            sys.stderr.flush()


def import_files(
    url: str,
    files: Sequence[Path],
    device_id: str,
    *,
    source: str | None,
    retention: timedelta,
    interval: timedelta | None = None,
) -> ImportResult:
    """Import one CSV file or export, or the captures of one device.

    Raises:
        UsageError: the files do not go together, or one holds what cannot be imported.
        ImportBrokenOffError: it was interrupted, or the database went away, after some of it was stored.
    """
    progress = Progress()
    if all(file.suffix == ".json" for file in files):
        load = partial(import_captures, url, files, source=source or "capture")
    elif len(files) == 1:
        load = partial(import_csv, url, files[0], source=source or "csv")
    else:
        raise UsageError(
            "import one CSV file or export at a time; only captures (.json) come several at once"
        )
    try:
        return asyncio.run(load(device_id=device_id, retention=retention, interval=interval, report=progress))
    except KeyboardInterrupt:
        if not progress.result.rows:
            raise
        raise ImportBrokenOffError("interrupted before it was done", progress.result) from None
