"""Ends the process where it was told to stop and cannot: nothing wakes a call that a disk holds up."""

from __future__ import annotations

import logging
import os
import threading
from typing import Final

from reference_edge.intake import Intake
from sungrow_lib.cli.guard import EXIT_FAILED

_LOG: Final = logging.getLogger("sungrow_edge")
LONGEST_S: Final = 9.25
"""Seconds after the signal. Ten are promised, and a disk that is only slow gets nearly all of them."""
_SAY_S: Final = 0.3
"""Seconds the last words may take: what takes the log may hang, too."""
_LOOK_S: Final = 0.25
_WHY: Final = (
    "the end took too long, as where the disk hangs; what was being written then may be saved all the same"
)


class LastResort:
    """Waits beside everything else, in a thread that holds up no end, and ends the process when time is up.

    What is committed is safe: for SQLite it is as if the process was killed.

    Args:
        intake: what may be lost, and whether the spool is in a file that is gone with the process: then
            there is no end before it is back in its place.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._is_over = threading.Event()
        self._waiting: threading.Thread | None = None

    def begin(self) -> None:
        """Begin to wait, with the first call: a second signal gives no more time, and no less."""
        if self._waiting is None:
            self._waiting = threading.Thread(target=self._wait, name="last resort", daemon=True)
            self._waiting.start()

    def cancel(self) -> None:
        """End nothing: all is done."""
        self._is_over.set()

    def _wait(self) -> None:
        wait_s = LONGEST_S
        while not self._is_over.wait(wait_s):
            if not self._intake.is_putting_back:
                saying = threading.Thread(target=self._say, name="last words", daemon=True)
                saying.start()
                saying.join(_SAY_S)
                os._exit(EXIT_FAILED)  # an end by the interpreter waits for every thread
            wait_s = _LOOK_S

    def _say(self) -> None:
        extra = {"in_memory": len(self._intake), "reason": _WHY}
        _LOG.error("ended without waiting for what is under way", extra=extra)
        self._intake.say_at_risk(_WHY)
