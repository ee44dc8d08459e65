"""Bodies that come slowly are bounded for each sender: nobody fills the memory, or keeps others out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from reference_server import slow_bodies
from reference_server.slow_bodies import SHARE, SlowBodies
from tests.patience import PATIENCE_S
from tests.server.conftest import OTHER_TOKEN, TOKEN, Api, StartServer, sample

pytestmark = [pytest.mark.anyio, pytest.mark.one_engine]

_SIZE = 400_000
_BODY = json.dumps({"samples": [sample(0)]}).encode().ljust(_SIZE // SHARE)


class Watched(SlowBodies):
    """Tells how much is counted."""

    def __init__(self) -> None:
        super().__init__(0, _SIZE)
        self._changed = asyncio.Event()

    def count(self, sender: bytes, size: int) -> bool:
        self._changed.set()
        return super().count(sender, size)

    async def hold(self, size: int) -> None:
        """Wait until so many bytes are counted."""
        async with asyncio.timeout(PATIENCE_S):
            while self._of.total() != size:
                self._changed.clear()
                await self._changed.wait()


class Slow:
    """A batch that comes part by part."""

    def __init__(self, api: Api, token: str = TOKEN) -> None:
        self._api = api
        self._headers = api.headers(token) | {"Content-Type": "application/json"}
        self._parts = asyncio.Queue[bytes]()
        self.answer = asyncio.create_task(self._answer())

    def send(self, part: bytes) -> None:
        """Send a part, with none the end."""
        self._parts.put_nowait(part)

    async def _body(self) -> AsyncIterator[bytes]:
        while part := await self._parts.get():
            yield part

    async def _answer(self) -> tuple[int, dict[str, str], Any]:
        async with (
            asyncio.timeout(PATIENCE_S),
            self._api.session.post(
                self._api.url + "/v1/ingest", data=self._body(), headers=self._headers
            ) as answer,
        ):
            return answer.status, dict(answer.headers), await answer.json(content_type=None)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    """What servers that start now count."""
    found: list[Watched] = []

    def made(_largest: int) -> Watched:
        found.append(Watched())
        return found[-1]

    monkeypatch.setattr("reference_server.server.SlowBodies", made)
    monkeypatch.setattr(slow_bodies, "SLOW_S", 0.0)
    return found


@contextmanager
def _ended(*some: Slow) -> Iterator[None]:
    try:
        yield
    finally:
        for one in some:
            one.answer.cancel()


async def test_who_has_too_much_on_its_way_comes_again_and_others_go_on(
    start_server: StartServer, held: list[Watched]
) -> None:
    async with start_server() as api:
        first, second, other = Slow(api), Slow(api), Slow(api, OTHER_TOKEN)
        with _ended(first, second, other):
            first.send(_BODY[:60_000])
            await held[0].hold(60_000)
            other.send(_BODY[:30_000])
            await held[0].hold(90_000)
            second.send(_BODY[:60_000])  # 120,000 of one sender
            status, headers, problem = await second.answer
            assert (status, problem["title"]) == (503, "Not available now")
            assert int(headers["Retry-After"]) >= 1
            await held[0].hold(90_000)
            first.send(_BODY[60_000:])
            first.send(b"")
            status, _, answer = await first.answer
            assert (status, answer["inserted"]) == (200, 1)
            await held[0].hold(30_000)


def test_senders_together_have_a_bound_as_well() -> None:
    bodies = SlowBodies(0, 1000)
    assert all(bodies.count(bytes([sender]), 250) for sender in range(4))
    assert not bodies.count(b"another", 1)
    assert bodies.count(b"another", -1)
    assert bodies.count(b"\x00", -250)
    assert bodies.count(b"another", 250)
    assert not bodies.count(b"another", 1)


def test_one_body_is_never_too_much() -> None:
    bodies = SlowBodies(1000, 1000)
    assert bodies.count(b"sender", 1000)
    assert not bodies.count(b"sender", 1)


async def test_nobody_waits_for_ever_for_the_rest_of_a_body(
    start_server: StartServer, held: list[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_bodies, "SILENT_S", 0.3)
    async with start_server() as api:
        silent = Slow(api)
        with _ended(silent):
            silent.send(_BODY[:20_000])
            await held[0].hold(20_000)
            status, headers, problem = await silent.answer
            assert (status, problem["detail"]) == (503, "the rest of the body did not come")
            assert "Retry-After" in headers
            await held[0].hold(0)
        assert (await api.ingest(sample(0)))["inserted"] == 1


@pytest.mark.parametrize("lines", [(), ("Expect: 100-continue",)], ids=["silent", "asked to go on"])
async def test_nor_for_its_first_byte(
    start_server: StartServer, held: list[Watched], monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...]
) -> None:
    monkeypatch.setattr(slow_bodies, "SILENT_S", 0.3)
    async with start_server() as api, asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
        head = ["POST /v1/ingest HTTP/1.1", "Host: a", f"Authorization: Bearer {TOKEN}", *lines]
        head += ["Content-Type: application/json", "Content-Length: 1000", "", ""]
        writer.write("\r\n".join(head).encode())
        if lines:
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        await held[0].hold(0)
        writer.close()


async def test_a_client_that_leaves_amid_a_slow_body_leaves_nothing_behind(
    start_server: StartServer, held: list[Watched]
) -> None:
    async with start_server() as api:
        slow = Slow(api)
        slow.send(_BODY[:20_000])
        await held[0].hold(20_000)
        slow.answer.cancel()
        await held[0].hold(0)


async def test_a_body_that_waits_for_room_is_not_a_slow_one(
    start_server: StartServer, held: list[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_bodies, "SLOW_S", 0.3)
    async with start_server() as api:
        place = api.server.room.place()
        await place.take(2**30)  # all there is
        waiting, small = Slow(api), Slow(api, OTHER_TOKEN)
        with _ended(waiting, small):
            waiting.send(_BODY + b" " * 2**17)
            waiting.send(b"")
            small.send(_BODY[:20_000])
            await held[0].hold(20_000)  # time goes by, and nothing else counts
            await place.__aexit__(None, None, None)
            status, _, answer = await waiting.answer
            assert (status, answer["inserted"]) == (200, 1)
