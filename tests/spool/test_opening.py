"""Opening a spool that takes its time: it says that it gets on, and ends when told to, with all as it was."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import pytest

from sungrow_lib.errors import SpoolUnavailableError
from sungrow_lib.spool import DurableSpool, SpoolOpening, SpoolOptions, database, draft, opening
from sungrow_lib.spool.pages import Log, read_log
from sungrow_lib.spool.schema import PAGE_BYTES
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import FakeClock
from tests.spool.test_recovery import assert_unaltered, build, overwrite

pytestmark = pytest.mark.anyio

RECOVERING: Final = SpoolOptions(recover=True)
LONG: Final = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1e12) SELECT count(*) FROM n"
)


class Counted(SpoolOpening):
    """Counts its steps, and is ended at one of them."""

    def __init__(self, last: int | None = None) -> None:
        super().__init__()
        self.steps = self.recovering_steps = 0
        self._last = last

    def step(self) -> None:
        self.steps += 1
        if self.is_recovering:
            self.recovering_steps = self.steps
        if self.steps == self._last:
            self.end()
        super().step()


class Waiting(SpoolOpening):
    """Does nothing at its first step but wait until it is ended."""

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.is_told = threading.Event(), threading.Event()

    def end(self) -> None:
        super().end()
        self.is_told.set()

    def step(self) -> None:
        self.waits.set()
        self.is_told.wait()
        super().step()


def files(folder: Path) -> dict[str, bytes]:
    """What is there; SQLite makes the shared memory anew."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("is_damaged", [True, False])
async def test_ended_at_any_step_it_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: float, *, is_damaged: bool
) -> None:
    monkeypatch.setattr(opening, "_STEPS", 100)  # so small a spool has else no long statement
    monkeypatch.setattr(draft, "_SYNC_S", 0.0)
    monkeypatch.setattr(os, "fdatasync", lambda _: None)
    clock, path, trial = FakeClock(), tmp_path / "one" / "spool.db", tmp_path / "two" / "spool.db"
    path.parent.mkdir()
    trial.parent.mkdir()
    original = await build(path, clock, leave_log=True)
    if is_damaged:
        overwrite(Path(f"{path}-wal"), [30, 31], lambda: bytes(PAGE_BYTES))
    before = files(path.parent)
    for name, content in before.items():
        trial.with_name(name).write_bytes(content)
    whole = Counted()
    SpoolStore(trial, RECOVERING, clock, opening=whole).close()
    steps = whole.recovering_steps if is_damaged else whole.steps
    assert steps > len(before["spool.db-wal"]) // PAGE_BYTES

    ended = Counted(last=max(1, int(part * steps)))
    with pytest.raises(SpoolUnavailableError, match="ended"):
        SpoolStore(path, RECOVERING, clock, opening=ended)
    assert files(path.parent) == before
    with closing(SpoolStore(path, RECOVERING, clock)) as store:
        assert (store.recovery is not None) == is_damaged
        found = store.records(0, 10_000)
    assert_unaltered([record for record in found if record.code != "doubtful"], original)
    assert len(found) == len(original)


async def test_a_statement_that_says_nothing_ends_too() -> None:
    """As the check of a file does, before SQLite 3.41."""
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        work = SpoolOpening()

        def run() -> None:
            with work.over(connection, lambda: None):
                connection.execute(LONG).fetchall()

        async with anyio.create_task_group() as tasks:

            async def job() -> None:
                with pytest.raises(SpoolUnavailableError, match="ended"):
                    await anyio.to_thread.run_sync(run)
                tasks.cancel_scope.cancel()

            tasks.start_soon(job)
            while True:
                work.end()
                await anyio.sleep(0.01)


async def test_a_check_that_was_interrupted_finds_no_damage(path: Path, clock: FakeClock) -> None:
    """SQLite then says that pages are missing."""
    await build(path, clock, leave_log=True)
    before = files(path.parent)
    work = SpoolOpening()

    def interrupted(*_: object) -> bool:
        work.end()
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database.Database, "_agrees", interrupted)
        with pytest.raises(SpoolUnavailableError, match="ended"):
            SpoolStore(path, SpoolOptions(), clock, opening=work)
    assert files(path.parent) == before


async def test_cancelled_it_ends_and_leaves_all_as_it_was(path: Path, clock: FakeClock) -> None:
    await build(path, clock, leave_log=True)
    before, work = files(path.parent), Waiting()
    async with anyio.create_task_group() as tasks:

        async def open_it() -> None:
            async with DurableSpool.open(path, clock=clock, options=RECOVERING, opening=work):
                pytest.fail("it was opened")

        tasks.start_soon(open_it)
        await anyio.to_thread.run_sync(work.waits.wait)
        tasks.cancel_scope.cancel()
    assert work.is_told.is_set()
    assert files(path.parent) == before


async def test_cancelled_before_it_began_it_ends(path: Path, clock: FakeClock) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with DurableSpool.open(path, clock=clock):
            pytest.fail("it was opened")
    assert scope.cancelled_caught


async def test_cancelled_as_it_was_done_it_leaves_nothing_open(path: Path, clock: FakeClock) -> None:
    class Deaf(Waiting):
        def step(self) -> None:
            self.waits.set()
            self.is_told.wait()

        def end(self) -> None:
            self.is_told.set()  # no statement hears of it, which would end it before it is done

    work = Deaf()
    async with anyio.create_task_group() as tasks:

        async def open_it() -> None:
            async with DurableSpool.open(path, clock=clock, options=RECOVERING, opening=work):
                pytest.fail("it was opened")

        await build(path, clock, leave_log=True)
        tasks.start_soon(open_it)
        await anyio.to_thread.run_sync(work.waits.wait)
        tasks.cancel_scope.cancel()
    assert [*files(path.parent)] == ["spool.db"]  # closed: SQLite has folded the log in


@pytest.mark.parametrize("place", [0, 3, 10, 30, 100, -3, -2, -1])
async def test_a_disk_that_does_not_take_the_new_file_costs_nothing(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """It says so once: at one sync, in the midst of a statement or not."""
    monkeypatch.setattr(opening, "_STEPS", 100)
    monkeypatch.setattr(draft, "_SYNC_S", 0.0)
    await build(path, clock, leave_log=True)
    overwrite(Path(f"{path}-wal"), [30, 31], lambda: bytes(PAGE_BYTES))
    before, syncs, fails_at = files(path.parent), 0, -1

    def sync(_: int) -> None:
        nonlocal syncs
        syncs += 1
        if syncs - 1 == fails_at:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", sync)
    SpoolStore(path, RECOVERING, clock).close()
    fails_at, syncs = range(syncs)[place], 0
    for file in path.parent.iterdir():
        file.unlink()
    for name, content in before.items():
        path.with_name(name).write_bytes(content)
    with pytest.raises(SpoolUnavailableError, match="Input/output error"):
        SpoolStore(path, RECOVERING, clock)
    assert files(path.parent) == before


@pytest.mark.parametrize("check", [True, False])
async def test_the_log_is_read_once(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, *, check: bool
) -> None:
    await build(path, clock, leave_log=True)
    looks = 0

    def count(*args: object) -> Log:
        nonlocal looks
        looks += 1
        return read_log(*args)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(database, "read_log", count)
    SpoolStore(path, SpoolOptions(check=check), clock).close()
    assert looks == 1
