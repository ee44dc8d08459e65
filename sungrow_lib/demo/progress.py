"""What the demo shows: its steps while it sets up, then one live line."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from typing import Final, TextIO

_CLEAR_LINE: Final = "\r\x1b[K"
_SELDOM_S: Final = 5.0
"""Seconds between two lines where the last one cannot be overwritten."""


class Progress:
    """Prints steps with their duration and a live line; to a terminal it overwrites, to a file it appends.

    Args:
        stream: where to print.
    """

    def __init__(self, stream: TextIO) -> None:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no check mark shows another sign
        self._stream = stream
        self._overwrites = stream.isatty()
        self._is_live = False
        self._last_live = 0.0

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show that ``what`` is being done, and how long it took."""
        begun = time.monotonic()
        if self._overwrites:
            self._write(f"  … {what}")
        try:
            yield
        except BaseException:
            self._write(f"{self._back}  ✗ {what}\n")
            raise
        self._write(f"{self._back}  ✓ {what} ({time.monotonic() - begun:.1f} s)\n")

    def working(self, text: str) -> None:
        """Show how far the step that is being done is."""
        if self._overwrites:
            self._write(f"{_CLEAR_LINE}  … {text}")
        else:
            self.live(f"  … {text}")

    def say(self, text: str) -> None:
        """Print a text on lines of its own."""
        self.end_live()
        self._write(f"{text}\n")

    def live(self, text: str) -> None:
        """Show ``text`` as the live line."""
        if self._overwrites:
            self._write(f"{_CLEAR_LINE}{text}")
            self._is_live = True
        elif time.monotonic() - self._last_live >= _SELDOM_S:
            self._write(f"{text}\n")
            self._last_live = time.monotonic()

    def end_live(self) -> None:
        """Leave the live line standing and go on below it."""
        if self._is_live:
            self._write("\n")
            self._is_live = False

    @property
    def _back(self) -> str:
        return _CLEAR_LINE if self._overwrites else ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
