"""One Modbus TCP connection: opened late, closed after the first doubt, never stuck past its time-out.

The transport is a plain asyncio protocol rather than a Modbus client: pymodbus's drops an exception reply
whose MBAP length is wrong, and reads on in a stream it can no longer follow. Requests are made and replies
found in :mod:`sungrow_lib.modbus.frames`.
"""

from __future__ import annotations

import asyncio
import random
import socket
from enum import StrEnum
from typing import Final, Protocol

import anyio

from sungrow_lib.errors import (
    DamagedReplyError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    RegisterRefusedError,
)
from sungrow_lib.modbus.clock import Clock
from sungrow_lib.modbus.frames import ReadRequest
from sungrow_lib.modbus.limiter import Endpoint
from sungrow_lib.registers.words import Block

_INBOX_LIMIT: Final = 4096
"""Bytes; many times the longest reply. More than that for one request is noise without end."""


_STRANGE: Final = 3
"""So many connections in a row on which nothing was answered say that somebody else may be served."""


class ConnectionState(StrEnum):
    """What a connection to a device is doing."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    SETTLING = "settling"
    """Connected, giving the dongle time before the first request."""
    IDLE = "idle"
    REQUESTING = "requesting"
    BACKING_OFF = "backing off"
    """Not connected; the next attempt waits because earlier ones failed."""
    ASLEEP = "asleep"
    """Silent for so long that attempts come at their slowest; normal for a string inverter at night."""


class Pace(Protocol):
    """Who decides when a request may leave."""

    async def before_request(self) -> None:
        """Wait until the next request may leave."""
        ...

    def after_answer(self) -> None:
        """Note that the device answered, or that nobody waits for it any more."""
        ...


class _Inbox(asyncio.Protocol):
    """Collects what the device sends since the last request."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.closed = False
        self.reason = "the device closed the connection"
        self._waiter: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        # Between requests nothing waits here; a flood must not fill the memory.
        if len(self.received) < _INBOX_LIMIT:
            self.received += data
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if exc is not None:
            self.reason = "the device reset the connection"
        self._wake()

    def clear(self) -> None:
        self.received.clear()

    async def wait(self, until: float) -> bool:
        """Return when more arrives or the connection ends; False when neither happens by ``until``.

        A call at a time of the event loop costs a fraction of what a cancel scope does, and cancels nothing.
        """
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        bell = loop.call_at(until, self._wake)
        try:
            await self._waiter
        finally:
            bell.cancel()
            self._waiter = None
        return loop.time() < until

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class ModbusConnection:
    """One connection with one request in flight.

    After a time-out, a damaged reply or a cancelled request it is closed: whatever still comes must not be
    taken for the answer to a later question.

    Args:
        endpoint: the device.
        timeout_s: seconds to wait for the connection and for each answer.
        connect_pause_s: seconds from connecting to the first request.
        clock: the clocks.
    """

    def __init__(self, endpoint: Endpoint, *, timeout_s: float, connect_pause_s: float, clock: Clock) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._connect_pause_s = connect_pause_s
        self._clock = clock
        self._state = ConnectionState.DISCONNECTED
        self._inbox = _Inbox()
        self._transport: asyncio.Transport | None = None
        self._mute = _STRANGE - 1  # one that never answered is strange at once
        # A random start: dongles have been seen to deliver replies of an earlier connection.
        self._transaction = random.randrange(0x10000)  # noqa: S311 - no secret

    @property
    def state(self) -> ConnectionState:
        """What the connection is doing."""
        return self._state

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as this side can know."""
        return self._transport is not None and not self._inbox.closed

    async def open(self) -> None:
        """Connect and let the device settle.

        Raises:
            DeviceUnreachableError: no connection.
        """
        self.close()
        self._state = ConnectionState.CONNECTING
        self._mute += 1
        try:
            with anyio.fail_after(self._timeout_s):
                self._transport, self._inbox = await asyncio.get_running_loop().create_connection(
                    _Inbox, self.endpoint.address, self.endpoint.port
                )
            _keep_alive(self._transport)
            self._state = ConnectionState.SETTLING
            await self._clock.sleep(self._connect_pause_s)
        except TimeoutError:
            self.close()
            raise DeviceUnreachableError(self._no_answer_text()) from None
        except OSError as error:
            self.close()
            raise DeviceUnreachableError(_connect_text(self.endpoint, error)) from error
        except BaseException:
            self.close()
            raise
        self._state = ConnectionState.IDLE

    def _no_answer_text(self) -> str:
        return (
            f"no answer from {self.endpoint} in {self._timeout_s:g} s; check the address, the cable or "
            "Wi-Fi, and whether the inverter is awake"
        )

    async def read(
        self, unit: int, block: Block, pace: Pace, timeout_s: float | None = None
    ) -> tuple[int, ...]:
        """Read one block, or close the connection if the answer leaves any doubt.

        Args:
            unit: Modbus unit id.
            block: which registers.
            pace: decides when the request may leave.
            timeout_s: seconds to wait for the answer, where that is less than usual.

        Raises:
            RegisterRefusedError: the device answered with an exception.
            DeviceTimeoutError: no answer in time.
            DamagedReplyError: the answer was not a valid reply to this request.
            DeviceUnreachableError: the connection is gone.
        """
        await pace.before_request()
        self._state = ConnectionState.REQUESTING
        try:
            patience_s = min(self._timeout_s, timeout_s or self._timeout_s)
            words = await self._ask(ReadRequest(unit, block, self._next_transaction()), patience_s)
        except RegisterRefusedError:
            self._state, self._mute = ConnectionState.IDLE, 0
            raise
        except BaseException:
            self.close()
            raise
        finally:
            pace.after_answer()
        self._state, self._mute = ConnectionState.IDLE, 0
        return words

    def _next_transaction(self) -> int:
        self._transaction = (self._transaction + 1) & 0xFFFF
        return self._transaction

    async def _ask(self, request: ReadRequest, timeout_s: float) -> tuple[int, ...]:
        if self._transport is None or self._inbox.closed:
            raise self._hung_up()
        self._inbox.clear()  # late or stray bytes belong to no one
        self._transport.write(request.encode())
        return await self._reply(request, timeout_s)

    async def _reply(self, request: ReadRequest, timeout_s: float) -> tuple[int, ...]:
        until = asyncio.get_running_loop().time() + timeout_s
        while True:
            in_time = await self._inbox.wait(until)
            received = bytes(self._inbox.received)
            if (words := request.find_reply(received)) is not None:
                return words
            if len(received) >= _INBOX_LIMIT:
                raise DamagedReplyError("what answered is noise instead of a reply")
            if self._inbox.closed:
                self._ended(request, received)
            if not in_time:
                request.give_up(received, f"no answer in {timeout_s:g} s{self._hint()}")

    def _hint(self) -> str:
        """Say what it may be that a device takes a connection and then answers nothing on it."""
        if self._mute < _STRANGE:
            return ""
        return (
            ", though it took the connection; does another program (an app, a second reader) hold its only "
            "one, or is the unit another one?"
        )

    def _ended(self, request: ReadRequest, received: bytes) -> None:
        try:
            request.give_up(received, self._inbox.reason)
        except DeviceTimeoutError:
            raise self._hung_up() from None

    def _hung_up(self) -> DeviceUnreachableError:
        return DeviceUnreachableError(
            f"{self.endpoint}: {self._inbox.reason}; is another program reading it, or is this not "
            "its Modbus port?"
        )

    def close(self) -> None:
        """Close the connection; does nothing when it is closed."""
        if self._transport is not None:
            self._transport.abort()  # nothing of ours is worth flushing to a device we gave up on
            self._transport = None
        self._state = ConnectionState.DISCONNECTED


def _keep_alive(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _connect_text(endpoint: Endpoint, error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return (
            f"nothing listens on {endpoint}; is Modbus TCP switched on (WiNet-S web page, or the inverter's "
            "communication settings), and is the port right?"
        )
    return f"no connection to {endpoint}: {error.strerror or error}"
