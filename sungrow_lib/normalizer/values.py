"""What the table of quantities says of a value: which register supplies it, and how finely it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from typing import Any, Final, TypeAlias

from sungrow_lib.quantities import QUANTITIES, QUANTITY_BY_NAME, Family, Quantity, QuantityKind, Source
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Value
from sungrow_lib.registers.words import WORD_MAX, RegisterWords

Values = Mapping[str, Value | None]
"""Decoded registers by name."""

Number = int | float
_NUMBERS: Final = (int, float)

HOLE_W: Final = -1
HOLE_A: Final = -0.1
"""What a hole in a block looks like in the signed registers, which older firmware lacks."""

_UNIT_FACTOR: Final = {("kW", "W"): 1000, ("kvar", "var"): 1000}

_STATES: Final = {
    "running on grid": "running",
    "run": "running",
    "stop": "stopped",
    "derating run": "derating",
    "dispatch run": "dispatch",
    "dispatch running": "dispatch",
    "alarm run": "running with alarm",
    "warn running": "running with alarm",
    "forced (compulsory) mode": "forced mode",
}
"""One word for what the families call differently; every other state keeps its text."""


@dataclass(frozen=True, slots=True)
class _Supplier:
    """A register that can supply a quantity, as every reading needs it.

    Attributes:
        register: its name.
        factor: from its unit and sign to the quantity's.
        hole: what 0xFFFF in every word decodes to: no reason to doubt a 0 elsewhere.
    """

    register: str
    factor: int
    hole: float


_Item: TypeAlias = tuple[_Supplier, ...]
"""The registers that can supply one value, best first."""


def supplied_values(family: Family, registers: Values) -> dict[str, Any]:
    """Return every quantity a register can supply, by name, from its best source that has a value."""
    values: dict[str, Any] = dict(_nothing(family))
    simple, others = _supplies_of(family, tuple(registers))
    for name, register, factor, steps in simple:
        value = registers[register]
        if isinstance(value, _NUMBERS):
            counted = round(value * factor * steps)
            values[name] = counted if steps == 1 else counted / steps
    for quantity, items in others:
        values[quantity.name] = _supplied(quantity, items, registers)
    return values


@cache
def _nothing(family: Family) -> dict[str, None]:
    return {quantity.name: None for quantity, _ in _supplies(family)}


_Simple: TypeAlias = tuple[str, str, int, int]
"""Quantity, the one register it has, the factor from its unit and sign, steps per unit."""


@lru_cache(maxsize=64)
def _supplies_of(
    family: Family, read: tuple[str, ...]
) -> tuple[tuple[_Simple, ...], tuple[tuple[Quantity, tuple[_Item, ...]], ...]]:
    """Quantities of which anything was read: the same in every poll, and most have one register."""
    names = frozenset(read)
    simple: list[_Simple] = []
    others: list[tuple[Quantity, tuple[_Item, ...]]] = []
    for quantity, items in _supplies(family):
        narrowed = () if quantity.kind is QuantityKind.CODES else _narrowed(items, names)
        if quantity.is_numeric and quantity.length is None and [*map(len, narrowed)] == [1]:
            [[supplier]] = narrowed
            simple.append((quantity.name, supplier.register, supplier.factor, quantity.factor))
        elif narrowed:
            others.append((quantity, narrowed))
    return tuple(simple), tuple(others)


def _narrowed(items: tuple[_Item, ...], names: frozenset[str]) -> tuple[_Item, ...]:
    """The same items with only the registers that were read; without the empty ones at the end."""
    left = [tuple(supplier for supplier in item if supplier.register in names) for item in items]
    while left and not left[-1]:
        left.pop()
    return tuple(left)


@cache
def _supplies(family: Family) -> tuple[tuple[Quantity, tuple[_Item, ...]], ...]:
    table = RegisterMap.for_family(family)

    def supplier(source: Source, unit: str) -> _Supplier:
        register = table.by_name(source.register)
        factor = _UNIT_FACTOR.get((register.unit, unit), 1)
        hole = -1 / 10.0**register.decimals
        return _Supplier(source.register, -factor if source.negate else factor, hole)

    return tuple(
        (
            quantity,
            tuple(
                tuple(supplier(source, quantity.unit) for source in item)
                for item in quantity.sources.get(family, ())
            ),
        )
        for quantity in QUANTITIES
        if quantity.kind is not QuantityKind.META and quantity.sources
    )


def _supplied(quantity: Quantity, items: tuple[_Item, ...], registers: Values) -> Any:
    if quantity.kind is QuantityKind.STATE:
        return _text(items, registers)
    if quantity.length is None:
        return _number(quantity, items[0], registers)
    found = [_number(quantity, item, registers) for item in items]
    while found and found[-1] is None:
        found.pop()
    return found or None


def _text(items: tuple[_Item, ...], registers: Values) -> str | None:
    for supplier in chain.from_iterable(items):
        value = registers.get(supplier.register)
        if isinstance(value, str):
            return _STATES.get(value, value)
    return None


def _number(quantity: Quantity, item: _Item, registers: Values) -> Number | None:
    """The best source's value; a 0 gives way to a lesser source's value, for a path may fill gaps with 0."""
    best: Number | None = None
    for supplier in item:
        value = registers[supplier.register]
        if not isinstance(value, _NUMBERS) or (best == 0 and value == supplier.hole):
            continue
        best = rounded(quantity, value * supplier.factor)
        if best:
            break
    return best


def rounded(quantity: Quantity, value: Number | None) -> Number | None:
    """The value as a multiple of the quantity's resolution."""
    return None if value is None else quantity.from_steps(quantity.to_steps(value))


def codes_of_bits(name: str, family: Family, words: RegisterWords) -> list[int] | None:
    """Codes of the bits set in the registers that were read; None when nobody knows of any."""
    table = RegisterMap.for_family(family)
    quantity = QUANTITY_BY_NAME[name]
    codes: set[int] = set()
    answered, half = False, False
    for source in chain.from_iterable(quantity.sources.get(family, ())):
        register = table.by_name(source.register)
        taken = words.take(register.space, register.number, register.word_count)
        if taken is None or WORD_MAX in taken:  # not even one word of them ever has all its bits set
            half = half or (taken is not None and set(taken) != {WORD_MAX})
            continue
        if register.decode(taken) is not None:
            answered = True
            codes.update(register.codes(taken))
    if codes:
        return sorted(codes)[: quantity.length]
    return [] if answered and not half else None  # of half a field nobody knows that nothing is in it
