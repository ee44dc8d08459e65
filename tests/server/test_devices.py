"""Devices are looked up together, and what is remembered of them is never old."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reference_server.storage import devices as devices_module
from reference_server.storage.database import Database
from reference_server.storage.devices import Devices
from reference_server.storage.errors import StorageUnavailableError

pytestmark = pytest.mark.anyio


class Asked(Database):
    """Knows every device but the unknown, and what it was asked for."""

    def __init__(self) -> None:
        super().__init__("")
        self.asked: list[set[str]] = []
        self.away = False

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        assert name == "find_devices"
        self.asked.append(set(parameters["device_ids"]))
        await asyncio.sleep(0)
        if self.away:
            raise StorageUnavailableError
        return [(1, name, None, 5.0, None, 1) for name in parameters["device_ids"] if name != "unknown"]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [100.0]
    monkeypatch.setattr(devices_module, "monotonic", lambda: time[0])
    return time


async def test_all_that_were_asked_for_are_looked_up_at_once(now: list[float]) -> None:
    database = Asked()
    devices = Devices(database)
    for name in "abc":
        assert list(await devices.find([name])) == [name]
    assert database.asked == [{"a"}, {"b"}, {"c"}]
    now[0] += 0.5
    assert list(await devices.find(["b", "a"])) == ["b", "a"]
    now[0] += 0.5
    await asyncio.gather(*(devices.find([name]) for name in "abcab"))
    assert database.asked[3:] == [{"a", "b", "c"}]
    now[0] += 1
    await asyncio.gather(*(devices.find([name]) for name in "ccbba"))
    assert database.asked[4:] == [{"a", "b", "c"}]


async def test_an_unknown_device_is_looked_up_each_time() -> None:
    database = Asked()
    devices = Devices(database)
    assert await devices.find(["unknown"]) == {}
    assert await devices.find(["unknown"]) == {}
    assert len(database.asked) == 2


async def test_a_failed_look_fails_those_who_wait_for_it_and_no_other() -> None:
    database = Asked()
    devices = Devices(database)
    database.away = True
    results = await asyncio.gather(devices.find(["a"]), devices.find(["a"]), return_exceptions=True)
    assert [type(result) for result in results] == [StorageUnavailableError] * 2
    database.away = False
    assert list(await devices.find(["a"])) == ["a"]


async def test_who_gives_up_takes_nobody_along() -> None:
    devices = Devices(Asked())
    first, second = (asyncio.create_task(devices.find(["a"])) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert list(await second) == ["a"]


class Adding(Database):
    """Knows devices once they are added, and takes its time for both."""

    def __init__(self) -> None:
        super().__init__("")
        self.known: set[str] = set()
        self.looks = 0
        self.adds = asyncio.Event()
        self.may_add = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        if name == "add_devices":
            self.adds.set()
            await self.may_add.wait()
            self.known.update(parameters["device_ids"])
            return []
        self.looks += 1
        seen = [(1, name, None, 5.0, None, 1) for name in parameters["device_ids"] if name in self.known]
        if self.looks == 2:
            await self.may_answer.wait()
        return seen


async def test_a_new_device_is_not_looked_for_by_who_began_before_it_was_added() -> None:
    database = Adding()
    devices = Devices(database)
    adding = asyncio.create_task(devices.find_or_add(["a"]))
    await database.adds.wait()
    other = asyncio.create_task(devices.find(["a"]))
    while database.looks < 2:  # noqa: ASYNC110 - nothing else tells
        await asyncio.sleep(0)
    database.may_add.set()
    for _ in range(20):
        await asyncio.sleep(0)
    database.may_answer.set()
    assert list(await adding) == ["a"]
    assert await other == {}
    assert list(await devices.find(["a"])) == ["a"]
