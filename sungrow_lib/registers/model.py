"""What one register holds: words to a value in units, and back.

Everything here is per register and knows nothing of a device; whether a device *has* a register is said by
:class:`~sungrow_lib.registers.applies.Applies`, whether it scales it differently by
:mod:`~sungrow_lib.registers.variants`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Final, TypeAlias

from sungrow_lib.errors import UsageError
from sungrow_lib.registers.applies import EVERYWHERE, Applies, Presence
from sungrow_lib.registers.words import WORD_MAX, Block, Space

Value: TypeAlias = int | float | str | list[str] | list[int | float | None]
"""A decoded value: a number in the register's unit, a text, the texts of the set bits, or an array."""


NumberDecoder: TypeAlias = Callable[[Sequence[int]], int | float | None]
Decoder: TypeAlias = Callable[[Sequence[int]], Value | None]


class DataType(StrEnum):
    """How words make a value. Two words are sent low word first, bytes inside a word high byte first.

    Attributes:
        is_signed: whether negative values exist.
        item_words: words of one number; an array holds several of them.
    """

    U16 = "U16"
    S16 = "S16"
    U32 = "U32"
    S32 = "S32"
    STRING = "STRING"
    ENUM = "ENUM"
    BITFIELD = "BITFIELD"

    is_signed: bool
    item_words: int

    def __init__(self, name: str) -> None:
        self.is_signed = name in {"S16", "S32"}
        self.item_words = 2 if name in {"U32", "S32"} else 1


class Access(StrEnum):
    """What may be done with a register."""

    READ = "RO"
    READ_WRITE = "RW"
    WRITE = "WO"


class Kind(StrEnum):
    """How a register behaves over time."""

    GAUGE = "gauge"
    COUNTER = "counter"
    STATE = "state"
    SETTING = "setting"
    TEXT = "text"


class Status(StrEnum):
    """Where the knowledge of a register comes from."""

    OFFICIAL = "official"
    """In the manufacturer's current document."""
    LEGACY = "legacy"
    """Only in the manufacturer's older documents."""
    UNDOCUMENTED = "undocumented"
    """In no document of this family; used by several projects."""
    INFERRED = "inferred"
    """Concluded from captured values."""


