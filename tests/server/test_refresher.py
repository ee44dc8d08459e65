"""The refresher leaves the database to ingest, but never falls behind without bound."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from reference_server import rollups
from reference_server.rollups import RollupRefresher
from reference_server.storage.database import Database
from reference_server.storage.horizon import Horizon
from reference_server.storage.rollups import lock_device, refresh_shards
from tests.server.conftest import NOW, TOKEN, Api, StartServer, nothing_to_repair, sample

pytestmark = pytest.mark.anyio

HORIZON = Horizon(timedelta(days=400), lambda: NOW)


class EndError(Exception):
    """The play is over."""


@dataclass
class World:
    """A database whose time goes by only while somebody works or sleeps.

    Attributes:
        end: when the play is over.
        every_s: from one mark to the next; they come in turn to two shards.
        until: when marks stop coming.
        cost_s: it takes so long to work one off.
        taken: shards that were refreshed together.
        at_once: so many in one transaction at most.
    """

    end: float
    every_s: float
    until: float
    cost_s: float
    at_once: int = 100
    now: float = 0.0
    came: int = 0
    marks: list[deque[tuple[int, float]]] = field(default_factory=lambda: [deque(), deque()])
    worked_s: float = 0.0
    slept_s: list[float] = field(default_factory=list)
    worst_lag_s: float = 0.0
    taken: list[list[int]] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += seconds
        while self.came * self.every_s < min(self.now, self.until):
            self.came += 1
            self.marks[self.came % 2].append((self.came, self.came * self.every_s))
        oldest = min((marks[0][1] for marks in self.marks if marks), default=self.now)
        self.worst_lag_s = max(self.worst_lag_s, self.now - oldest)
        if self.now >= self.end:
            raise EndError

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.go_on(seconds)

    async def rows(self, name: str, **_: Any) -> list[tuple[Any, ...]]:
        if name == "marked_shards":
            return [(shard, marks[-1][0], len(marks)) for shard, marks in enumerate(self.marks) if marks]
        return [(max((marks[-1][0] for marks in self.marks if marks), default=None),)]

    async def nothing_to_repair(self, _: object, **__: Any) -> bool:
        return True

    async def refresh_shards(self, _: object, shards: list[int], *, newest: int, **__: Any) -> int:
        self.taken.append(list(shards))
        count = 0
        for marks in (self.marks[shard] for shard in shards):
            while marks and marks[0][0] <= newest and count < self.at_once:
                marks.popleft()
                count += 1
        self.worked_s += count * self.cost_s
        self.go_on(count * self.cost_s)
        return count


async def play(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "monotonic", world.clock)
    monkeypatch.setattr(rollups, "asyncio", SimpleNamespace(sleep=world.sleep))
    monkeypatch.setattr(rollups, "refresh_shards", world.refresh_shards)
    monkeypatch.setattr(rollups, "MARKS_AT_ONCE", world.at_once)
    monkeypatch.setattr(rollups, "mark_silences", world.nothing_to_repair)
    refresher = RollupRefresher(world, horizon=HORIZON, interval_s=2.0, clock=lambda: NOW)  # type: ignore[arg-type]  # plays one
    with suppress(EndError):
        await refresher.run()


async def test_under_load_that_takes_more_than_its_share_it_is_never_far_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(end=3600, every_s=0.1, until=3600, cost_s=0.08)  # a tenth of the time would not do
    await play(world, monkeypatch)
    assert world.worst_lag_s < 5 * 60
    assert world.worked_s > 0.7 * world.end


async def test_under_load_that_it_keeps_up_with_it_works_a_tenth_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(end=60, every_s=0.1, until=60, cost_s=0.004)
    await play(world, monkeypatch)
    pauses = [seconds for seconds in world.slept_s if seconds != 2.0]
    assert sum(pauses) > 7 * world.worked_s
    assert world.worst_lag_s < 10


async def test_while_nothing_comes_it_works_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(end=40, every_s=0.0001, until=1, cost_s=0.001)
    await play(world, monkeypatch)
    assert world.came == 10_000
    assert not any(world.marks)
    assert world.worst_lag_s < 2 + 11


async def test_a_mark_that_comes_meanwhile_waits_for_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(end=1e9, every_s=0.01, until=1e9, cost_s=0.02)  # more than can be done
    world.go_on(1)
    monkeypatch.setattr(rollups, "refresh_shards", world.refresh_shards)
    refresher = RollupRefresher(world, horizon=HORIZON, interval_s=2, clock=lambda: NOW)  # type: ignore[arg-type]  # plays one
    await refresher.refresh_all()
    assert world.came > 100
    assert min(mark for marks in world.marks for mark, _ in marks) == 101


async def test_all_that_waits_is_worked_off_however_much_it_is(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("reference_server.rollups", "reference_server.storage.rollups"):
        monkeypatch.setattr(f"{module}.MARKS_AT_ONCE", 3)
    await api.ingest(*(sample(-900 * n, device_id=name) for n in range(20) for name in ("sh-1", "sh-2")))
    assert api.rows("SELECT count(*) > 30 FROM rollup_marks") == [(True,)]
    assert api.server.refresher.refreshed_at is None
    await api.server.refresher.refresh_all()
    assert api.rows("SELECT count(*) FROM rollup_marks") == [(0,)]
    assert api.rows("SELECT sum(sample_count) FROM rollup_15m") == [(40,)]
    assert api.server.refresher.refreshed_at == NOW


async def test_shards_with_few_marks_share_a_transaction(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, int]] = []

    async def refresh(database: Database, shards: Collection[int], **options: Any) -> int:
        done = await refresh_shards(database, shards, **options)
        taken.append((len(shards), done))
        return done

    monkeypatch.setattr(rollups, "refresh_shards", refresh)
    names = [f"sh-{n}" for n in range(6)]
    async with start_server(device_tokens=",".join(f"{TOKEN}:{name}" for name in names)) as api:
        for name in names[:-1]:
            await api.ingest(sample(device_id=name))
        await api.ingest(*(sample(-900 * n, device_id=names[-1]) for n in range(7)))
        await api.server.refresher.refresh_all()
        assert taken == [(6, 12)]
        assert api.rows("SELECT sum(sample_count) FROM rollup_15m") == [(12,)]
        assert api.rows("SELECT count(*) FROM rollup_marks") == [(0,)]


async def test_shards_whose_marks_take_long_have_transactions_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(end=1e9, every_s=0.1, until=1e9, cost_s=0.1)
    for name, value in (("monotonic", world.clock), ("refresh_shards", world.refresh_shards)):
        monkeypatch.setattr(rollups, name, value)
    refresher = RollupRefresher(world, horizon=HORIZON, interval_s=2, clock=lambda: NOW)  # type: ignore[arg-type]  # plays one
    for _ in range(3):
        world.go_on(1)
        await refresher.refresh_all()
    assert world.taken[0] == [0, 1]  # nobody knew
    assert sorted(world.taken[1:]) == [[0], [0], [1], [1]]
    world.cost_s = 0.0001
    for _ in range(12):
        world.go_on(1)
        await refresher.refresh_all()
    assert world.taken[-1] == [0, 1]


async def test_a_shard_that_another_process_is_at_does_not_hold_up_the_others(api: Api) -> None:
    await api.ingest(sample(device_id="sh-1"))
    await api.ingest(sample(device_id="sh-2"))
    [(device,)] = api.rows("SELECT device FROM devices WHERE device_id = 'sh-1'")
    async with await psycopg.AsyncConnection.connect(api.dsn) as other:
        await lock_device(other, device)  # type: ignore[arg-type]  # any connection will do
        await api.server.refresher.refresh_all()
        assert api.rows("SELECT device FROM rollup_marks") == [(device,)]
        assert api.rows(f"SELECT device = {device} FROM rollup_15m") == [(False,)]
    await api.server.refresher.refresh_all()
    assert api.rows("SELECT count(*) FROM rollup_marks") == [(0,)]
    assert api.rows("SELECT count(*) FROM rollup_15m") == [(2,)]


async def test_a_new_database_has_nothing_to_repair_later(api: Api) -> None:
    """It is written down before the first reading comes: nobody looks through all devices after it."""
    await nothing_to_repair(api)
    assert api.server.refresher.refreshed_at is None


async def test_readers_do_not_wait_for_an_import(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """They get what the rollups know, and what is missing as soon as the import has ended."""
    monkeypatch.setattr(rollups, "_READER_WAITS_S", 0.0)
    await api.ingest(sample(pv_power_w=100))

    async def counted() -> list[int]:
        status, answer = await api.get("/v1/series", device_id="sh-1", frame="day")
        assert status == 200, answer
        return [bucket["sample_count"] for bucket in answer["series"] if bucket["sample_count"]]

    assert await counted() == [1]
    [(device,)] = api.rows("SELECT device FROM devices WHERE device_id = 'sh-1'")
    async with await psycopg.AsyncConnection.connect(api.dsn) as importing:
        await importing.execute("SET statement_timeout = 0")
        await lock_device(importing, device)  # type: ignore[arg-type]  # any connection will do
        await api.ingest(sample(10, pv_power_w=100))
        assert await counted() == [1]
        for path in ("completeness", "events"):
            status, answer = await api.get(
                f"/v1/{path}",
                device_id="sh-1",
                **{"from": "2026-06-14T00:00:00Z", "to": "2026-06-15T12:00:00Z"},
            )
            assert status == 200, answer
    assert await counted() == [2]


async def test_a_reader_waits_for_a_short_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy(World):
        tries = 0

        async def rows(self, name: str, **_: Any) -> list[tuple[Any, ...]]:
            assert name == "device_is_marked"
            return [(bool(self.marks[0]),)]

        async def refresh_shards(self, _: object, shards: list[int], *, newest: int = 99, **__: Any) -> int:
            self.tries += 1
            return await super().refresh_shards(self, shards, newest=newest) if self.now > 1 else 0

    world = Busy(end=1e9, every_s=1, until=2, cost_s=0)
    world.go_on(0.9)
    world.marks = [deque([(1, 0.0)]), deque()]
    for name, value in (("monotonic", world.clock), ("refresh_shards", world.refresh_shards)):
        monkeypatch.setattr(rollups, name, value)
    monkeypatch.setattr(rollups, "asyncio", SimpleNamespace(sleep=world.sleep))
    refresher = RollupRefresher(world, horizon=HORIZON, interval_s=2, clock=lambda: NOW)  # type: ignore[arg-type]  # plays one
    await refresher.refresh_device(16)
    assert not world.marks[0]
    assert world.tries > 1


async def test_readers_leave_connections_to_readings_that_arrive(start_server: StartServer) -> None:
    async with start_server(database_pool_size=2) as api:
        await api.ingest(sample(pv_power_w=100))
        await api.get("/v1/series", device_id="sh-1", frame="day")  # or the refresher may wait, too
        with psycopg.connect(api.dsn) as other:
            other.execute("LOCK TABLE rollup_15m IN ACCESS EXCLUSIVE MODE")
            readers = {
                asyncio.create_task(api.get("/v1/series", device_id="sh-1", frame="day")) for _ in range(6)
            }
            waiting = readers
            while len(waiting) > 1:  # the others are told to come again
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                assert [reader.result()[0] for reader in done] == [503] * len(done)
                await api.ingest(sample(len(waiting), device_id="sh-2"))
                assert (await api.get("/health"))[0] == 200
        await asyncio.wait(readers)
        assert {reader.result()[0] for reader in readers} <= {200, 503}
