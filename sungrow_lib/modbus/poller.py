"""Reads all units behind one address, pass after pass, whatever the device does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Self

from sungrow_lib.errors import ConfigurationError, DeviceError, DeviceTimeoutError
from sungrow_lib.modbus.clock import Clock
from sungrow_lib.modbus.connection import ConnectionState
from sungrow_lib.modbus.learning import UnitPlan
from sungrow_lib.modbus.results import PollResult
from sungrow_lib.modbus.session import DeviceSession
from sungrow_lib.modbus.settings import MIN_REST_S, ConnectionSettings
from sungrow_lib.modbus.unit import UnitReader
from sungrow_lib.registers.words import Block

_QUIET: Final = frozenset({ConnectionState.DISCONNECTED, ConnectionState.IDLE})
"""States in which nothing is being done, perhaps because every unit is left alone."""

Errand = Callable[[float], Awaitable[None]]
"""What else there is to do in a pass, given when it has to be done (boot-time seconds)."""


class ModbusPoller:
    """Polls every unit behind one address at the polite rate. An async context manager.

    The connection is kept between polls and the device is taken from other programs while it stands.
    A poll never raises for anything a device or a network can do: its result says what is missing and why.

    Args:
        settings: the device and the manners.
        units: what to read of each unit.
        session: goes on with a session that stands already, instead of beginning one.
        clock: the clocks; another one only in tests.

    Raises:
        ConfigurationError: there is no unit, or one twice.

    Examples:
        async with ModbusPoller(ConnectionSettings(host="192.168.1.20"), [plan]) as poller:
            async for poll in poller.polls():
                print(poll.units[0].outcome)
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        units: Sequence[UnitPlan],
        *,
        session: DeviceSession | None = None,
        clock: Clock | None = None,
    ) -> None:
        if len({plan.unit for plan in units}) != len(units) or not units:
            raise ConfigurationError("give at least one unit, and each unit id once")
        self._settings = settings
        self._session = session or DeviceSession(settings, clock)
        self._clock = self._session.clock
        self._units = [UnitReader(plan, self._session) for plan in units]
        self._number = 0
        self._next_start = self._clock.boottime()

    @property
    def state(self) -> ConnectionState:
        """What the connection is doing."""
        state = self._session.state
        resting = {unit.resting_state for unit in self._units}
        if state not in _QUIET or None in resting:
            return state
        return ConnectionState.ASLEEP if resting == {ConnectionState.ASLEEP} else ConnectionState.BACKING_OFF

    @property
    def refused(self) -> dict[int, frozenset[Block]]:
        """By unit, the requests it refused as not there; a plan made anew should know them."""
        return {unit.unit: frozenset(unit.memory.notes.refused) for unit in self._units}

    def set_plan(self, plan: UnitPlan) -> None:
        """Read a unit by this plan from the next pass on: one more unit, or one that is read otherwise now.

        Raises:
            ConfigurationError: there can be no such unit.
        """
        reader = UnitReader(plan, self._session)
        units = {unit.unit: unit for unit in self._units}
        if known := units.get(plan.unit):
            reader.backoff = known.backoff
            reader.memory.inherit(known.memory)
        self._units = list((units | {plan.unit: reader}).values())

    def drop(self, unit: int) -> None:
        """Leave a unit out from the next pass on."""
        self._units = [reader for reader in self._units if reader.unit != unit]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.close()

    async def polls(self) -> AsyncIterator[PollResult]:
        """Poll for ever. A pass longer than the interval makes the next one late, never hurried.

        Raises:
            ConfigurationError: the lock folder cannot be used.
        """
        while True:
            yield await self.poll()

    async def wait_turn(self) -> None:
        """Wait until the next pass is due. To stop between two passes, cancel this, not :meth:`poll`."""
        while (wait_s := self._next_start - self._clock.boottime()) > 0:
            await self._clock.sleep(wait_s)

    async def poll(self, errand: Errand | None = None) -> PollResult:
        """Wait for the next slot and make one pass over all units.

        Args:
            errand: done at the end of the pass, when the connection still stands and the interval has time
                left; it must not raise for what the device does.

        Raises:
            ConfigurationError: the lock folder cannot be used.
        """
        await self.wait_turn()
        self._number += 1
        started_at, started_boottime = self._clock.wall(), self._clock.boottime()
        self._next_start = started_boottime + self._settings.poll_interval_s
        await self._pass(errand)
        return PollResult(
            number=self._number,
            started_at=started_at,
            started_boottime=started_boottime,
            state=self.state,
            units=tuple(unit.result() for unit in self._units),
        )

    async def _pass(self, errand: Errand | None) -> None:
        due = []
        for unit in self._units:
            unit.begin()
            if rest_s := unit.rest_s():
                unit.give_up(
                    DeviceTimeoutError(f"unit {unit.unit} was silent; asked again in {rest_s:.0f} s")
                )
            else:
                due.append(unit)
        if not due:
            return
        try:
            async with self._session.one_pass():
                deadline = self._clock.boottime() + self._settings.poll_interval_s - MIN_REST_S
                await self._read(due, deadline)
                if errand is not None and self._session.is_open and self._clock.boottime() < deadline:
                    await errand(deadline)
        except DeviceError as error:
            for unit in due:
                unit.give_up(error)

    async def _read(self, due: list[UnitReader], deadline: float) -> None:
        # A silent unit costs the connection, so the ones that failed lately come after everything else.
        steady = [unit for unit in due if not unit.backoff.failures]
        for unit in steady:
            await unit.read_fast()
        for unit in steady:
            await unit.read_further()
        for unit in steady:
            await unit.read_due(deadline)
        for unit in sorted(set(due) - set(steady), key=lambda unit: unit.backoff.failures):
            await unit.read_fast()
            await unit.read_further()
            await unit.read_due(deadline)
