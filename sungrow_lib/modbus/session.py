"""Exclusive, paced access to one device: the limiter and the connection as one thing."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self

import anyio

from sungrow_lib.errors import DeviceTimeoutError, DeviceUnreachableError
from sungrow_lib.modbus.backoff import Backoff
from sungrow_lib.modbus.clock import Clock, SystemClock
from sungrow_lib.modbus.connection import ConnectionState, ModbusConnection
from sungrow_lib.modbus.learning import RefusalBudget
from sungrow_lib.modbus.limiter import DeviceLimiter, Endpoint, lock_dir
from sungrow_lib.modbus.settings import ConnectionSettings
from sungrow_lib.registers.words import Block, RegisterWords

_NEWEST_COUNTS: Final = 0.3
"""Weight of the latest read in what a read usually takes."""


class DeviceSession:
    """Talks to one device in passes that keep the dongle rules.

    The connection is kept from pass to pass, and the device is taken from other programs while it stands.

    Args:
        settings: the device and the manners.
        clock: the clocks; another one only in tests.

    Examples:
        async with DeviceSession(ConnectionSettings(host="192.168.1.20")) as session:
            async with session.one_pass():
                words = await session.read(1, Block(Space.INPUT, 5000, 1))
    """

    def __init__(self, settings: ConnectionSettings, clock: Clock | None = None) -> None:
        self.settings = settings
        """The device and the manners."""
        self.refusals = RefusalBudget()
        """What all units behind the device share: how soon the next read may be refused."""
        self.read_s = settings.request_gap_s
        """Seconds a read takes of late, with the pause before it."""
        self._clock = clock or SystemClock()
        self._backoff = Backoff()
        self._limiter: DeviceLimiter | None = None
        self._connection: ModbusConnection | None = None
        self._reused = False
        self._turn = anyio.Lock()

    @property
    def clock(self) -> Clock:
        """The clocks in use."""
        return self._clock

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as this side can know."""
        return self._connection is not None and self._connection.is_open

    @property
    def state(self) -> ConnectionState:
        """What the connection is doing."""
        if self._connection is not None and self._connection.state is not ConnectionState.DISCONNECTED:
            return self._connection.state
        if self._backoff.at_longest:
            return ConnectionState.ASLEEP
        if self._backoff.remaining_s(self._clock.boottime()):
            return ConnectionState.BACKING_OFF
        return ConnectionState.DISCONNECTED

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect and let other programs have the device."""
        if self._connection is not None:
            self._connection.close()
        if self._limiter is not None:
            self._limiter.release()

    @asynccontextmanager
    async def one_pass(self) -> AsyncGenerator[None, None]:
        """Wait for the device's next slot, connect if need be, and hold it for one pass over all units.

        Raises:
            DeviceBusyError: another program is reading the device.
            DeviceUnreachableError: no connection, or too soon after failed attempts.
            ConfigurationError: the lock folder cannot be used.
        """
        async with self._turn:  # tasks that share a session take turns, too
            self._respect_backoff()
            limiter = await self._take()
            try:
                async with limiter.one_pass():
                    await self._connect(limiter)
                    yield
            finally:
                if not self.is_open:
                    limiter.release()

    async def read(self, unit: int, block: Block, *, timeout_s: float | None = None) -> RegisterWords:
        """Read one block; only inside :meth:`one_pass`.

        Args:
            unit: Modbus unit id.
            block: which registers.
            timeout_s: seconds to wait for the answer, where that is less than the settings allow.

        Raises:
            RegisterRefusedError: the device answered with an exception.
            DeviceTimeoutError: no answer in time; the connection is closed.
            DamagedReplyError: no valid reply to this request; the connection is closed.
            DeviceUnreachableError: the connection is gone.
        """
        if self._connection is None or self._limiter is None:
            raise DeviceUnreachableError("not connected")
        began = self._clock.boottime()
        try:
            words = await self._connection.read(unit, block, self._limiter, timeout_s)
        except DeviceUnreachableError:
            if not self._reused:
                raise
            # Dongles drop idle connections, and that shows only when the next request is sent.
            await self._connect(self._limiter)
            words = await self._connection.read(unit, block, self._limiter, timeout_s)
        finally:
            self._reused = False
        self.read_s += (self._clock.boottime() - began - self.read_s) * _NEWEST_COUNTS
        return RegisterWords.from_block(block, words)

    def after_refusal(self) -> None:
        """Note that a read was refused, or lost so that it may have been; other programs will know.

        Only inside :meth:`one_pass`.
        """
        if self._limiter is not None:
            self._limiter.after_refusal()
            self.refusals.spent(self._limiter.refused_at)

    async def has_hung_up(self) -> bool:
        """Whether the device ended the connection by the time the next request may leave.

        Only inside :meth:`one_pass`.
        """
        if self._limiter is not None:
            await self._limiter.before_request()
        return not self.is_open

    async def reconnect(self) -> None:
        """Connect again in the midst of a pass, after the pause that a lost answer costs.

        Only inside :meth:`one_pass`; does nothing while the connection stands.

        Raises:
            DeviceUnreachableError: no connection.
        """
        if self.is_open or self._limiter is None:
            return
        now = self._clock.boottime()
        if not self._backoff.remaining_s(now):
            self._backoff.failed(now)
        await self._clock.sleep(self._backoff.remaining_s(now))
        await self._connect(self._limiter)

    def _respect_backoff(self) -> None:
        wait_s = self._backoff.remaining_s(self._clock.boottime())
        if wait_s and not self.is_open:
            raise DeviceUnreachableError(
                f"{self.settings.host}:{self.settings.port} could not be reached; "
                f"the next attempt is in {wait_s:.0f} s",
                was_asked=False,
            )

    async def _take(self) -> DeviceLimiter:
        """Hold the limiter of the endpoint the host's name means now."""
        if self._limiter is None or not self.is_open:
            endpoint = await self._resolve()
            if self._connection is None or self._connection.endpoint != endpoint or self._limiter is None:
                self._bind(endpoint)
        assert self._limiter is not None
        try:
            self._limiter.acquire()
            self.refusals.spent(self._limiter.refused_at)
        except BaseException:
            self.close()  # without the lock there must be no connection either
            raise
        return self._limiter

    def _bind(self, endpoint: Endpoint) -> None:
        self.close()
        settings = self.settings
        self._limiter = DeviceLimiter(
            endpoint, lock_dir(settings.lock_dir), request_gap_s=settings.request_gap_s, clock=self._clock
        )
        self._connection = ModbusConnection(
            endpoint,
            timeout_s=settings.timeout_s,
            connect_pause_s=settings.connect_pause_s,
            clock=self._clock,
        )

    async def _resolve(self) -> Endpoint:
        host, port = self.settings.host.strip("[]"), self.settings.port
        with suppress(ValueError):  # an address needs no name server, and no thread that asks it
            return Endpoint(str(ip_address(host)), port)
        try:
            with anyio.fail_after(self.settings.timeout_s):
                found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise self._no_address(f"no name server said in time where {host!r} is") from None
        except (OSError, UnicodeError):
            raise self._no_address(f"the name {host!r} means no address") from None
        # Dongles speak IPv4; and one address must be chosen, because the lock belongs to it.
        family, *_, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        del family
        return Endpoint(str(address[0]), port)

    def _no_address(self, why: str) -> DeviceUnreachableError:
        self._backoff.failed(self._clock.boottime())
        return DeviceUnreachableError(f"{why}; check it, or give the inverter's IP address")

    async def _connect(self, limiter: DeviceLimiter) -> None:
        assert self._connection is not None
        self._reused = self.is_open
        if self._reused:
            return
        try:
            await self._connection.open()
        except (DeviceUnreachableError, DeviceTimeoutError):
            self._backoff.failed(self._clock.boottime())
            raise
        finally:
            limiter.after_answer()
        self._backoff.succeeded()