_UNKNOWN_CHOICE: Final = re.compile(r"unknown \(0x([0-9A-F]{4})\)")
_STRING_PADDING: Final = b"\x00\xff "
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_NO_TEXTS: Final[Mapping[int, str]] = {}
"""One for the many registers without any: memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """One row of Sungrow's register tables.

    Attributes:
        name: unique within a family's map.
        number: document number of the first word (1-based; the wire address is one less).
        space: input (function 04) or holding (function 03) registers.
        type: how the words make a value.
        word_count: words in all; more than the type needs makes an array.
        decimals: decimal digits of the scale: 2 means the raw number counts hundredths of the unit, -1 tens.
        unit: printed unit, empty for none.
        kind: behaviour over time.
        access: whether it may be written.
        valid_range: least and greatest value a write may hold, in the unit, where the document says so; of
            a signed number of two words also what it can be while one of them is 0xFFFF, as half a hole is.
        applies: which models and connection paths have it.
        choices: texts of an enumeration by raw value.
        otherwise: text of every other raw value of an enumeration, where the table has one.
        bits: texts of a bit field by bit number.
        code_bases: fault code of bit 0 and of bit 16, where Sungrow numbers the bits as fault codes.
        feature: what it belongs to that a device has as a whole or not at all: where the first register of a
            feature is refused, the others are.
        signed_by_firmware: documented as unsigned, but some firmware fills it with signed values; no device
            reaches the upper half of the unsigned range, so that half always means a negative value.
        sign: what a positive value means, where that needs saying.
        status: how well it is known.
        notes: what to beware of.
        source: the document or project it is taken from.
    """

    name: str
    number: int
    space: Space = Space.INPUT
    type: DataType
    word_count: int = 1
    decimals: int = 0
    unit: str = ""
    kind: Kind = Kind.GAUGE
    access: Access = Access.READ
    valid_range: tuple[float, float] | None = None
    applies: Applies = EVERYWHERE
    choices: Mapping[int, str] = field(default_factory=lambda: _NO_TEXTS, hash=False)
    otherwise: str | None = None
    bits: Mapping[int, str] = field(default_factory=lambda: _NO_TEXTS, hash=False)
    code_bases: tuple[int, int] | None = None
    feature: str = ""
    signed_by_firmware: bool = False
    sign: str = ""
    status: Status = Status.OFFICIAL
    notes: str = ""
    source: str = ""

    @property
    def last(self) -> int:
        """Document number of the last word."""
        return self.number + self.word_count - 1

    @property
    def address(self) -> int:
        """Address on the wire: the document number less one."""
        return self.number - 1

    @property
    def block(self) -> Block:
        """The request that reads exactly this register."""
        return Block(self.space, self.number, self.word_count)

    @property
    def is_choice(self) -> bool:
        """Whether its values are texts of an enumeration."""
        return self.type is DataType.ENUM or bool(self.choices)

    @property
    def is_array(self) -> bool:
        """Whether it holds several numbers."""
        return (
            self.type not in {DataType.STRING, DataType.BITFIELD} and self.word_count > self.type.item_words
        )

    def decode(self, words: Sequence[int], *, presence: Presence = Presence.UNKNOWN) -> Value | None:
        """Return the value of ``words``, None for "not available".

        Args:
            words: exactly `word_count` raw words, in order of their register numbers.
            presence: whether the device is known to have this register. Holes in a block read 0xFFFF in
                every word, which is -1 in a signed register; only a register known to exist can mean it.

        Raises:
            UsageError: ``words`` has the wrong length.
        """
        if len(words) != self.word_count:
            raise UsageError(f"{self.name} takes {self.word_count} words, not {len(words)}")
        return self.decoder(presence)(words)

    def decoder(self, presence: Presence) -> Decoder:
        """Return what `decode` does, worked out once for the many times a device is polled.

        It does not check how many words it is given.
        """
        if self.type is DataType.STRING:
            return _decode_text
        if self.type is DataType.BITFIELD:
            return self._decode_bits
        if self.is_choice:
            return self._decode_choice
        return self._array_decoder(presence) if self.is_array else self._number_decoder(presence)

    def encode(self, value: Value) -> tuple[int, ...]:
        """Return the words that `decode` turns into ``value``.

        Raises:
            UsageError: the value is of the wrong kind, or does not fit.
        """
        if self.type is DataType.STRING:
            return self._encode_text(value)
        if self.type is DataType.BITFIELD:
            return self._encode_bits(value)
        if self.is_choice:
            return (self._encode_choice(value),)
        if self.is_array:
            return self._encode_array(value)
        return self._encode_number(value)

    def text_of(self, raw: int) -> str:
        """Text of an enumeration's raw value."""
        return self.choices.get(raw) or self.otherwise or f"unknown (0x{raw:04X})"

    def codes(self, words: Sequence[int]) -> list[int]:
        """Fault codes of the bits set in a bit field that numbers them; none when not available."""
        if self.code_bases is None or all(word == WORD_MAX for word in words):
            return []
        low, high = self.code_bases
        return [low + bit if bit < _WORD_BITS else high + bit - _WORD_BITS for bit in _set_bits(words)]

    def _number_decoder(self, presence: Presence) -> NumberDecoder:
        value_of = self._value_of_raw(presence)
        if self.type.item_words == 1:
            return lambda words: value_of(words[0])
        return lambda words: value_of(words[0] | words[1] << _WORD_BITS)

    def _array_decoder(self, presence: Presence) -> Decoder:
        value_of = self._value_of_raw(presence)
        if self.type.item_words == 1:
            return lambda words: [value_of(word) for word in words]
        return lambda words: [
            value_of(low | high << _WORD_BITS) for low, high in zip(words[::2], words[1::2], strict=True)
        ]

    def _value_of_raw(self, presence: Presence) -> Callable[[int], int | float | None]:
        """What a raw number means."""
        return _value_of_raw(self.type, self.decimals, presence, self.valid_range, self.signed_by_firmware)

    def _decode_choice(self, words: Sequence[int]) -> str | None:
        return None if words[0] == WORD_MAX else self.text_of(words[0])

    def _decode_bits(self, words: Sequence[int]) -> list[str] | None:
        if all(word == WORD_MAX for word in words):
            return None
        return [self._bit_text(bit) for bit in _set_bits(words)]

    def _encode_number(self, value: Value) -> tuple[int, ...]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"{self.name} takes a number, not {value!r}")
        if not math.isfinite(value):
            raise UsageError(f"{self.name} takes a finite number")
        raw = round(value * 10**self.decimals)
        ones, bits = _ALL_ONES[self.type.item_words]
        signed = self.type.is_signed or self.signed_by_firmware
        highest = ones - 1 if bits == _WORD_BITS else _HALF_HOLE - 1
        low, high = (-(ones >> 1) - 1, (ones >> 1) - 1) if signed else (0, highest)
        if not low <= raw <= high:
            least, most = _scaled(low, self.decimals), _scaled(high, self.decimals)
            raise UsageError(f"{self.name} can hold {least} to {most} {self.unit}, not {value}".rstrip())
        raw %= 1 << bits
        return (raw,) if self.type.item_words == 1 else (raw & WORD_MAX, raw >> _WORD_BITS)

    def _encode_array(self, value: Value) -> tuple[int, ...]:
        items = self.word_count // self.type.item_words
        if not isinstance(value, list) or len(value) != items:
            raise UsageError(f"{self.name} takes a list of {items} numbers")
        empty = (WORD_MAX,) * self.type.item_words
        return tuple(
            word for item in value for word in (empty if item is None else self._encode_number(item))
        )

    def _encode_choice(self, value: Value) -> int:
        for raw, text in self.choices.items():
            if text == value:
                return raw
        if self.otherwise is not None and value == self.otherwise:
            return next(raw for raw in range(0xFF, -1, -1) if raw not in self.choices)
        unknown = _UNKNOWN_CHOICE.fullmatch(value) if isinstance(value, str) else None
        if unknown is None:
            raise UsageError(f"{self.name} takes one of {', '.join(dict.fromkeys(self.choices.values()))}")
        return int(unknown[1], 16)

    def _encode_bits(self, value: Value) -> tuple[int, ...]:
        if not isinstance(value, list):
            raise UsageError(f"{self.name} takes a list of texts")
        free = {bit: self._bit_text(bit) for bit in range(self.word_count * _WORD_BITS)}
        raw = 0
        for wanted in value:
            bit = next((bit for bit, text in free.items() if text == wanted), None)
            if bit is None:
                raise UsageError(f"{self.name} has no bit {wanted!r}")
            del free[bit]
            raw |= 1 << bit
        return tuple(raw >> shift & WORD_MAX for shift in range(0, self.word_count * _WORD_BITS, _WORD_BITS))

    def _bit_text(self, bit: int) -> str:
        return self.bits.get(bit) or f"unknown (bit {bit})"

    def _encode_text(self, value: Value) -> tuple[int, ...]:
        size = self.word_count * 2
        if not isinstance(value, str) or not value.isascii() or len(value) > size:
            raise UsageError(f"{self.name} takes at most {size} ASCII characters")
        data = value.encode("ascii").ljust(size, b"\x00")
        return tuple(data[at] << 8 | data[at + 1] for at in range(0, size, 2))


