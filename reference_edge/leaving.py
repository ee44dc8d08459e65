"""Says in time what may be lost where the daemon was told to stop and cannot: it may be killed any moment."""

from __future__ import annotations

import logging
import threading
from typing import Final

from reference_edge.intake import Intake

_LOG: Final = logging.getLogger("sungrow_edge")
LONGEST_S: Final = 9.25
"""Seconds after the signal: all that can be done is done in less, and some supervisors kill after ten."""
_WHY: Final = "the disk hangs, or is very slow; it is waited for"


class LastWords:
    """Waits beside everything else, in a thread that holds up no end, and speaks when time is up.

    The process is not ended: whoever gave the signal knows how long to wait, a slow disk may still take all,
    and a spool that was removed is gone with the process until it is put back.

    Args:
        intake: what may be lost.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._is_over = threading.Event()
        self._waiting: threading.Thread | None = None

    def prepare(self) -> None:
        """Begin to wait, with the first call: a second signal gives no more time, and no less."""
        if self._waiting is None:
            self._waiting = threading.Thread(target=self._wait, name="last words", daemon=True)
            self._waiting.start()

    def spare(self) -> None:
        """Say nothing: all is done."""
        self._is_over.set()

    def _wait(self) -> None:
        if not self._is_over.wait(LONGEST_S):
            extra = {"in_memory": len(self._intake), "reason": _WHY}
            _LOG.error("the end takes long", extra=extra)
            self._intake.say_at_risk(_WHY)
