"""What a poll brought, and what it did not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sungrow_lib.errors import DamagedReplyError, DeviceError, DeviceTimeoutError, RegisterRefusedError
from sungrow_lib.modbus.connection import ConnectionState
from sungrow_lib.registers.words import Block, RegisterWords


class Outcome(StrEnum):
    """What became of one unit in one poll. Only the first two are readings."""

    READ = "read"
    """Everything asked for arrived."""
    PARTIAL = "partial"
    """The fast block arrived, something else did not."""
    SILENT = "silent"
    """No connection, or no answer."""
    DAMAGED = "damaged"
    """The answer for the fast block was not valid."""
    REFUSED = "refused"
    """The device will not serve the fast block: wrong unit, family or path."""


class MissingReason(StrEnum):
    """Why a block is missing."""

    TIMEOUT = "timeout"
    REFUSED = "refused"
    DAMAGED = "damaged"
    NOT_CONNECTED = "not connected"
    POSTPONED = "postponed"
    """Not asked, to spare the device: it refused or failed another read a moment ago."""

    @classmethod
    def of(cls, error: DeviceError) -> MissingReason:
        """Why a read that failed so brought nothing."""
        if isinstance(error, RegisterRefusedError):
            return cls.REFUSED
        if isinstance(error, DamagedReplyError):
            return cls.DAMAGED
        if isinstance(error, DeviceTimeoutError):
            return cls.TIMEOUT
        return cls.NOT_CONNECTED


@dataclass(frozen=True, slots=True)
class MissingBlock:
    """A block that was due and did not arrive.

    Attributes:
        block: which registers.
        reason: why.
        code: Modbus exception code, when it was refused.
        detail: the same for people.
    """

    block: Block
    reason: MissingReason
    code: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitResult:
    """One unit in one poll.

    Attributes:
        unit: Modbus unit id.
        outcome: what became of it.
        words: everything read; empty unless the outcome is a reading.
        arrived_at: aware UTC time, whole milliseconds, at which the fast block arrived; None without.
        arrived_boottime: the same on the boot-time clock, in seconds.
        missing: what was due and did not arrive.
        error: why there is no reading; None when there is.
        state: what the connection is doing, or that it rests because this unit is silent.
        is_dry: whether the unit refused every request that could date a reading.
    """

    unit: int
    outcome: Outcome
    words: RegisterWords
    arrived_at: datetime | None = None
    arrived_boottime: float | None = None
    missing: tuple[MissingBlock, ...] = ()
    error: DeviceError | None = None
    state: ConnectionState = ConnectionState.IDLE
    is_dry: bool = False

    @property
    def is_reading(self) -> bool:
        """Whether there is something to normalize."""
        return self.outcome in {Outcome.READ, Outcome.PARTIAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class PollResult:
    """One pass over all units.

    Attributes:
        number: running number of the poll, from 1.
        started_at: aware UTC wall-clock time of its start.
        started_boottime: the same on the boot-time clock, in seconds.
        state: the connection's state after it.
        units: one result per unit, in the order of the plans.
    """

    number: int
    started_at: datetime
    started_boottime: float
    state: ConnectionState
    units: tuple[UnitResult, ...]
