"""`RegisterMap`: all registers of a family, and the values in what was read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

from sungrow_lib.errors import UsageError
from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import NOTHING_KNOWN, DeviceContext, Presence
from sungrow_lib.registers.battery import BATTERY_REGISTERS
from sungrow_lib.registers.ihm import IHM_REGISTERS
from sungrow_lib.registers.model import Decoder, Register, Value
from sungrow_lib.registers.sg import SG_REGISTERS
from sungrow_lib.registers.sh import SH_REGISTERS
from sungrow_lib.registers.variants import VARIANTS
from sungrow_lib.registers.words import RegisterWords, Space

_TABLES: Final = {
    Family.SH: SH_REGISTERS,
    Family.SG: SG_REGISTERS,
    Family.BATTERY: BATTERY_REGISTERS,
    Family.IHM: IHM_REGISTERS,
}


@dataclass(frozen=True, slots=True)
class _Reader:
    """A register as one device fills it."""

    register: Register
    keys: tuple[tuple[Space, int], ...]
    presence: Presence
    decode: Decoder
    by_raw: tuple[tuple[range, Decoder], ...]

    def value(self, words: tuple[int, ...]) -> Value | None:
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
        self.registers: tuple[Register, ...] = tuple(
            sorted(_TABLES[family], key=lambda row: (-row.space, row.number))
        )
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
        return _by_number(self.family).get((space, number))

    def decode(
        self, words: RegisterWords, context: DeviceContext = NOTHING_KNOWN, *, absent: bool = True
    ) -> dict[str, Value | None]:
        """Return the values of all registers whose words were read in full.

        Args:
            words: what was read.
            context: model and connection path. They decide whether 0xFFFF in every word of a signed
                register is -1 or a hole, and which scale applies where devices differ.
            absent: whether to include registers this device is known to lack, whatever they answered.

        Returns:
            Values by name, scaled to the register's unit; None for "not available".
        """
        held = words.by_register
        return {
            reader.register.name: reader.value(tuple([held[key] for key in reader.keys]))
            for reader in _present(self.family, context, tuple(held))
            if absent or reader.presence is not Presence.ABSENT
        }


@cache
def _by_number(family: Family) -> dict[tuple[Space, int], Register]:
    return {
        (register.space, number): register
        for register in RegisterMap.for_family(family)
        for number in register.block.numbers
    }


@lru_cache(maxsize=64)
def _present(
    family: Family, context: DeviceContext, held: tuple[tuple[Space, int], ...]
) -> tuple[_Reader, ...]:
    """The registers whose words are all among ``held``; the same in every poll, so it is worked out once."""
    keys = set(held)
    return tuple(reader for reader in _readers(family, context) if keys.issuperset(reader.keys))


@lru_cache(maxsize=64)
def _readers(family: Family, context: DeviceContext) -> tuple[_Reader, ...]:
    return tuple(_reader(register, family, context) for register in RegisterMap.for_family(family))


def _reader(register: Register, family: Family, context: DeviceContext) -> _Reader:
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
    keys = tuple((register.space, number) for number in register.block.numbers)
    return _Reader(register, keys, presence, register.decoder(presence), by_raw)
