"""A Modbus TCP server that behaves like a Sungrow inverter or the dongle in front of it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import TracebackType
from typing import Final, Protocol, Self

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from sungrow_lib.errors import ConfigurationError
from sungrow_lib.registers.words import BLOCK_MAX, WORD_MAX, Block, Space
from sungrow_lib.simulator.dongle import Dongle, DongleHabits
from sungrow_lib.simulator.faults import (
    EXCEPTION_BIT,
    Delivery,
    Fault,
    FaultSchedule,
    RecurringFault,
    deliver,
)
from sungrow_lib.simulator.journal import Journal

_HISTORY: Final = range(6100, 6900)
"""Yield history, which a dongle does not forward."""
_REQUEST: Final = struct.Struct(">HHHBBHH")
_KEPT_REQUESTS: Final = 10_000

_ILLEGAL_FUNCTION: Final = 1
_ILLEGAL_ADDRESS: Final = 2
_ILLEGAL_VALUE: Final = 3
_GATEWAY_SILENT: Final = 11


class Profile(StrEnum):
    """Which path to the inverter is imitated."""

    LAN = "lan"
    """The inverter's own port: registers it lacks inside a block read 0xFFFF."""
    WINET_S = "winet-s"
    """The dongle: a block that touches one register it lacks is refused; no yield history.

    What else a dongle does, :class:`~sungrow_lib.simulator.dongle.DongleHabits` adds.
    """
    RS485 = "rs485"
    """A gateway on the serial bus: like the LAN port, and an absent unit is an exception."""


class RegisterSource(Protocol):
    """Where a simulated unit's registers come from."""

    def words(self) -> Mapping[tuple[Space, int], int]:
        """All registers as of now, by space and document number; asked anew for every request."""
        ...


@dataclass(frozen=True, slots=True)
class StaticSource:
    """A unit whose registers never change, such as a capture.

    Attributes:
        image: words by space and document number.
    """

    image: Mapping[tuple[Space, int], int]

    def words(self) -> Mapping[tuple[Space, int], int]:
        """Return the image."""
        return self.image


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """One request as the device saw it.

    Attributes:
        connection: running number of the connection.
        unit: unit id asked for.
        block: what was asked for.
        received_at: when it arrived, in seconds of the monotonic clock.
        answered_at: when the answer had left; None while it has not.
        refused: exception code of the right answer; None for words.
    """

    connection: int
    unit: int
    block: Block
    received_at: float
    answered_at: float | None = None
    refused: int | None = None


class InverterSimulator:
    """Serves simulated units on Modbus TCP. An async context manager.

    Args:
        units: registers by Modbus unit id.
        host: address to listen on.
        port: TCP port; 0 for any free one, see :attr:`port`.
        profile: the path to imitate.
        journal: where to note every answered read.
        faults: misbehaviour that comes back by itself; see also :meth:`inject`.
        habits: makes it as touchy as a dongle: one client, a copy of the registers, restarts.

    Examples:
        async with InverterSimulator({1: StaticSource(words)}) as inverter:
            print(inverter.port)
    """

    def __init__(
        self,
        units: Mapping[int, RegisterSource],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        profile: Profile = Profile.LAN,
        journal: Journal | None = None,
        faults: Iterable[RecurringFault] = (),
        habits: DongleHabits | None = None,
    ) -> None:
        self._units = dict(units)
        self._host = host
        self._port = port
        self._profile = profile
        self._journal = journal
        self._faults = FaultSchedule(tuple(faults))
        self._dongle = Dongle(habits) if habits else None
        self._clients: set[anyio.CancelScope] = set()
        self._exit = contextlib.AsyncExitStack()
        self.requests: deque[ServedRequest] = deque(maxlen=_KEPT_REQUESTS)
        """The latest requests, oldest first."""
        self.connections = 0
        """Connections accepted so far."""
        self.open_connections = 0
        """Connections open now."""
        self.most_connections = 0
        """Most connections ever open at once."""

    @property
    def port(self) -> int:
        """The TCP port listened on."""
        return self._port

    def inject(self, *faults: Fault | None) -> None:
        """Spoil the answers to the next requests, one fault each; None lets one pass."""
        self._faults.inject(*faults)

    async def __aenter__(self) -> Self:
        try:
            listener = await anyio.create_tcp_listener(local_host=self._host, local_port=self._port)
        except OSError as error:
            raise _occupied(self._host, self._port, error) from None
        self._port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's, not Django's
        await self._exit.enter_async_context(listener)
        group = await self._exit.enter_async_context(anyio.create_task_group())
        group.start_soon(listener.serve, self._serve, group)
        self._exit.callback(group.cancel_scope.cancel)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The body's exception is the caller's: handed to the task group it would come back in a group.
        await self._exit.aclose()

    async def _serve(self, stream: SocketStream) -> None:
        self.connections += 1
        if self._dongle is not None:
            self._drop_clients()  # it has one session, and the newest client takes it
        self.open_connections += 1
        self.most_connections = max(self.most_connections, self.open_connections)
        try:
            with anyio.CancelScope() as scope:
                self._clients.add(scope)
                async with stream:
                    if self._dongle is not None and self._dongle.is_away:
                        _reset_on_close(stream)
                    else:
                        await _Connection(self, stream, self.connections).run()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            pass  # the client went away: its right
        finally:
            self._clients.discard(scope)
            self.open_connections -= 1

    def _drop_clients(self) -> None:
        for scope in self._clients:
            scope.cancel()

    def answer(self, unit: int, function: int, address: int, count: int) -> bytes | int | None:
        """Work out the right answer to a read.

        Returns:
            The words as bytes, an exception code, or None for silence.
        """
        source = self._units.get(unit)
        if source is None:
            return _GATEWAY_SILENT if self._profile is Profile.RS485 else None
        if function not in {Space.HOLDING, Space.INPUT}:
            return _ILLEGAL_FUNCTION
        if not 1 <= count <= BLOCK_MAX:
            return _ILLEGAL_VALUE
        image = self._dongle.words(unit, source.words) if self._dongle else source.words()
        words = self._lookup(image, Block(Space(function), address + 1, count))
        return _ILLEGAL_ADDRESS if words is None else struct.pack(f">{count}H", *words)

    def _lookup(self, image: Mapping[tuple[Space, int], int], block: Block) -> list[int] | None:
        found = [image.get((block.space, number)) for number in block.numbers]
        if self._profile is Profile.WINET_S:
            hidden = any(number in _HISTORY for number in block.numbers)
            return None if hidden or None in found else [word for word in found if word is not None]
        if all(word is None for word in found):
            return None
        return [WORD_MAX if word is None else word for word in found]

    def next_fault(self) -> Fault | None:
        """Return what goes wrong with the request that is being answered now."""
        return self._faults.next()

    def note(self, request: ServedRequest) -> None:
        """Remember a request. One refusal too many is more than a dongle can stand."""
        self.requests.append(request)
        if self._dongle is not None and request.refused is not None and self._dongle.refused():
            self._drop_clients()

    def record(self, unit: int, block: Block, data: bytes, fault: Fault | None) -> None:
        """Write an answered read into the journal, if there is one."""
        if self._journal is not None:
            words = struct.unpack(f">{block.count}H", data)
            self._journal.record(unit, block, words, None if fault is None else fault.value)


