"""A device's last date is remembered between readings: never anything else than the file would say."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import astuple
from functools import partial
from pathlib import Path

import pytest

from sungrow_lib.errors import SpoolCorruptError, SpoolFullError
from sungrow_lib.spool import Judged, Lane, Settlement, SpoolOptions, SpoolState, schema
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON_MS, FakeClock

_DEVICES = ("one", "two")


@pytest.fixture
def store(path: Path, clock: FakeClock) -> Iterator[SpoolStore]:
    with closing(SpoolStore(path, SpoolOptions(), clock)) as opened:
        yield opened


def append(store: SpoolStore, ts: int, device_id: str = "one") -> int:
    return store.append(device_id, ts, "{}", boot=None, ts_is_final=True).ts_ms


def look(store: SpoolStore) -> dict[int, tuple[int, ...]]:
    """What the file says of each device that something is remembered of."""
    with store._database.read() as connection:
        return {
            device: connection.execute(schema.DATES, (device,)).fetchone() for device in store._dating._known
        }


def test_two_programs_on_one_file_never_give_a_date_twice(path: Path, clock: FakeClock) -> None:
    with (
        closing(SpoolStore(path, SpoolOptions(), clock)) as one,
        closing(SpoolStore(path, SpoolOptions(), clock)) as two,
    ):
        dates = [append(each, NOON_MS) for each in (one, one, two, two, one, two, one, one)]
    assert dates == list(range(NOON_MS, NOON_MS + 8))


def test_a_reading_that_was_rolled_back_raises_nothing(store: SpoolStore) -> None:
    append(store, NOON_MS)
    connection = store._database._connection
    assert connection is not None
    connection.execute(
        "CREATE TEMP TRIGGER refuse BEFORE INSERT ON main.standing BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(SpoolCorruptError, match="no"):
        append(store, NOON_MS + 600_000)
    connection.execute("DROP TRIGGER refuse")
    assert append(store, NOON_MS + 5_000) == NOON_MS + 5_000


def test_a_reading_called_future_counts_once_it_is_delivered(store: SpoolStore) -> None:
    ahead = append(store, NOON_MS + 3_600_000)
    store.offer("one", 1, Lane.FRESH)
    store.settle("one", Settlement(deferred=[Judged(1, "future", "")]))
    store.requeue([1])
    assert append(store, NOON_MS) == NOON_MS
    store.settle_later("one", Settlement(delivered=[1]))
    assert append(store, NOON_MS + 5_000) == ahead + 1


def test_a_file_that_is_opened_anew_is_asked_anew(path: Path, clock: FakeClock) -> None:
    with (
        closing(SpoolStore(path, SpoolOptions(), clock)) as one,
        closing(SpoolStore(path, SpoolOptions(), clock)) as two,
    ):
        append(one, NOON_MS)
        append(two, NOON_MS)
        one._database.give_up()  # as after a transaction that could not be rolled back
        append(two, NOON_MS + 5_000)
        assert append(one, NOON_MS) == NOON_MS + 5_001


class Life:
    """Does to a spool, and beside it, whatever happens to one."""

    def __init__(self, store: SpoolStore, other: SpoolStore, clock: FakeClock, seed: int) -> None:
        self.store, self.other, self.clock = store, other, clock
        self.chance = random.Random(seed)
        self.remembered = 0
        self.deeds: list[Callable[[str], object]] = [self.append] * 12
        self.deeds += [self.append_many, self.fail, self.settle, self.requeue, self.set_clock, self.tidy]

    def step(self) -> None:
        self.clock.pass_s(5)
        self.chance.choice(self.deeds)(self.chance.choice(_DEVICES))
        if self.is_current():
            assert look(self.store) == {
                key: astuple(dates) for key, dates in self.store._dating._known.items()
            }
            self.remembered += len(self.store._dating._known)

    def is_current(self) -> bool:
        """Whether nobody else has changed the file since."""
        with self.store._database.read() as connection:
            version = connection.execute("PRAGMA data_version").fetchone()
        dating = self.store._dating
        return connection is dating._connection and bool(version == dating._version)

    def append(self, device_id: str) -> None:
        store = self.other if self.chance.random() < 0.1 else self.store
        is_final = self.chance.random() < 0.2
        store.append(device_id, self.clock.wall_ms, "{}", boot=self.clock.stamp(), ts_is_final=is_final)

    def append_many(self, device_id: str) -> None:
        now, stamp = self.clock.wall_ms, self.clock.stamp()
        self.store.append_many([(device_id, now + n, "{}", stamp) for n in range(3)])

    def fail(self, device_id: str) -> None:
        with suppress(SpoolFullError), self.store._settling as connection:
            now = self.clock.read()
            self.store._add(connection, now, device_id, now.wall_ms, "{}", None, ts_is_final=True)
            raise SpoolFullError("as if")

    def settle(self, device_id: str) -> None:
        seqs = [e.seq for e in self.store.offer(device_id, 3, self.chance.choice(list(Lane)))]
        code = "future" if self.chance.random() < 0.3 else "device_deleted"
        put_off, judged = ([Judged(seq, word, "") for seq in seqs] for word in (code, "differs"))
        match self.chance.randrange(4):
            case 0:
                self.store.settle_later(device_id, Settlement(delivered=seqs))
            case 1:
                self.store.settle(device_id, Settlement(delivered=seqs))
            case 2:
                self.store.settle(device_id, Settlement(deferred=put_off, retry_in_s=20))
            case 3:
                self.store.settle(device_id, Settlement(conflicts=judged[:1], rejected=judged[1:]))

    def requeue(self, _device_id: str) -> None:
        apart = (SpoolState.DEFERRED, SpoolState.REJECTED, SpoolState.CONFLICT)
        seqs = [r.entry.seq for r in self.store.records(0, 1000) if r.entry.state in apart]
        self.chance.choice([self.store, self.other]).requeue(seqs[:2])

    def set_clock(self, _device_id: str) -> None:
        self.clock.synchronised = self.chance.random() < 0.7
        self.clock.step_s(self.chance.choice([-7200, -1, 0, 0, 0, 1, 7200]))

    def tidy(self, device_id: str) -> None:
        reoffer = partial(self.store.reoffer, device_id, SpoolState.REJECTED, 0)
        tidying: list[Callable[[], object]] = [self.store.prune, self.store.release, reoffer]
        self.chance.choice(tidying)()


@pytest.mark.parametrize("seed", range(6))
def test_what_is_remembered_is_what_the_file_says(
    path: Path, store: SpoolStore, clock: FakeClock, seed: int
) -> None:
    with closing(SpoolStore(path, SpoolOptions(), clock)) as other:
        life = Life(store, other, clock, seed)
        for _ in range(300):
            life.step()
    assert store.faults() == []
    assert life.remembered > 20
