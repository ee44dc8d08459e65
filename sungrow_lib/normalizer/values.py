"""What the table of quantities says of a value: which register supplies it, and how finely it is known."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from sungrow_lib.quantities import QUANTITIES, QUANTITY_BY_NAME, Family, Quantity, QuantityKind, Source
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Value
from sungrow_lib.registers.words import RegisterWords

Values = Mapping[str, Value | None]
"""Decoded registers by name."""

Number = int | float

HOLE_W: Final = -1
HOLE_A: Final = -0.1
"""What a hole in a block looks like in the signed registers, which older firmware lacks."""

_UNIT_FACTOR: Final = {("kW", "W"): 1000, ("kvar", "var"): 1000}

_STATES: Final = {
    "running on grid": "running",
    "run": "running",
    "derating run": "derating",
    "dispatch run": "dispatch",
    "dispatch running": "dispatch",
    "alarm run": "running with alarm",
    "warn running": "running with alarm",
    "forced (compulsory) mode": "forced mode",
}
"""One word for what the families call differently; every other state keeps its text."""


@lru_cache(maxsize=1)
def measured() -> tuple[Quantity, ...]:
    """Quantities that a register can supply."""
    return tuple(
        quantity for quantity in QUANTITIES if quantity.kind is not QuantityKind.META and quantity.sources
    )


def supplied(quantity: Quantity, family: Family, registers: Values) -> Any:
    """The quantity's value from its best source that has one."""
    if quantity.kind is QuantityKind.CODES:
        return None
    items = quantity.sources.get(family, ())
    if quantity.kind is QuantityKind.STATE:
        return _text(items, registers)
    found = [_number(quantity, family, sources, registers) for sources in items]
    if quantity.length is None:
        return found[0] if found else None
    while found and found[-1] is None:
        found.pop()
    return found or None


def _text(items: tuple[tuple[Source, ...], ...], registers: Values) -> str | None:
    for source in chain.from_iterable(items):
        value = registers.get(source.register)
        if isinstance(value, str):
            return _STATES.get(value, value)
    return None


def _number(
    quantity: Quantity, family: Family, sources: tuple[Source, ...], registers: Values
) -> Number | None:
    """The best source's value; a 0 gives way to a lesser source's value, for a path may fill gaps with 0."""
    best: Number | None = None
    for source in sources:
        value = registers.get(source.register)
        if not isinstance(value, int | float) or (best == 0 and value == _hole(family, source.register)):
            continue
        value = -value if source.negate else value
        best = rounded(quantity, value * _factor(family, source.register, quantity.unit))
        if best:
            break
    return best


@lru_cache(maxsize=512)
def _hole(family: Family, register: str) -> float:
    """What 0xFFFF in every word of a signed register decodes to: no reason to doubt a 0 elsewhere."""
    return -1 / 10.0 ** RegisterMap.for_family(family).by_name(register).decimals


@lru_cache(maxsize=512)
def _factor(family: Family, register: str, unit: str) -> int:
    return _UNIT_FACTOR.get((RegisterMap.for_family(family).by_name(register).unit, unit), 1)


def rounded(quantity: Quantity, value: Number | None) -> Number | None:
    """The value as a multiple of the quantity's resolution."""
    return None if value is None else quantity.from_steps(quantity.to_steps(value))


def codes_of_bits(name: str, family: Family, words: RegisterWords) -> list[int] | None:
    """Codes of the bits set in the registers that were read; None when none of them was."""
    table = RegisterMap.for_family(family)
    quantity = QUANTITY_BY_NAME[name]
    codes: set[int] = set()
    answered = False
    for source in chain.from_iterable(quantity.sources.get(family, ())):
        register = table.by_name(source.register)
        taken = words.take(register.space, register.number, register.word_count)
        if taken is not None and register.decode(taken) is not None:
            answered = True
            codes.update(register.codes(taken))
    return sorted(codes)[: quantity.length] if answered else None
