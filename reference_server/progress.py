"""What a long import says on the way."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Final

from reference_server.history import ImportResult

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
