"""Asks whether a disk works, and does not wait for one that hangs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import anyio

from sungrow_lib.spool.disk import may_work

_LOOK_S: Final = 0.05


class DiskProbe:
    """Asks the disk of a spool that is not open.

    Args:
        path: the spool.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._asking: threading.Thread | None = None
        self._said = False

    async def may_work(self) -> bool:
        """Return whether it may be worth while to open the spool; to be cancelled where the disk hangs.

        A question that is not answered yet is waited for, not asked again: the spool must not be opened
        while that has its files open.
        """
        if self._asking is None:
            # None of the event loop's threads: the process waits for those when it ends.
            self._asking = threading.Thread(target=self._ask, name="disk probe", daemon=True)
            self._asking.start()
        while self._asking.is_alive():  # noqa: ASYNC110 - a thread that hangs tells nobody
            await anyio.sleep(_LOOK_S)
        self._asking = None
        return self._said

    def _ask(self) -> None:
        self._said = may_work(self._path)
