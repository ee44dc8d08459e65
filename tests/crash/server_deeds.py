"""What is done to the server's database while it runs: it may not be written to, or its disk is full."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psycopg

from sungrow_lib.demo.processes import ChildError, wait_until

if TYPE_CHECKING:
    from tests.crash.run import Run

_REFUSED_S: Final = 60.0
_NOT_NOW: Final = (503, 507)


def forbid_writes(run: Run) -> None:
    """Let the database be readable alone for a while, as a standby is."""
    _allow(run, only_reads=True)
    if _is_refusing(run):
        run.faults["database read-only: ingest refused"] += 1
    _allow(run, only_reads=False)


def fill_server_disk(run: Run) -> None:
    """Let the database's disk be full for a while; PostgreSQL may end over it, and is started again."""
    run.server_disk.fill()
    if _is_refusing(run):
        run.faults["database's disk full: ingest refused"] += 1
    run.server_disk.free()
    postgres = run.backend.postgres
    if not postgres.running:
        run.faults["database's disk full: PostgreSQL ended over it"] += 1
    deadline = time.monotonic() + _REFUSED_S
    while not run.backend.address.is_healthy() and time.monotonic() < deadline:
        postgres.start()  # does nothing while it runs
        time.sleep(0.5)
    run.backend.await_health()


def _is_refusing(run: Run) -> bool:
    """Wait until the server has refused readings for now, and some time more; not for ever."""

    def refused() -> int:
        return sum(run.stage.statuses[status] for status in _NOT_NOW)

    before = refused()
    with suppress(ChildError):
        wait_until("readings to be refused", lambda: refused() > before, timeout_s=_REFUSED_S)
    time.sleep(run.draw.uniform(0.5, 3))
    return refused() > before


def _allow(run: Run, *, only_reads: bool) -> None:
    with psycopg.connect(run.backend.postgres.dsn, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        value = b"on" if only_reads else b"off"
        connection.execute(b"ALTER SYSTEM SET default_transaction_read_only = " + value)
        connection.execute("SELECT pg_reload_conf()")


SERVER_DEEDS: Final[dict[str, Callable[[Run], None]]] = {
    "forbid_writes": forbid_writes,
    "fill_server_disk": fill_server_disk,
}
"""By the names a plan chooses them with."""
