"""`RegisterMap`: all registers of a family, and the values in what was read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final, TypeAlias

from sungrow_lib.errors import UsageError
from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import NOTHING_KNOWN, DeviceContext
from sungrow_lib.registers.battery import BATTERY_REGISTERS
from sungrow_lib.registers.ihm import IHM_REGISTERS
from sungrow_lib.registers.model import Decoder, Register, Value
from sungrow_lib.registers.sg import SG_REGISTERS
from sungrow_lib.registers.sh import SH_REGISTERS
from sungrow_lib.registers.variants import VARIANTS
from sungrow_lib.registers.words import BLOCK_MAX, WORD_MAX, RegisterWords, Space

_TABLES: Final = {
    Family.SH: SH_REGISTERS,
    Family.SG: SG_REGISTERS,
    Family.BATTERY: BATTERY_REGISTERS,
    Family.IHM: IHM_REGISTERS,
}

_RUN_OF_HOLES: Final = 3
"""Registers in a row that read 0xFFFF throughout, from which on they are a hole."""

SURELY_THERE: Final = frozenset({"export_power"})
"""Registers every device of the family has, on every path: believed without a neighbour, too."""


@dataclass(frozen=True, slots=True)
class _Reader:
    """A register as one device fills it."""

    register: Register
    keys: tuple[tuple[Space, int], ...]
    is_lacking: bool
    decode: Decoder
    by_raw: tuple[tuple[range, Decoder], ...]

    def value(self, words: Sequence[int]) -> Value | None:
        for raw, decode in self.by_raw:
            if words[0] in raw:
                return decode(words)
        return self.decode(words)


class RegisterMap:
    """All registers of one family, in the order of the documents.

    >>> from sungrow_lib.registers.words import RegisterWords, Space
    >>> words = RegisterWords({(Space.INPUT, 13010): 65134, (Space.INPUT, 13011): 65535})
    >>> RegisterMap.for_family(Family.SH).decode(words)
    {'export_power': -402}
    """

    __slots__ = ("_by_name", "family", "registers")

    def __init__(self, family: Family) -> None:
        self.family = family
        self.registers: tuple[Register, ...] = tuple(sorted(_TABLES[family], key=_place))
        self._by_name = {register.name: register for register in self.registers}

    @staticmethod
    @cache
    def for_family(family: Family) -> RegisterMap:
        """Return the map of ``family``; always the same object."""
        return RegisterMap(family)

    def __iter__(self) -> Iterator[Register]:
        return iter(self.registers)

    def __len__(self) -> int:
        return len(self.registers)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def by_name(self, name: str) -> Register:
        """Return the register called ``name``.

        Raises:
            UsageError: this family has none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise UsageError(f"the {self.family} map has no register {name!r}") from None

    def at(self, space: Space, number: int) -> Register | None:
        """Return the register that holds document number ``number`` of ``space``, None for a hole."""
        behind = bisect_right(self.registers, (-space, number), key=_place)
        found = self.registers[behind - 1] if behind else None
        return found if found and found.space is space and number <= found.last else None

    def decode(
        self, words: RegisterWords, context: DeviceContext = NOTHING_KNOWN, *, absent: bool = True
    ) -> dict[str, Value | None]:
        """Return the values of all registers whose words were read in full.

        Args:
            words: what was read.
            context: model and connection path. They decide whether 0xFFFF in every word of a signed
                register is -1 or a hole, and which scale applies where devices differ.
            absent: whether to include registers this device is known to lack, whatever they answered, and
                zeros that are known to stand for "not known".

        Returns:
            Values by name, scaled to the register's unit; None for "not available".
        """
        held = words.by_register
        values = {
            name: decode((held[key],)) if others is None else decode((held[key], *[held[k] for k in others]))
            for name, key, others, decode in _present(self.family, context, tuple(held), absent)
        }
        if not absent:
            for name in _doubtful_zeros(self.family, context):
                if values.get(name) in (0, []):
                    values[name] = None
        return values

    def holes(self, words: RegisterWords) -> frozenset[str]:
        """Return the registers that stand in a run of 0xFFFF words, and so hold no value.

        One register full of 0xFFFF may mean -1, where a neighbour that was read holds a value. Three or more
        in a row are a hole in the block, whatever their types: nothing measures -1 in all of them at once.
        So are fewer that were read without a neighbour, unless every device has them: nothing tells that
        they hold a value. Words nobody documents neither end a run nor count.
        """
        held = words.by_register
        starts, fields = _fields(self.family, tuple(held))
        if WORD_MAX not in [held[key] for key in starts]:
            return frozenset()  # as in most readings
        found: list[str] = []
        run: list[str] = []
        follows_value = False
        for keys, name in fields:
            begins_full = bool(keys) and held[keys[0]] == WORD_MAX
            if name is not None and begins_full and all(held[key] == WORD_MAX for key in keys):
                run.append(name)
            elif name is not None or not begins_full:
                is_beside_value = follows_value or bool(keys)
                if len(run) >= _RUN_OF_HOLES or not (is_beside_value or SURELY_THERE.issuperset(run)):
                    found += run
                run = []
                follows_value = bool(keys)
        return frozenset(found)

    def beside(self, register: Register, words: RegisterWords) -> Iterator[Register]:
        """Yield the unread neighbours that decide whether 0xFFFF in all of ``register`` is a hole or -1."""
        rows = [row for row in self.registers if row.space is register.space]
        at = rows.index(register)
        for side in (rows[max(0, at - _RUN_OF_HOLES + 1) : at][::-1], rows[at + 1 : at + _RUN_OF_HOLES]):
            for row in side:
                if abs(row.number - register.number) >= BLOCK_MAX:
                    break
                taken = words.take(row.space, row.number, row.word_count)
                if taken is None:
                    yield row
                elif set(taken) != {WORD_MAX}:
                    break


