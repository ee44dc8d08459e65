"""The page for Prometheus over HTTP: who asks rightly is answered, and who does not does no harm."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio
import anyio.abc
import httpx
import pytest
from anyio.abc import SocketAttribute

from reference_edge import page as module
from reference_edge.page import Page, listen
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio
TEXT = b"one 1.0\n"


@asynccontextmanager
async def shown(page: Page) -> AsyncIterator[int]:
    listener = listen(0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(page.serve, listener)
        yield listener.getsockname()[1]
        tasks.cancel_scope.cancel()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with shown(Page("/metrics", "text/plain; version=0.0.4", lambda: TEXT)) as found:
        yield found


async def answered(port: int, *pieces: bytes) -> bytes:
    """All that comes back until the other side ends it; the client says nothing of its own end."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        for piece in pieces:
            await stream.send(piece)
        answer = b""
        with anyio.fail_after(PATIENCE_S):
            async for chunk in stream:
                answer += chunk
    return answer


async def test_a_reader_gets_the_page_with_its_type(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        got = await client.get("/metrics", params={"ignored": "yes"})
        assert (got.status_code, got.content) == (200, TEXT)
        assert got.headers["content-type"] == "text/plain; version=0.0.4"
        assert got.headers["content-length"] == str(len(TEXT))
        head = await client.head("/metrics")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(TEXT))


async def test_any_other_question_gets_the_status_that_says_why(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        missing = await client.get("/")
        assert (missing.status_code, missing.text) == (404, "404 Not Found: see /metrics\n")
        assert (await client.get("/metrics/more")).status_code == 404
        assert (await client.head("/favicon.ico")).content == b""
        refused = await client.post("/metrics", content=b"x" * 20_000)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("origin", [b"http://127.0.0.1:9101", b"HTTP://localhost", b"https://edge"])
async def test_a_target_may_name_the_server_as_well(port: int, origin: bytes) -> None:
    for path, status in (
        (b"/metrics", b"200"),
        (b"/metrics?x=http://y/", b"200"),
        (b"/", b"404"),
        (b"", b"404"),
    ):
        request = b"GET " + origin + path + b" HTTP/1.1\r\nHost: x\r\n\r\n"
        assert (await answered(port, request)).startswith(b"HTTP/1.1 " + status)


async def test_many_who_say_nothing_hold_nobody_up_for_long(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 3600.0)
    monkeypatch.setattr(module, "_ASK_S", 0.01)
    async with AsyncExitStack() as stack:
        for _client in range(16):
            await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
        with anyio.fail_after(PATIENCE_S):
            got = b""
            while not got:  # on a machine with much to do, its own time is short as well
                with suppress(anyio.BrokenResourceError):
                    got = await answered(port, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert got.endswith(TEXT)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"GET /metrics HTTP/2.0\r\n\r\n",
        b"GET  /metrics HTTP/1.1\r\n\r\n",
        b"GET /m\xc3\xa9trics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 30_000 + b"\r\n\r\n",
        b"\x16\x03\x01" + bytes(20_000),
    ],
    ids=["nothing", "no version", "HTTP/2", "two blanks", "no ASCII", "too long", "TLS or other noise"],
)
async def test_what_is_no_request_is_answered_400(port: int, request_bytes: bytes) -> None:
    assert (await answered(port, request_bytes)).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert (await answered(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(TEXT)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
async def test_a_request_may_come_in_pieces(port: int, end: bytes) -> None:
    request = b"GET /metrics HTTP/1.0" + end + b"Host: x" + end * 2
    pieces = [request[at : at + 1] for at in range(len(request))]
    assert (await answered(port, *pieces)).endswith(b"\r\n\r\n" + TEXT)


async def test_a_client_that_ends_early_gets_no_page_and_harms_nobody(port: int) -> None:
    for sent in (b"", b"GET /metr"):
        stream = await anyio.connect_tcp("127.0.0.1", port)
        async with stream:
            if sent:
                await stream.send(sent)
            await stream.send_eof()
            assert (await stream.receive()).startswith(b"HTTP/1.1 400 ")
    # And one that does not wait for the answer, nor ends it nicely.
    for _client in range(10):
        async with await anyio.connect_tcp("127.0.0.1", port) as rude:
            await rude.send(b"GET /metrics HTTP/1.1\r\n\r\n")
            raw = rude.extra(SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert (await answered(port, b"GET /metrics HTTP/1.0\r\n\r\n")).endswith(TEXT)


@asynccontextmanager
async def beside_slow_clients() -> AsyncIterator[tuple[int, list[int]]]:
    """A port with eight who say nothing, or half of it, or never read; and what was written for them."""
    written = []

    def write() -> bytes:
        written.append(1)
        return bytes(50_000_000)  # far more than any socket takes

    async with shown(Page("/metrics", "text/plain", write)) as port, AsyncExitStack() as stack:
        for request in [b"", b"GET /metrics HTTP/1.1\r\n", *[b"GET /metrics HTTP/1.1\r\n\r\n"] * 6]:
            slow = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
            if request:
                await slow.send(request)
        yield port, written


async def test_slow_clients_hold_little_for_they_are_attended_to_by_fours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ASK_S", 3600.0)
    monkeypatch.setattr(module, "_PATIENCE_S", 3600.0)
    async with beside_slow_clients() as (_port, written):
        with anyio.fail_after(PATIENCE_S):
            while len(written) < 2:  # noqa: ASYNC110 - a test looks from outside
                await anyio.sleep(0.01)
        for _turn in range(30):
            await anyio.sleep(0.01)
        assert len(written) == 2


async def test_slow_clients_are_let_go_and_the_next_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ASK_S", 0.2)
    monkeypatch.setattr(module, "_PATIENCE_S", 0.2)
    async with beside_slow_clients() as (port, _written):
        with anyio.fail_after(PATIENCE_S):
            got = b""
            while not got:  # on a machine with much to do, its own time is short as well
                with suppress(anyio.BrokenResourceError):
                    got = await answered(port, b"GET /other HTTP/1.1\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 404 ")


async def test_a_client_that_pours_without_end_is_left_alone(port: int) -> None:
    """Each piece it sends lets the others have their turn."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        with anyio.fail_after(PATIENCE_S), suppress(anyio.BrokenResourceError):
            while True:
                await stream.send(bytes(65_536))
    assert (await answered(port, b"GET /metrics HTTP/1.0\r\n\r\n")).endswith(TEXT)


async def test_a_system_without_room_for_a_connection_is_waited_for(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = 0
    accept = socket.socket.accept

    def balk(listener: socket.socket) -> tuple[socket.socket, object]:
        nonlocal refused
        refused += 1
        if refused < 3:
            raise OSError(24, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", balk)
    monkeypatch.setattr(module, "_AGAIN_S", 0.01)
    assert (await answered(port, b"GET /metrics HTTP/1.0\r\n\r\n")).endswith(TEXT)
    assert refused == 3


async def test_a_page_that_cannot_be_written_is_a_500_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with shown(Page("/metrics", "text/plain", lambda: str(1 / 0).encode())) as port:
        for _time in range(2):
            answer = await answered(port, b"GET /metrics HTTP/1.0\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 500 ")
    assert "cannot be written" in caplog.text
