"""Large batches wait for room instead of taking all memory; nobody is refused, and small ones never wait."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from reference_server import room as rooms
from reference_server.room import SIZE, SMALL, Place, Room, size_of
from tests.server.conftest import Api, StartServer, sample
from tests.server.load import client, recent
from tests.server.test_processes import _free_port, running, until_healthy

pytestmark = [pytest.mark.anyio, pytest.mark.one_engine]

_PATIENCE_S = 120.0
_UNIT = 2 * SMALL


async def _enter(place: Place, size: int, order: list[int], number: int, leave: asyncio.Event) -> None:
    async with place:
        await place.take(size)
        order.append(number)
        await leave.wait()


async def _rounds() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_places_are_taken_in_the_order_in_which_they_are_asked_for() -> None:
    room, order, leave = Room(3 * _UNIT), list[int](), [asyncio.Event() for _ in range(5)]
    sizes = [2, 2, 1, 9, 1]  # the third would fit, but the second came before; the fourth is larger than all
    tasks = []
    for number, size in enumerate(sizes):
        tasks.append(asyncio.create_task(_enter(room.place(), size * _UNIT, order, number, leave[number])))
    await _rounds()
    assert order == [0]
    leave[0].set()
    await _rounds()
    assert order == [0, 1, 2]
    leave[1].set()
    await _rounds()
    assert order == [0, 1, 2]
    leave[2].set()
    await _rounds()
    assert order == [0, 1, 2, 3]
    leave[3].set()
    leave[4].set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


async def test_who_gives_up_waiting_is_in_nobodys_way_and_takes_nothing() -> None:
    room, order, leave = Room(2 * _UNIT), list[int](), asyncio.Event()
    tasks = [
        asyncio.create_task(_enter(room.place(), size * _UNIT, order, number, leave))
        for number, size in enumerate([1, 2, 1])
    ]
    await _rounds()
    assert order == [0]
    tasks[1].cancel()
    await _rounds()
    assert order == [0, 2]
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(_PATIENCE_S):
        await room.place().take(2 * _UNIT)  # all of it is there again


async def test_who_is_let_in_and_cancelled_at_once_gives_its_room_back() -> None:
    room, order, leave = Room(_UNIT), list[int](), asyncio.Event()
    first = room.place()
    await first.take(_UNIT)
    waiting = asyncio.create_task(_enter(room.place(), _UNIT, order, 0, leave))
    await _rounds()
    await first.__aexit__(None, None, None)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert order == []
    async with asyncio.timeout(_PATIENCE_S):
        await room.place().take(_UNIT)


async def test_small_batches_need_no_room_and_decoded_ones_little() -> None:
    room = Room(3 * _UNIT)
    large = room.place()
    async with asyncio.timeout(_PATIENCE_S):
        await large.take(3 * _UNIT)
        await room.place().take(SMALL)
        large.arrived()
        await room.place().take(2 * _UNIT)


def _head(api: Api, length: int) -> bytes:
    lines = ["POST /v1/ingest HTTP/1.1", "Host: a", f"Authorization: Bearer {api.token}"]
    lines += ["Content-Type: application/json", f"Content-Length: {length}", "", ""]
    return "\r\n".join(lines).encode()


def _large(*samples: object, size: int = 2 * SIZE // 3) -> bytes:
    return json.dumps({"samples": samples}).encode().ljust(size)


async def test_a_slow_sender_holds_up_no_small_batch_and_large_ones_for_a_while_only(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = asyncio.Event()
    take = Place.take

    async def noted(place: Place, size: int) -> None:
        await take(place, size)
        entered.set()

    monkeypatch.setattr(Place, "take", noted)
    monkeypatch.setattr(rooms, "_SLOW_S", 1.0)
    async with asyncio.timeout(_PATIENCE_S), start_server() as api:
        port = int(api.url.rpartition(":")[2])
        slow, quick = _large(sample(0)), _large(sample(1))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_head(api, len(slow)) + slow[: 2**17])
        await entered.wait()
        assert (await api.ingest(sample(2)))["inserted"] == 1
        writer.write(slow[2**17 : -1])
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
        other_writer.write(_head(api, len(quick)) + quick)
        assert (await other_reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.write(slow[-1:])
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert api.rows("SELECT count(*) FROM samples") == [(3,)]
        writer.close()
        other_writer.close()


async def test_who_sends_a_head_and_no_body_keeps_no_room(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "_SLOW_S", 2 * _PATIENCE_S)
    async with asyncio.timeout(_PATIENCE_S), start_server() as api:
        port = int(api.url.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for _, writer in silent:
            writer.write(_head(api, SIZE) + b" " * 1000)
        assert (await api.post_raw(_large(sample(0), size=2**19)))[0] == 200
        for _, writer in silent:
            writer.close()


async def test_a_batch_that_does_not_say_how_long_it_is_or_is_compressed_counts_too(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def noted(request: web.BaseRequest, arrived: int | None) -> int:
        asked.append(size_of(request, arrived))
        return asked[-1]

    monkeypatch.setattr("reference_server.handlers.size_of", noted)
    async with start_server() as api:
        for sent in (b"", json.dumps({"samples": [sample(0)]}).encode()):

            async def body(sent: bytes = sent) -> object:
                yield sent

            headers = api.headers() | {"Content-Type": "application/json"}
            async with api.session.post(api.url + "/v1/ingest", data=body(), headers=headers) as answer:
                assert answer.status == (200 if sent else 400)
        assert (await api.post_raw(b"x" * 100, **{"Content-Encoding": "gzip"}))[0] == 400
        assert (await api.post_raw(b"x" * 100))[0] == 400
        assert asked == [0, len(json.dumps({"samples": [sample(0)]})), 800, 100]


def _most_kb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells no memory here")
async def test_many_large_batches_at_once_take_bounded_memory_and_all_are_taken(migrated: str) -> None:
    count, reading = 60, recent(pv_power_w=5)
    body = _large(reading, size=2**20)
    headers = {"Content-Type": "application/json"}
    with running(migrated, port := _free_port()) as process:
        async with asyncio.timeout(_PATIENCE_S), client(port) as session:
            await until_healthy(session)

            async def send() -> int:
                async with session.post("/v1/ingest", data=body, headers=headers) as answer:
                    found = await answer.json()
                    return int(found["inserted"])

            await send()
            before = _most_kb(process.pid)
            inserted = await asyncio.gather(*(send() for _ in range(count)))
        assert sum(inserted) == 0
        assert _most_kb(process.pid) - before < 35 * 1024
