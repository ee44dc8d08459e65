"""Requests that wait share a transaction; none fails, or waits, for another's sake."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from reference_server.group_commit import _LONG_S, GroupCommit
from reference_server.storage.errors import StorageError, StorageUnavailableError
from tests.patience import PATIENCE_S
from tests.server.conftest import Api, StartServer, sample

pytestmark = pytest.mark.anyio


class Commits:
    """Stands in for the database: doubles numbers, slowly, and refuses some."""

    def __init__(self, *, away: bool = False) -> None:
        self.groups: list[list[int]] = []
        self._away = away

    async def __call__(self, works: Sequence[int]) -> list[int]:
        self.groups.append(list(works))
        await asyncio.sleep(0.01)
        if self._away:
            raise StorageUnavailableError
        if 13 in works:
            raise StorageError("13 cannot be stored")
        if 17 in works:
            raise ZeroDivisionError
        return [work * 2 for work in works]

    def group(self, limit: int = 100, beside: int = 5) -> GroupCommit[int, int]:
        return GroupCommit(self, weight=lambda _: 1, limit=limit, beside=beside)


class Held:
    """Commits that last until they are let go."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.let_go = asyncio.Event()
        self._more = asyncio.Condition()

    async def __call__(self, works: Sequence[int]) -> list[int]:
        async with self._more:
            self.groups.append(list(works))
            self._more.notify_all()
        await self.let_go.wait()
        return list(works)

    async def begun(self, count: int) -> None:
        async with self._more:
            await self._more.wait_for(lambda: len(self.groups) >= count)


async def test_what_arrives_while_the_writers_are_busy_shares_a_commit() -> None:
    commits = Commits()
    group = commits.group(limit=5)
    results = await asyncio.gather(*(group.submit(number) for number in range(10)))
    assert results == [number * 2 for number in range(10)]
    assert sorted(number for works in commits.groups for number in works) == list(range(10))
    assert max(map(len, commits.groups)) == 5
    assert await group.submit(50) == 100


async def test_what_the_event_loop_is_at_shares_a_commit_though_no_writer_is_busy() -> None:
    commits = Commits()
    group = commits.group()

    async def submit(number: int) -> int:
        for _ in range(number):
            await asyncio.sleep(0)
        return await group.submit(number)

    assert await asyncio.gather(*map(submit, range(12))) == [number * 2 for number in range(12)]
    assert commits.groups == [list(range(12))]


async def submitted(group: GroupCommit[int, int], numbers: Iterable[int]) -> list[asyncio.Task[int]]:
    """Submit, and wait for the event loop to have been at all of it."""
    tasks = [asyncio.create_task(group.submit(number)) for number in numbers]
    for _ in range(20):
        await asyncio.sleep(0)
    return tasks


async def test_little_waits_for_a_quick_transaction_but_much_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reference_server.group_commit._LONG_S", PATIENCE_S)
    held = Held()
    group = GroupCommit(held, weight=lambda _: 1, limit=100, beside=5)
    tasks = await submitted(group, [0])
    tasks += await submitted(group, range(1, 5))
    assert held.groups == [[0]]
    tasks += await submitted(group, [5])
    assert held.groups == [[0], [1, 2, 3, 4, 5]]
    tasks += await submitted(group, range(6, 20))  # a third one there never is
    assert len(held.groups) == 2
    held.let_go.set()
    assert await asyncio.gather(*tasks) == list(range(20))
    assert held.groups[2:] == [list(range(6, 20))]


@pytest.mark.parametrize("away", [False, True])
async def test_what_comes_right_after_a_transaction_is_not_left_alone(*, away: bool) -> None:
    group = Commits(away=away).group()
    answered = 0
    async with asyncio.timeout(PATIENCE_S):
        for number in range(3):
            with suppress(StorageUnavailableError):
                await group.submit(number)
            answered += 1
    assert answered == 3


