"""What real dongles do wrong, by name, so that tests and users can have it on demand."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from sungrow_lib.errors import ConfigurationError

EXCEPTION_BIT: Final = 0x80


class Fault(StrEnum):
    """One kind of misbehaviour, applied to the answer of one request.

    Attributes:
        text: the same in words.
    """

    text: str

    def __new__(cls, name: str, text: str = "") -> Self:
        """Make a member that knows its text."""
        member = str.__new__(cls, name)
        member._value_, member.text = name, text
        return member

    SHORT_EXCEPTION = (
        "short-exception",
        "exception 2 with an MBAP length of 2 where 3 bytes follow (WiNet-S, SH-RT)",
    )
    CODELESS_EXCEPTION = "codeless-exception", "the same without the code byte"
    EXCEPTION_ZERO = "exception-zero", "exception code 0, which Modbus does not define"
    DEVICE_BUSY = "device-busy", "exception 6"
    SLOW = "slow", "the answer comes one second late"
    SILENCE = "silence", "no answer to this request"
    TRUNCATED = "truncated", "half of the answer"
    EXTRA_BYTES = "extra-bytes", "noise behind the answer"
    LEADING_NOISE = "leading-noise", "a stale exception frame with a wrong length before the answer"
    WRONG_TRANSACTION = "wrong-transaction", "the answer carries another transaction id"
    WRONG_UNIT = "wrong-unit", "the answer carries another unit id"
    WRONG_COUNT = "wrong-count", "the answer holds one register less than asked for"
    STALE_REPLY = "stale-reply", "the answer to the request before comes once more, then the right one"
    RESET = "reset", "the connection is reset instead of an answer"
    CLOSE = "close", "the connection is closed after the answer"
    HALF_OPEN = "half-open", "the connection stands, but nothing is answered on it any more"


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an answer leaves the simulator.

    Attributes:
        payload: bytes to send, possibly none.
        delay_s: seconds to wait first.
        reset: reset the connection instead of sending.
        close: close the connection afterwards.
        deaf: ignore every later request of this connection.
    """

    payload: bytes
    delay_s: float = 0.0
    reset: bool = False
    close: bool = False
    deaf: bool = False


def _exception(frame: bytes, code: int, length: int = 3) -> bytes:
    function = frame[7] | EXCEPTION_BIT
    return frame[:4] + struct.pack(">HBBB", length, frame[6], function, code)


def _other_transaction(frame: bytes) -> bytes:
    return struct.pack(">H", (int.from_bytes(frame[:2], "big") + 1) & 0xFFFF) + frame[2:]


def _one_register_less(frame: bytes) -> bytes:
    if len(frame) < 13:  # noqa: PLR2004 - an exception, or a single register: nothing to take away
        return frame[:-1]
    return frame[:4] + struct.pack(">H", len(frame) - 8) + frame[6:8] + bytes([frame[8] - 2]) + frame[9:-2]


_STALE_EXCEPTION: Final = bytes.fromhex("003200000002018402")
_NOISE: Final = bytes.fromhex("deadbeef00")

_Change = Callable[[bytes, bytes], Delivery]

_DELIVERIES: Final[Mapping[Fault, _Change]] = {
    Fault.SHORT_EXCEPTION: lambda frame, _: Delivery(_exception(frame, 2, length=2)),
    Fault.CODELESS_EXCEPTION: lambda frame, _: Delivery(_exception(frame, 2, length=2)[:-1]),
    Fault.EXCEPTION_ZERO: lambda frame, _: Delivery(_exception(frame, 0)),
    Fault.DEVICE_BUSY: lambda frame, _: Delivery(_exception(frame, 6)),
    Fault.SLOW: lambda frame, _: Delivery(frame, delay_s=1.0),
    Fault.SILENCE: lambda _frame, _: Delivery(b""),
    Fault.TRUNCATED: lambda frame, _: Delivery(frame[: max(7, len(frame) // 2)]),
    Fault.EXTRA_BYTES: lambda frame, _: Delivery(frame + _NOISE),
    Fault.LEADING_NOISE: lambda frame, _: Delivery(_STALE_EXCEPTION + frame),
    Fault.WRONG_TRANSACTION: lambda frame, _: Delivery(_other_transaction(frame)),
    Fault.WRONG_UNIT: lambda frame, _: Delivery(frame[:6] + bytes([frame[6] ^ 0x40]) + frame[7:]),
    Fault.WRONG_COUNT: lambda frame, _: Delivery(_one_register_less(frame)),
    Fault.STALE_REPLY: lambda frame, before: Delivery(before + frame),
    Fault.RESET: lambda _frame, _: Delivery(b"", reset=True),
    Fault.CLOSE: lambda frame, _: Delivery(frame, close=True),
    Fault.HALF_OPEN: lambda _frame, _: Delivery(b"", deaf=True),
}


def deliver(fault: Fault | None, frame: bytes, previous: bytes) -> Delivery:
    """Turn the right answer into what is sent.

    Args:
        fault: what goes wrong; None for nothing.
        frame: the right answer.
        previous: the answer before it on this connection, possibly empty.
    """
    return Delivery(frame) if fault is None else _DELIVERIES[fault](frame, previous)


@dataclass(frozen=True, slots=True)
class RecurringFault:
    """A fault that hits one request in ``every``.

    Attributes:
        fault: what goes wrong.
        every: 1 for every request.
    """

    fault: Fault
    every: int = 1

    @classmethod
    def parse(cls, text: str) -> RecurringFault:
        """Read ``NAME`` or ``NAME:EVERY``, such as ``reset:20``.

        Raises:
            ConfigurationError: there is no such fault, or ``EVERY`` is no positive number.
        """
        name, _, every = text.partition(":")
        try:
            recurring = cls(Fault(name), int(every or 1))
        except ValueError:
            names = ", ".join(Fault)
            raise ConfigurationError(
                f"no fault {text!r}; use NAME or NAME:EVERY with one of {names}"
            ) from None
        if recurring.every < 1:
            raise ConfigurationError(f"{text!r}: EVERY counts requests, from 1")
        return recurring


class FaultSchedule:
    """Which fault hits the next request.

    Args:
        recurring: faults that come back by themselves.
    """

    def __init__(self, recurring: tuple[RecurringFault, ...] = ()) -> None:
        self._recurring = recurring
        self._queued: deque[Fault | None] = deque()
        self._requests = 0

    def inject(self, *faults: Fault | None) -> None:
        """Queue faults, one for each of the next requests; None lets one request pass."""
        self._queued.extend(faults)

    def next(self) -> Fault | None:
        """Return the fault of the request that is being answered now."""
        self._requests += 1
        if self._queued:
            return self._queued.popleft()
        hits = (entry.fault for entry in self._recurring if self._requests % entry.every == 0)
        return next(hits, None)