def _place(register: Register) -> tuple[int, int]:
    """Where it stands in the documents."""
    return -register.space, register.number


_Key: TypeAlias = tuple[Space, int]


@lru_cache(maxsize=64)
def _present(
    family: Family,
    context: DeviceContext,
    held: tuple[_Key, ...],
    absent: bool,  # noqa: FBT001 - a part of the key
) -> tuple[tuple[str, _Key, tuple[_Key, ...] | None, Decoder], ...]:
    """The registers whose words are all among ``held``: name, first key, further keys if any, decoder.

    They are the same in every poll, so they are worked out once.
    """
    keys = set(held)
    readers = [
        _reader(register.name, family, context)
        for register in RegisterMap.for_family(family)
        if keys.issuperset(_keys(register))
    ]
    return tuple(
        (
            reader.register.name,
            reader.keys[0],
            reader.keys[1:] or None,
            reader.value if reader.by_raw else reader.decode,
        )
        for reader in readers
        if absent or not reader.is_lacking
    )


@lru_cache(maxsize=64)
def _doubtful_zeros(family: Family, context: DeviceContext) -> tuple[str, ...]:
    table = RegisterMap.for_family(family)
    return tuple(register.name for register in table if register.applies.doubts_zero(context))


@lru_cache(maxsize=64)
def _fields(
    family: Family, held: tuple[tuple[Space, int], ...]
) -> tuple[tuple[_Key, ...], tuple[tuple[tuple[_Key, ...], str | None], ...]]:
    """Where registers begin; and the registers by number, each with its words, single words without a name.

    An entry without words stands where the next word is further away than one request can reach, and at the
    end.
    """
    table = RegisterMap.for_family(family)
    own = {key: key for key in held}
    fields: list[tuple[tuple[tuple[Space, int], ...], str | None]] = []
    last: tuple[Space, int] | None = None
    for key in sorted(own):
        register = table.at(*key)
        words = _keys(register) if register else ()
        if last is not None and (key[0] is not last[0] or key[1] - last[1] >= BLOCK_MAX):
            fields.append(((), None))
        last = key
        if register is None or not own.keys() >= set(words):
            fields.append(((key,), None))
        elif key == words[0]:
            fields.append((tuple([own[word] for word in words]), register.name))
    return tuple(words[0] for words, name in fields if name is not None), (*fields, ((), None))


def _keys(register: Register) -> tuple[tuple[Space, int], ...]:
    return tuple((register.space, number) for number in register.block.numbers)


@lru_cache(maxsize=2048)
def _reader(name: str, family: Family, context: DeviceContext) -> _Reader:
    """Made for registers that are read alone, and once for all the sets they are read in: memory."""
    register = RegisterMap.for_family(family).by_name(name)
    variants = [variant for variant in VARIANTS if variant.concerns(register, family, context)]
    for variant in variants:
        if variant.raw is None:
            register = variant.of(register)
    presence = register.applies.presence(context)
    by_raw = tuple(
        (variant.raw, variant.of(register).decoder(presence))
        for variant in variants
        if variant.raw is not None
    )
    is_lacking = register.applies.is_lacking(context)
    is_other = any(variant.is_other for variant in variants)
    decode: Decoder = _nothing if is_other else register.decoder(presence)
    return _Reader(register, _keys(register), is_lacking, decode, by_raw)


def _nothing(_words: Sequence[int]) -> None:
    """The value of words that mean something else on this device."""