async def test_what_found_no_room_in_a_transaction_goes_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_server.group_commit._LONG_S", PATIENCE_S)
    held = Held()
    group = GroupCommit(held, weight=lambda _: 1, limit=10, beside=5)
    tasks = await submitted(group, range(16))
    assert list(map(len, held.groups)) == [10, 6]
    held.let_go.set()
    assert await asyncio.gather(*tasks) == list(range(16))


async def test_nothing_waits_for_a_transaction_that_takes_long() -> None:
    held = Held()
    group = GroupCommit(held, weight=lambda _: 1, limit=100, beside=1_000)
    tasks = await submitted(group, [0])
    tasks += await submitted(group, [1])
    async with asyncio.timeout(PATIENCE_S):
        await held.begun(2)
    held.let_go.set()
    assert await asyncio.gather(*tasks) == [0, 1]
    held.let_go.clear()  # nor what comes when it has taken long already
    held.groups.clear()
    tasks = await submitted(group, [2])
    await asyncio.sleep(2 * _LONG_S)  # its timer comes before this one
    tasks += await submitted(group, [3])
    assert held.groups == [[2], [3]]
    held.let_go.set()
    assert await asyncio.gather(*tasks) == [2, 3]
    assert not group._long


async def test_one_that_cannot_be_stored_fails_alone() -> None:
    commits = Commits()
    group = commits.group()
    numbers = [0, 1, 2, 13, 4, 17, 6]
    results = await asyncio.gather(*map(group.submit, numbers), return_exceptions=True)
    failed = {number: type(r) for number, r in zip(numbers, results, strict=True) if isinstance(r, Exception)}
    assert failed == {13: StorageError, 17: ZeroDivisionError}
    assert [r for r in results if isinstance(r, int)] == [0, 2, 4, 8, 12]


async def test_a_database_that_is_away_is_not_asked_for_each() -> None:
    commits = Commits(away=True)
    group = commits.group()
    results = await asyncio.gather(*map(group.submit, range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {StorageUnavailableError}
    assert len(commits.groups) <= 3


async def test_who_gives_up_takes_nobody_along() -> None:
    commits = Commits()
    group = commits.group()
    tasks = [asyncio.create_task(group.submit(number)) for number in range(5)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [r for r in results if isinstance(r, int)] == [0, 2, 4, 8]


async def test_every_request_gets_its_own_verdicts(api: Api) -> None:
    await api.ingest(sample(0, pv_power_w=1))
    asked: list[tuple[list[Any], dict[str, Any]]] = []
    for number in range(30):
        items = [
            sample(0, pv_power_w=1 + number % 2),
            sample(10 + number, device_id="sh-2", inverter_temp_c=20, newer=number),
            sample(10_000),
            number,
            sample(0, load_power_w=number),
            sample(10 + number, device_id="sh-2", inverter_temp_c=999),
        ]
        asked.append((items, {"batch_id": f"b-{number}"}))
    answers = await asyncio.gather(*(api.ingest(*items, **envelope) for items, envelope in asked))
    for number, answer in enumerate(answers):
        assert answer["batch_id"] == f"b-{number}"
        assert (answer["inserted"], answer["duplicates"]) == (1, 2 - number % 2)
        assert [c["index"] for c in answer["conflicts"]] == ([0, 5] if number % 2 else [5])
        assert [d["index"] for d in answer["deferred"]] == [2]
        assert [r["index"] for r in answer["rejected"]] == [3]
    assert api.rows("SELECT count(*) FROM samples") == [(31,)]


async def test_two_servers_take_the_same_readings_at_once(start_server: StartServer) -> None:
    async with start_server() as one, start_server() as other:
        batches = [[sample(i / 10 + 5 * n, pv_power_w=i) for i in range(40)] for n in range(8)]
        answers = await asyncio.gather(*(api.ingest(*batch) for batch in batches for api in (one, other)))
        assert sum(answer["inserted"] for answer in answers) == 320
        assert sum(answer["duplicates"] for answer in answers) == 320
        assert one.rows("SELECT count(*) FROM samples") == [(320,)]
