"""While the server answers, a reading costs one commit: what else is to be noted goes with the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sungrow_lib.errors import SpoolError
from sungrow_lib.spool import DurableSpool, Judged, Lane, Settlement, SpoolState
from sungrow_lib.spool.settling import LATEST_MS
from tests.spool.helpers import FakeClock, reading

pytestmark = pytest.mark.anyio


@contextmanager
def nothing_written(path: Path) -> Iterator[None]:
    before = log(path)
    yield
    assert log(path) == before


def log(path: Path) -> bytes:
    return Path(f"{path}-wal").read_bytes()


async def states(spool: DurableSpool) -> dict[int, tuple[SpoolState, bool]]:
    return {r.entry.seq: (r.entry.state, r.offered) async for r in spool.records()}


async def as_another_program_sees_it(path: Path) -> dict[int, tuple[SpoolState, bool]]:
    """What a power cut now would leave."""
    async with DurableSpool.open(path) as other:
        return await states(other)


async def test_an_answer_is_noted_with_the_next_reading(
    spool: DurableSpool, path: Path, clock: FakeClock
) -> None:
    first = await spool.append(reading(ts=clock.now()))
    await spool.offer("inv", 10)
    with nothing_written(path):
        await spool.settle_later("inv", Settlement(delivered=[first.seq]))
        assert await spool.offer("inv", 10) == []
        assert await spool.peek("inv", 10) == []
    assert (await as_another_program_sees_it(path))[first.seq] == (SpoolState.PENDING, True)
    clock.pass_s(5)
    await spool.append(reading(ts=clock.now()))
    assert (await as_another_program_sees_it(path))[first.seq] == (SpoolState.DELIVERED, True)


async def test_whoever_looks_sees_it_at_once(spool: DurableSpool, path: Path, clock: FakeClock) -> None:
    for look in (spool.counts, lambda: states(spool), lambda: spool.last_delivered("inv")):
        clock.pass_s(5)
        entry = await spool.append(reading(ts=clock.now()))
        await spool.offer("inv", 10)
        await spool.settle_later("inv", Settlement(delivered=[entry.seq]))
        await look()
        assert (await as_another_program_sees_it(path))[entry.seq][0] is SpoolState.DELIVERED


async def test_the_answers_for_others_can_wait_while_one_device_is_sent(
    spool: DurableSpool, path: Path, clock: FakeClock
) -> None:
    one = await spool.append(reading("one", clock.now()))
    await spool.append(reading("two", clock.now()))
    await spool.offer("one", 10)
    await spool.offer("two", 10)
    await spool.settle_later("one", Settlement(delivered=[one.seq]))
    with nothing_written(path):
        assert await spool.last_delivered("two") == []
    assert await spool.last_delivered("one") == [one.ts]


async def test_without_readings_it_is_noted_soon_all_the_same(
    spool: DurableSpool, path: Path, clock: FakeClock
) -> None:
    entry = await spool.append(reading(ts=clock.now()))
    await spool.offer("inv", 10)
    await spool.settle_later("inv", Settlement(delivered=[entry.seq]))
    with nothing_written(path):
        await spool.release_waiting()
    clock.pass_s(LATEST_MS / 1000)
    await spool.release_waiting()
    assert (await as_another_program_sees_it(path))[entry.seq][0] is SpoolState.DELIVERED


async def test_it_is_noted_at_the_end(path: Path, clock: FakeClock) -> None:
    async with DurableSpool.open(path, clock=clock) as spool:
        entry = await spool.append(reading(ts=clock.now()))
        await spool.settle_later("inv", Settlement(delivered=[entry.seq]))
    assert (await as_another_program_sees_it(path))[entry.seq][0] is SpoolState.DELIVERED


async def test_what_cannot_be_noted_waits_on(spool: DurableSpool, clock: FakeClock) -> None:
    entry = await spool.append(reading(ts=clock.now()))
    await spool.offer("inv", 10)
    await spool.settle_later("inv", Settlement(delivered=[entry.seq]))
    connection = spool._store._database._connection
    assert connection is not None
    connection.execute("PRAGMA query_only = ON")  # like a disk that takes nothing
    with pytest.raises(SpoolError):
        await spool.append(reading(ts=clock.now()))
    connection.execute("PRAGMA query_only = OFF")
    assert await spool.offer("inv", 10) == []
    assert (await spool.counts()).delivered == 1


async def test_all_is_offered_again_though_answers_waited(spool: DurableSpool, clock: FakeClock) -> None:
    entry = await spool.append(reading(ts=clock.now()))
    await spool.offer("inv", 10)
    await spool.settle_later("inv", Settlement(delivered=[entry.seq]))
    assert await spool.reoffer("inv") == 1
    assert [e.seq for e in await spool.offer("inv", 10)] == [entry.seq]
    assert await spool.last_delivered("inv") == []


async def test_an_offer_that_is_expected_is_noted_with_the_reading(
    spool: DurableSpool, path: Path, clock: FakeClock
) -> None:
    await spool.expect_offers("inv", are_expected=True)
    entry = await spool.append(reading(ts=clock.now()))
    with nothing_written(path):
        assert [e.seq for e in await spool.offer("inv", 10)] == [entry.seq]
    assert await states(spool) == {entry.seq: (SpoolState.PENDING, True)}
    await spool.expect_offers("inv", are_expected=False)
    clock.pass_s(5)
    later = await spool.append(reading(ts=clock.now()))
    assert (await states(spool))[later.seq] == (SpoolState.PENDING, False)
    await spool.offer("inv", 10, Lane.FRESH)
    assert (await as_another_program_sees_it(path))[later.seq] == (SpoolState.PENDING, True)


async def test_a_reading_without_a_date_is_never_noted_as_offered(
    spool: DurableSpool, clock: FakeClock
) -> None:
    clock.synchronised = False
    await spool.expect_offers("inv", are_expected=True)
    entry = await spool.append(reading(ts=clock.now()))
    assert await states(spool) == {entry.seq: (SpoolState.WAITING, False)}


async def test_an_answer_with_a_complaint_is_noted_after_those_that_waited(
    spool: DurableSpool, clock: FakeClock
) -> None:
    first = await spool.append(reading(ts=clock.now()))
    clock.pass_s(5)
    second = await spool.append(reading(ts=clock.now()))
    await spool.offer("inv", 10)
    await spool.settle_later("inv", Settlement(delivered=[first.seq]))
    await spool.settle("inv", Settlement(rejected=[Judged(second.seq, "type", "no")]))
    counts = await spool.counts()
    assert (counts.delivered, counts.rejected, counts.pending) == (1, 1, 0)
