"""Reads all units behind one address, pass after pass, whatever the device does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from sungrow_lib.errors import (
    ConfigurationError,
    DamagedReplyError,
    DeviceError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    RegisterRefusedError,
)
from sungrow_lib.modbus.backoff import Backoff
from sungrow_lib.modbus.clock import Clock
from sungrow_lib.modbus.connection import ConnectionState
from sungrow_lib.modbus.learning import PERMANENT_CODES, RefusalBudget, UnitMemory, UnitPlan
from sungrow_lib.modbus.results import MissingBlock, MissingReason, Outcome, PollResult, UnitResult
from sungrow_lib.modbus.session import DeviceSession
from sungrow_lib.modbus.settings import ConnectionSettings, require_unit
from sungrow_lib.registers.words import Block, RegisterWords

_NO_ANSWER: Final = frozenset({MissingReason.TIMEOUT, MissingReason.DAMAGED, MissingReason.NOT_CONNECTED})

_SHORT_WAIT_S: Final = 0.25
"""A refused read's distance that ends within this is waited for inside the pass: the next pass asks at the
same moment of its five seconds, and would always be a hair too early."""

_GATEWAY_CODES: Final = frozenset({10, 11})
"""Exception codes by which a gateway says that the unit behind it is silent."""


class _UnitReader:
    """Reads one unit; never raises for what the device does."""

    def __init__(self, plan: UnitPlan, session: DeviceSession, budget: RefusalBudget) -> None:
        self.unit = require_unit(plan.unit)
        self.memory = UnitMemory(plan)
        self.backoff = Backoff()
        self._session = session
        self._budget = budget
        self._words = RegisterWords()
        self._missing: list[MissingBlock] = []
        self._arrived: tuple[datetime, float] | None = None
        self._error: DeviceError | None = None

    def begin(self) -> None:
        """Forget the last poll's results."""
        self._words = RegisterWords()
        self._missing = []
        self._arrived = None
        self._error = None

    def now(self) -> float:
        return self._session.clock.boottime()

    def rest_s(self) -> float:
        """Seconds for which the unit is left alone after it was silent."""
        return self.backoff.remaining_s(self.now())

    def give_up(self, error: DeviceError) -> None:
        """There is no reading, because of ``error``."""
        self._error = error

    async def read_fast(self) -> None:
        """Read the block that dates the poll."""
        if not self._session.is_open:
            self._error = DeviceUnreachableError("the connection was closed: another unit stayed silent")
            return
        block = self.memory.dating
        if block is None:
            self._error = RegisterRefusedError(
                f"unit {self.unit} serves none of the registers that date a reading; "
                "check --unit and --family",
                code=2,
            )
        elif await self._read(block) in _NO_ANSWER:
            self.backoff.failed(self.now())
        elif self._arrived is not None:
            self.backoff.succeeded()

    async def read_rest(self) -> None:
        """Read what else is due, if there is a reading to complete."""
        if self._arrived is not None:
            for block in self.memory.further(self.now()):
                await self._read(block)

    async def _read(self, block: Block) -> MissingReason | None:
        """Read one block; return why it did not arrive."""
        if wait_s := await self._wait_s(block):
            text = f"unit {self.unit} {block} failed or was refused; asked again in {wait_s:.0f} s"
            return self._miss(block, MissingReason.POSTPONED, DeviceTimeoutError(text))
        if not self._session.is_open:
            text = "the connection was closed after another read of this pass failed"
            return self._miss(block, MissingReason.NOT_CONNECTED, DeviceUnreachableError(text))
        try:
            words = await self._session.read(self.unit, block)
        except RegisterRefusedError as error:
            return self._refused(block, error)
        except DeviceError as error:
            if block != self.memory.dating:  # for that one the whole unit backs off
                self.memory.of(block).backoff.failed(self.now())
            return self._miss(block, _reason(error), error)
        self._accept(block, words)
        return None

    async def _wait_s(self, block: Block) -> float:
        """Seconds for which a block is to be left alone; sleeps over a last moment itself."""
        known = self.memory.of(block)
        if not known.proven and (rest_s := self._budget.remaining_s(self.now())):
            if rest_s > _SHORT_WAIT_S:
                return rest_s
            await self._session.clock.sleep(rest_s)
        return known.backoff.remaining_s(self.now())

    def _refused(self, block: Block, error: RegisterRefusedError) -> MissingReason:
        if error.code in PERMANENT_CODES:
            self._budget.spent(self.now())
        self._miss(block, MissingReason.REFUSED, error)
        self.memory.refuse(block, error.code, self.now())
        return MissingReason.REFUSED

    def _accept(self, block: Block, words: RegisterWords) -> None:
        clock = self._session.clock
        if block == self.memory.dating:
            wall = clock.wall()
            arrived_at = wall.replace(microsecond=wall.microsecond // 1000 * 1000)
            self._arrived = (arrived_at, clock.boottime())
        self._words |= words
        self.memory.served(block, clock.boottime())

    def _miss(self, block: Block, reason: MissingReason, error: DeviceError) -> MissingReason:
        code = error.code if isinstance(error, RegisterRefusedError) else None
        self._missing.append(MissingBlock(block, reason, code, str(error)))
        if block == self.memory.dating:
            self._error = error
        return reason

    def result(self) -> UnitResult:
        """What this poll brought of the unit."""
        missing = tuple(self._missing)
        if self._arrived is None:
            return UnitResult(
                unit=self.unit,
                outcome=_failure(self._error),
                words=RegisterWords(),
                missing=missing,
                error=self._error,
            )
        arrived_at, arrived_boottime = self._arrived
        return UnitResult(
            unit=self.unit,
            outcome=Outcome.PARTIAL if missing else Outcome.READ,
            words=self._words,
            arrived_at=arrived_at,
            arrived_boottime=arrived_boottime,
            missing=missing,
        )


def _reason(error: DeviceError) -> MissingReason:
    if isinstance(error, DamagedReplyError):
        return MissingReason.DAMAGED
    if isinstance(error, DeviceTimeoutError):
        return MissingReason.TIMEOUT
    return MissingReason.NOT_CONNECTED


def _failure(error: DeviceError | None) -> Outcome:
    if isinstance(error, DamagedReplyError):
        return Outcome.DAMAGED
    if isinstance(error, RegisterRefusedError) and error.code not in _GATEWAY_CODES:
        return Outcome.REFUSED
    return Outcome.SILENT


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
        budget = RefusalBudget()
        self._units = [_UnitReader(plan, self._session, budget) for plan in units]
        self._number = 0
        self._next_start = self._clock.boottime()

    @property
    def state(self) -> ConnectionState:
        """What the connection is doing."""
        state = self._session.state
        if state is not ConnectionState.DISCONNECTED or not all(unit.rest_s() for unit in self._units):
            return state
        asleep = all(unit.backoff.at_longest for unit in self._units)
        return ConnectionState.ASLEEP if asleep else ConnectionState.BACKING_OFF

    @property
    def refused(self) -> dict[int, frozenset[Block]]:
        """By unit, the requests it refused as not there; a plan made anew should know them."""
        return {unit.unit: frozenset(unit.memory.refused) for unit in self._units}

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

    async def poll(self) -> PollResult:
        """Wait for the next slot and make one pass over all units.

        Raises:
            ConfigurationError: the lock folder cannot be used.
        """
        await self.wait_turn()
        self._number += 1
        started_at, started_boottime = self._clock.wall(), self._clock.boottime()
        self._next_start = started_boottime + self._settings.poll_interval_s
        await self._pass()
        return PollResult(
            number=self._number,
            started_at=started_at,
            started_boottime=started_boottime,
            state=self.state,
            units=tuple(unit.result() for unit in self._units),
        )

    async def _pass(self) -> None:
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
                await self._read(due)
        except DeviceError as error:
            for unit in due:
                unit.give_up(error)

    async def _read(self, due: list[_UnitReader]) -> None:
        # A silent unit costs the connection, so the ones that failed lately come after everything else.
        steady = [unit for unit in due if not unit.backoff.failures]
        for unit in steady:
            await unit.read_fast()
        for unit in steady:
            await unit.read_rest()
        for unit in sorted(set(due) - set(steady), key=lambda unit: unit.backoff.failures):
            await unit.read_fast()
            await unit.read_rest()
