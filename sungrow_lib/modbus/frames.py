"""One read request and the bytes that may come back for it; no I/O.

No library does this, because dongles send what no strict parser accepts: exception replies with a wrong MBAP
length or without their code, exception code 0, replies to earlier requests, noise between frames. The header
of a good reply is known to the byte before it arrives, so it is searched for, and nothing else is ever taken
for it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NoReturn

from sungrow_lib.errors import DamagedReplyError, DeviceTimeoutError, RegisterRefusedError
from sungrow_lib.registers.words import Block

EXCEPTION_TEXTS: Final = {
    0: "a code Modbus does not define",
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    10: "gateway path unavailable",
    11: "gateway target did not respond",
}
"""Modbus exception codes in words."""

_REQUEST: Final = struct.Struct(">HHHBBHH")
"""Transaction, protocol (0), bytes that follow, unit, function, address, count."""
_REPLY_HEADER: Final = struct.Struct(">HHHBB")
"""Transaction, protocol (0), bytes that follow, unit, function."""
_REQUEST_LENGTH: Final = 6
_HEADER_BYTES: Final = 9
"""MBAP header, function and byte count (or exception code)."""
_EXCEPTION: Final = 0x80


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A read of one block.

    Attributes:
        unit: Modbus unit id.
        block: what to read.
        transaction: transaction id, 0 to 65535.
    """

    unit: int
    block: Block
    transaction: int

    def encode(self) -> bytes:
        """Return the request's frame."""
        block = self.block
        return _REQUEST.pack(
            self.transaction, 0, _REQUEST_LENGTH, self.unit, block.space, block.address, block.count
        )

    def find_reply(self, received: bytes) -> tuple[int, ...] | None:
        """Look for this request's reply in everything received since it was sent.

        Returns:
            The words, or None while there is no complete reply.

        Raises:
            RegisterRefusedError: the reply is an exception.
            DamagedReplyError: the reply to this transaction is about something else.
        """
        size = 2 * self.block.count
        start = received.find(self._header(self.block.space, 3 + size) + bytes([size]))
        if start >= 0:
            words = start + _HEADER_BYTES
            if len(received) < words + size:
                return None
            return struct.unpack_from(f">{self.block.count}H", received, words)
        start = self._find_exception(received)
        if start >= 0:
            if len(received) >= start + _HEADER_BYTES:
                self._refused(received[start + _HEADER_BYTES - 1])
            return None
        self._reject_other_content(received)
        return None

    def give_up(self, received: bytes, reason: str) -> NoReturn:
        """Say what the wait for a reply came to.

        Args:
            received: everything received since the request was sent.
            reason: why no more will come, such as ``"no answer in 3 s"``.

        Raises:
            RegisterRefusedError: an exception reply came without its code.
            DamagedReplyError: bytes came, but no frame, or half of one.
            DeviceTimeoutError: nothing came, or only replies to other requests.
        """
        if self._find_exception(received) >= 0:
            self._refused(0)
        rest = _without_whole_frames(received)
        if rest[2:4] not in {b"", b"\0", b"\0\0"}:
            raise DamagedReplyError(f"what answered is not Modbus TCP: {received[:16]!r}")
        if rest:
            raise DamagedReplyError(f"the reply for {self} broke off after {len(rest)} bytes: {reason}")
        raise DeviceTimeoutError(f"{self}: {reason}")

    def _header(self, function: int, length: int) -> bytes:
        return _REPLY_HEADER.pack(self.transaction, 0, length, self.unit, function)

    def _find_exception(self, received: bytes) -> int:
        function = self.block.space | _EXCEPTION
        # 3 by the standard; WiNet-S firmware and SH-RT inverters say 2 and still send the code.
        return max(received.find(self._header(function, length)) for length in (2, 3))

    def _refused(self, code: int) -> NoReturn:
        text = EXCEPTION_TEXTS.get(code, "unknown")
        raise RegisterRefusedError(f"{self} was refused: exception {code}, {text}", code=code)

    def _reject_other_content(self, received: bytes) -> None:
        start = received.find(struct.pack(">HH", self.transaction, 0))
        if start >= 0 and len(received) >= start + _HEADER_BYTES:
            seen = received[start : start + _HEADER_BYTES].hex(" ")
            raise DamagedReplyError(f"the reply for {self} is about something else: {seen}")

    def __str__(self) -> str:
        return f"unit {self.unit} {self.block}"


def _without_whole_frames(received: bytes) -> bytes:
    """Drop complete frames (late replies to earlier requests) from the front."""
    while len(received) >= _HEADER_BYTES and received[2:4] == b"\0\0":
        length = 6 + int.from_bytes(received[4:6], "big")
        if received[7] & _EXCEPTION:
            length = _HEADER_BYTES
        if length > len(received):
            break
        received = received[length:]
    return received
