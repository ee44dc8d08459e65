"""Whatever a TCP server sends for an answer: the words it served, or a typed error, and both in time."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from hypothesis import example, given, settings, strategies as st

from sungrow_lib.errors import DeviceError
from sungrow_lib.modbus.clock import SystemClock
from sungrow_lib.modbus.connection import ConnectionState, ModbusConnection
from sungrow_lib.modbus.limiter import Endpoint
from sungrow_lib.registers.words import Block, Space
from tests.patience import PATIENCE_S

TIMEOUT_S: Final = 0.08

BLOCK: Final = Block(Space.INPUT, 13010, 3)
WORDS: Final = (0x1234, 0x5678, 0x9ABC)
NEXT: Final = Block(Space.INPUT, 5000, 3)
NEXT_WORDS: Final = (7, 8, 9)


class NoPace:
    async def before_request(self) -> None: ...

    def after_answer(self) -> None: ...


def frame(transaction: int, words: tuple[int, ...] = WORDS) -> bytes:
    size = 2 * len(words)
    head = struct.pack(">HHHBBB", transaction & 0xFFFF, 0, 3 + size, 1, 4, size)
    return head + struct.pack(f">{len(words)}H", *words)


@dataclass(frozen=True)
class Piece:
    """One thing that dongles and strangers send."""

    kind: str
    at: int = 0
    value: int = 1
    noise: bytes = b""

    def bytes_for(self, transaction: int) -> bytes:
        good = frame(transaction)
        if self.kind == "damaged":
            return good[: self.at] + bytes([good[self.at] ^ self.value]) + good[self.at + 1 :]
        if self.kind == "late":
            return frame(transaction - self.value, (1, 2, 3))
        if self.kind == "exception":  # of any length, with any length field
            return struct.pack(">HHHBBB", transaction, 0, self.at, 1, 0x84, self.value)[: 6 + self.at]
        return good if self.kind == "reply" else self.noise


@dataclass(frozen=True)
class Script:
    """An answer: what to send, where it breaks off and into which packets it falls, and what comes then."""

    pieces: tuple[Piece, ...]
    cut: int | None = None
    packets: tuple[int, ...] = ()
    closes: bool = False

    def bytes_for(self, transaction: int) -> bytes:
        data = b"".join(piece.bytes_for(transaction) for piece in self.pieces)
        return data + frame(transaction)[: self.cut] if self.cut else data

    def packets_for(self, transaction: int) -> list[bytes]:
        data = self.bytes_for(transaction)
        borders = [0, *sorted(at % (len(data) + 1) for at in self.packets), len(data)]
        return [data[left:right] for left, right in pairwise(borders) if left < right]


HTTP: Final = Piece("noise", noise=b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

scripts = st.builds(
    Script,
    pieces=st.lists(
        st.one_of(
            st.just(HTTP),
            st.just(Piece("reply")),
            st.builds(Piece, st.just("noise"), noise=st.binary(max_size=40)),
            st.builds(Piece, st.just("damaged"), st.integers(0, 8), st.integers(1, 255)),
            st.builds(Piece, st.just("late"), value=st.integers(1, 5)),
            st.builds(Piece, st.just("exception"), st.integers(0, 5), st.integers(0, 255)),
        ),
        max_size=4,
    ).map(tuple),
    cut=st.none() | st.integers(1, 14),
    packets=st.lists(st.integers(0, 200), max_size=6).map(tuple),
    closes=st.booleans(),
)


class Device:
    """Answers its first request by the script, every later one as it should."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked = False
        self.sent = b""

    async def serve(self, stream: SocketStream) -> None:
        requests = BufferedByteReceiveStream(stream)
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            async with stream:
                while await self._answer(stream, await requests.receive_exactly(12)):
                    pass

    async def _answer(self, stream: SocketStream, request: bytes) -> bool:
        transaction = int.from_bytes(request[:2], "big")
        if self.asked:
            await stream.send(frame(transaction, NEXT_WORDS))
            return True
        self.asked = True
        self.sent = self.script.bytes_for(transaction)
        for packet in self.script.packets_for(transaction):
            await stream.send(packet)
        return not self.script.closes


@asynccontextmanager
async def connected(device: Device) -> AsyncIterator[ModbusConnection]:
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, device.serve)
        endpoint = Endpoint("127.0.0.1", int(listener.extra(SocketAttribute.local_port)))
        connection = ModbusConnection(
            endpoint, timeout_s=PATIENCE_S, connect_pause_s=0.0, clock=SystemClock()
        )
        await connection.open()
        yield connection
        connection.close()
        group.cancel_scope.cancel()


async def ask(
    connection: ModbusConnection, block: Block, within_s: float = TIMEOUT_S
) -> tuple[int, ...] | DeviceError:
    try:
        return await connection.read(1, block, NoPace(), within_s)
    except DeviceError as error:
        return error


async def play(script: Script) -> None:
    device = Device(script)
    async with connected(device) as connection:
        with anyio.fail_after(PATIENCE_S):
            answer = await ask(connection, BLOCK)
        if isinstance(answer, tuple):
            assert answer == WORDS
            assert frame(connection._transaction) in device.sent
        assert connection.state in {ConnectionState.IDLE, ConnectionState.DISCONNECTED}
        if not connection.is_open:  # what was left in the old connection must not reach the new one
            await connection.open()
        answer = await ask(connection, NEXT)
        assert isinstance(answer, DeviceError) or answer == NEXT_WORDS


@settings(max_examples=100, deadline=None)
@given(scripts)
@example(Script((Piece("reply"), Piece("reply")), packets=(20,)))
@example(Script((), cut=14, closes=True))
@example(Script((), cut=9))
@example(Script((Piece("noise", noise=b"\0" * 5000),)))
def test_no_answer_falsifies_hangs_or_escapes_as_another_error(script: Script) -> None:
    anyio.run(play, script)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=30), st.lists(st.integers(0, 60), max_size=8).map(tuple))
def test_a_good_reply_is_found_however_it_is_cut_and_whatever_came_before(
    noise: bytes, packets: tuple[int, ...]
) -> None:
    async def found() -> None:
        before = Piece("noise", noise=noise.replace(b"\0\0", b"\0\1"))
        script = Script((before, Piece("reply")), packets=packets)
        async with connected(Device(script)) as connection:
            assert await ask(connection, BLOCK, PATIENCE_S) == WORDS

    anyio.run(found)
