"""Reads one unit, pass after pass, and never raises for what the device does."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

from sungrow_lib.errors import (
    DamagedReplyError,
    DeviceError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    RegisterRefusedError,
)
from sungrow_lib.modbus.backoff import Backoff
from sungrow_lib.modbus.connection import ConnectionState
from sungrow_lib.modbus.learning import UnitMemory, UnitPlan
from sungrow_lib.modbus.results import MissingBlock, MissingReason, Outcome, UnitResult
from sungrow_lib.modbus.session import DeviceSession
from sungrow_lib.modbus.settings import require_unit
from sungrow_lib.registers.words import Block, RegisterWords
from sungrow_lib.sample import whole_milliseconds

_NO_ANSWER: Final = frozenset({MissingReason.TIMEOUT, MissingReason.DAMAGED, MissingReason.NOT_CONNECTED})

_SHORT_WAIT_S: Final = 0.25
"""A refused read's distance that ends within this is waited for inside the pass: the next pass asks at the
same moment of its five seconds, and would always be a hair too early."""

_GATEWAY_CODES: Final = frozenset({10, 11})
"""Exception codes by which a gateway says that the unit behind it is silent."""


class UnitReader:
    """Reads one unit; never raises for what the device does.

    A poll of it is :meth:`begin`, then :meth:`read_fast`, :meth:`read_further` and :meth:`read_due` inside
    one pass of the session, then :meth:`result`.

    Args:
        plan: what to read.
        session: the device.
        backoff: waits after silence.
        timeout_s: seconds to wait for an answer, where that is less than the settings allow.
    """

    def __init__(
        self,
        plan: UnitPlan,
        session: DeviceSession,
        *,
        backoff: Backoff | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.unit = require_unit(plan.unit)
        self.memory = UnitMemory(plan)
        self.backoff = backoff or Backoff()
        self._session = session
        self._timeout_s = timeout_s
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
        """The present moment on the boot-time clock, in seconds."""
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

    async def read_further(self) -> None:
        """Read the rest of the fast tier, if there is a reading to complete."""
        if self._arrived is not None:
            for block in self.memory.further:
                await self._read(block)

    async def read_due(self, deadline: float = math.inf) -> None:
        """Read what else is due, as far as that ends by ``deadline`` (boot-time seconds).

        What has no time waits for another pass. When it has waited long, one block a pass is read anyway:
        then the next pass is late, and the pauses are kept.
        """
        if self._arrived is None:
            return
        has_forced = False
        for block in self.memory.due(self.now()):
            if self.now() + self._session.read_s > deadline:
                if self.memory.must_wait(block, self.now()) or has_forced:
                    continue
                has_forced = True
            await self._read(block)

    async def _read(self, block: Block) -> MissingReason | None:
        """Read one block; return why it did not arrive."""
        if await self._is_sparing(block):
            text = f"unit {self.unit} {block} was not asked: another read was refused a moment ago"
            return self._miss(block, MissingReason.POSTPONED, DeviceTimeoutError(text))
        if wait_s := self.memory.of(block).backoff.remaining_s(self.now()):
            text = f"unit {self.unit} {block} failed or was refused; asked again in {wait_s:.0f} s"
            return self._miss(block, MissingReason.POSTPONED, DeviceTimeoutError(text))
        if not self._session.is_open:
            text = "the connection was closed after another read of this pass failed"
            return self._miss(block, MissingReason.NOT_CONNECTED, DeviceUnreachableError(text))
        try:
            words = await self._session.read(self.unit, block, timeout_s=self._timeout_s)
        except RegisterRefusedError as error:
            return self._refused(block, error)
        except DeviceError as error:
            if not self.memory.of(block).proven:  # the answer that was lost may have been a refusal
                self._session.after_refusal()
            if block != self.memory.dating:  # for that one the whole unit backs off
                self.memory.of(block).backoff.failed(self.now())
            return self._miss(block, MissingReason.of(error), error)
        self._accept(block, words)
        return None

    async def _is_sparing(self, block: Block) -> bool:
        """Whether a block is left alone because of refusals; sleeps over a last moment itself."""
        is_proven = self.memory.of(block).proven
        if is_proven and block == self.memory.dating:
            return False
        refusals = self._session.refusals
        rest = refusals.remaining_of_any_s if is_proven else refusals.remaining_s
        if (rest_s := rest(self.now())) > _SHORT_WAIT_S:
            return True
        if rest_s:
            await self._session.clock.sleep(rest_s)
        return False

    def _refused(self, block: Block, error: RegisterRefusedError) -> MissingReason:
        self._session.after_refusal()
        self._miss(block, MissingReason.REFUSED, error)
        self.memory.refuse(block, error.code, self.now(), self._session.clock.wall().timestamp())
        return MissingReason.REFUSED

    def _accept(self, block: Block, words: RegisterWords) -> None:
        clock = self._session.clock
        if block == self.memory.dating:
            self._arrived = (whole_milliseconds(clock.wall()), clock.boottime())
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
                state=self._state(),
                is_dry=self.memory.dating is None,
            )
        arrived_at, arrived_boottime = self._arrived
        return UnitResult(
            unit=self.unit,
            outcome=Outcome.PARTIAL if missing else Outcome.READ,
            words=self._words,
            arrived_at=arrived_at,
            arrived_boottime=arrived_boottime,
            missing=missing,
            state=self._session.state,
        )

    @property
    def resting_state(self) -> ConnectionState | None:
        """How it rests because it, or the request that dates its readings, failed; None if neither did."""
        dating = self.memory.dating
        backoffs = [self.backoff] if dating is None else [self.backoff, self.memory.of(dating).backoff]
        failing = [backoff.at_longest for backoff in backoffs if backoff.failures]
        if not failing:
            return None
        return ConnectionState.ASLEEP if any(failing) else ConnectionState.BACKING_OFF

    def _state(self) -> ConnectionState:
        state = self._session.state
        return state if state is ConnectionState.ASLEEP else self.resting_state or state


def _failure(error: DeviceError | None) -> Outcome:
    if isinstance(error, DamagedReplyError):
        return Outcome.DAMAGED
    if isinstance(error, RegisterRefusedError) and error.code not in _GATEWAY_CODES:
        return Outcome.REFUSED
    return Outcome.SILENT