_WORD_BITS: Final = 16
_ALL_ONES: Final = {1: (0xFFFF, 16), 2: (0xFFFF_FFFF, 32)}
"""By words of a number: all bits set, and how many bits those are."""
_HALF_HOLE: Final = 0xFFFF_0000
"""Least unsigned number whose high word is 0xFFFF."""
_USUAL_REACH: Final = 60_000
"""W that no house moves either way; half a hole reads as 65535, or as a little more than -65536."""


@cache
def _value_of_raw(
    type_: DataType,
    decimals: int,
    presence: Presence,
    valid_range: tuple[float, float] | None,
    signed_by_firmware: bool,  # noqa: FBT001 - a part of the key
) -> Callable[[int], int | float | None]:
    """What a raw number means; all that can be is worked out here, for it is asked hundreds of times.

    Registers of one kind share it: it takes a kilobyte.
    """
    ones, bits = _ALL_ONES[type_.item_words]
    signed = type_.is_signed or signed_by_firmware
    highest = ones >> 1 if signed else ones
    all_ones_is_minus_one = type_.is_signed and presence is Presence.PRESENT
    unavailable = {highest} if all_ones_is_minus_one else {highest, ones}
    two_words = bits > _WORD_BITS
    with_half_a_hole = _raw_beside_a_hole(type_, decimals, presence, valid_range)
    idle_beside_a_hole = WORD_MAX if type_.is_signed else None
    divisor: int = 10 ** max(decimals, 0)
    factor: int = 10 ** max(-decimals, 0)

    def value_of(raw: int) -> int | float | None:
        if raw in unavailable:
            return None
        if raw > highest:
            raw -= ones + 1
        if two_words and _has_half_a_hole(raw) and (raw == idle_beside_a_hole or raw not in with_half_a_hole):
            return None
        return raw * factor if divisor == 1 else raw / divisor

    return value_of


def _raw_beside_a_hole(
    type_: DataType, decimals: int, presence: Presence, valid_range: tuple[float, float] | None
) -> range:
    """The raw numbers of two words that are believed although one of the words is 0xFFFF.

    An unsigned number is never that large that its high word is; a small negative one always has it.
    """
    if presence is Presence.ABSENT:
        return range(0)
    if not type_.is_signed:
        return range(_HALF_HOLE)
    if valid_range is None:
        return range(-_USUAL_REACH, _USUAL_REACH + 1)
    least, most = (round(limit * 10**decimals) for limit in valid_range)
    return range(least, most + 1)


def _has_half_a_hole(raw: int) -> bool:
    return raw & WORD_MAX == WORD_MAX or raw >> _WORD_BITS & WORD_MAX == WORD_MAX


def _scaled(raw: int, decimals: int) -> int | float:
    """``raw`` shifted by ``decimals`` digits; the quotient of integers is the float nearest the decimal."""
    return raw / 10**decimals if decimals > 0 else raw * int(10**-decimals)


def _set_bits(words: Sequence[int]) -> list[int]:
    raw = sum(word << shift * _WORD_BITS for shift, word in enumerate(words))
    return [bit for bit in range(raw.bit_length()) if raw >> bit & 1]


def _decode_text(words: Sequence[int]) -> str | None:
    data = b"".join(word.to_bytes(2, "big") for word in words)
    text = data.partition(b"\x00")[0].strip(_STRING_PADDING).decode("ascii", "replace")
    return "".join(char if char.isprintable() else _REPLACEMENT for char in text) or None