def require_free(host: str, port: int) -> None:
    """Do nothing when a simulator could listen there.

    Raises:
        ConfigurationError: it could not.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.create_server(address[:2], family=family):
            pass
    except OSError as error:
        raise _occupied(host, port, error) from None


def _occupied(host: str, port: int, error: OSError) -> ConfigurationError:
    option = (
        "--host" if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror) else "--port"
    )
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    return ConfigurationError(f"cannot listen on {host}:{port} ({reason}); choose another {option}")


class _Connection:
    """One client's connection: one request after the other."""

    def __init__(self, simulator: InverterSimulator, stream: SocketStream, number: int) -> None:
        self._simulator = simulator
        self._stream = stream
        self._number = number
        self._previous = b""

    async def run(self) -> None:
        requests = BufferedByteReceiveStream(self._stream)
        with contextlib.suppress(anyio.IncompleteRead, anyio.EndOfStream):
            while await self._handle(await requests.receive_exactly(_REQUEST.size)):
                pass

    async def _handle(self, frame: bytes) -> bool:
        """Answer one request; False ends the connection."""
        received_at = time.monotonic()
        transaction, protocol, length, unit, function, address, count = _REQUEST.unpack(frame)
        if protocol != 0 or length != 6:  # noqa: PLR2004 - the length of every read request
            return False
        answer = self._simulator.answer(unit, function, address, count)
        space = Space.HOLDING if function == Space.HOLDING else Space.INPUT
        block = Block(space, address + 1, count)
        refused = answer if isinstance(answer, int) else None
        served = ServedRequest(self._number, unit, block, received_at, None, refused)
        if answer is None:
            self._simulator.note(served)
            return True
        fault = self._simulator.next_fault()
        if isinstance(answer, bytes):
            self._simulator.record(unit, block, answer, fault)
        reply = _reply_frame(transaction, unit, function, answer)
        goes_on = await self._deliver(deliver(fault, reply, self._previous))
        self._previous = reply
        self._simulator.note(replace(served, answered_at=time.monotonic()))
        return goes_on

    async def _deliver(self, delivery: Delivery) -> bool:
        if delivery.delay_s:
            await anyio.sleep(delivery.delay_s)
        if delivery.reset:
            _reset_on_close(self._stream)
            return False
        if delivery.payload:
            await self._stream.send(delivery.payload)
        while delivery.deaf:
            await self._stream.receive()  # read and ignored until the client gives up
        return not delivery.close


def _reset_on_close(stream: SocketStream) -> None:
    sock = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _reply_frame(transaction: int, unit: int, function: int, answer: bytes | int) -> bytes:
    if isinstance(answer, int):
        return struct.pack(">HHHBBB", transaction, 0, 3, unit, function | EXCEPTION_BIT, answer)
    return struct.pack(">HHHBBB", transaction, 0, 3 + len(answer), unit, function, len(answer)) + answer


__all__ = [
    "InverterSimulator",
    "Profile",
    "RegisterSource",
    "ServedRequest",
    "StaticSource",
    "require_free",
]
