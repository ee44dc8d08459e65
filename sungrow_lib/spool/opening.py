"""Opening a large or damaged spool takes its time: whether it gets on, and a way to end it."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

from sungrow_lib.errors import SpoolError, SpoolUnavailableError
from sungrow_lib.spool.errors import code_of

BUSY_MS: Final = 250
"""SQLite waits so long for another program without asking; `SpoolOpening.patiently` goes on."""
_Result = TypeVar("_Result")
_STEPS: Final = 20_000
"""Steps of a statement between two looks: some milliseconds."""


class SpoolOpening:
    """Tells how the opening of a spool gets on, and ends it; from any thread.

    Attributes:
        is_recovering: whether it was found damaged, and a new one is being made.
        hurries_at: from when on, as `time.monotonic` says, nothing waits for another program any more, also
            when the spool is open.
        moved_at: when it last got on, as `time.monotonic` says. A sync of the disk is one step; with SQLite
            before 3.41 so is the larger part of the check.
    """

    def __init__(self) -> None:
        self.is_recovering = False
        self.hurries_at = math.inf
        self.moved_at = time.monotonic()
        self._is_ended = False
        self._connections: set[sqlite3.Connection] = set()

    def end(self) -> None:
        """Ask it to end: it raises `SpoolUnavailableError` then, and no file has changed.

        SQLite may not hear of it between two statements, so ask again until it has ended.
        """
        self._is_ended = True
        for connection in tuple(self._connections):
            with suppress(sqlite3.ProgrammingError):  # closed meanwhile
                connection.interrupt()

    def begin(self, connection: sqlite3.Connection, patience_s: float) -> None:
        """Begin a write; while another program writes, wait so long at most."""
        self.patiently(lambda: connection.execute("BEGIN IMMEDIATE"), patience_s)

    def patiently(self, job: Callable[[], _Result], patience_s: float) -> _Result:
        """Do something; while another program locks the spool, try again, for so long at most.

        Raises:
            SpoolUnavailableError: it was asked to end.
        """
        until = time.monotonic() + patience_s
        while True:
            try:
                return job()
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_BUSY or not self.may_wait(until):
                    raise
            self.step()

    def may_wait(self, until: float) -> bool:
        """Whether to try again what another program locks, with patience until then."""
        return time.monotonic() < min(until, self.hurries_at)

    def step(self) -> None:
        """Note that it gets on.

        Raises:
            SpoolUnavailableError: it was asked to end.
        """
        self.moved_at = time.monotonic()
        if self._is_ended:
            raise SpoolUnavailableError("The spool was not opened: that was ended before it was done.")

    @contextmanager
    def over(self, connection: sqlite3.Connection, step: Callable[[], None] | None = None) -> Iterator[None]:
        """Let long statements step, and end.

        Args:
            connection: runs them.
            step: what they call now and then, in place of `step`.
        """
        failures: list[Exception] = []

        def look() -> bool:
            try:
                (step or self.step)()
            except (SpoolError, OSError) as error:  # SQLite would pass on only that there was one
                failures.append(error)
            return bool(failures)

        self._connections.add(connection)
        connection.set_progress_handler(look, _STEPS)
        try:
            yield
        except sqlite3.OperationalError:
            self._go_on(failures)
            raise
        finally:
            self._connections.discard(connection)
            connection.set_progress_handler(None, 0)
        self._go_on(failures)

    def _go_on(self, failures: list[Exception]) -> None:
        self.step()
        if failures:
            raise failures[0] from None
