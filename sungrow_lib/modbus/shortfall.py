"""Which values a reading lacks because the device did not answer, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sungrow_lib.modbus.careful import PlanReading
from sungrow_lib.modbus.frames import EXCEPTION_TEXTS
from sungrow_lib.modbus.results import MissingBlock, MissingReason
from sungrow_lib.quantities import QUANTITIES, QUANTITY_BY_NAME, Quantity
from sungrow_lib.registers.plan import Alternatives, ReadPlan, alternatives_of
from sungrow_lib.registers.words import Block, RegisterWords


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Values that one request would have brought.

    Attributes:
        fields: names of the quantities.
        missing: the request, and why it brought nothing.
    """

    fields: tuple[str, ...]
    missing: MissingBlock


def unanswered(
    reading: PlanReading,
    values: Mapping[str, Any],
    names: Collection[str],
    refused: Mapping[Block, int],
) -> tuple[Unanswered, ...]:
    """Tell which values were not answered: refused now or earlier, lost, or not asked.

    Args:
        reading: what was read.
        values: the sample's values, by name; a value that another register supplied is not missing.
        names: the quantities wanted.
        refused: what the device is known to refuse, with the exception code.
    """
    fields: dict[MissingBlock, list[str]] = {}
    for name in names:
        for missing in _missing_of(QUANTITY_BY_NAME[name], reading, refused):
            if not _is_lacking(values[name], missing):
                continue
            found = fields.setdefault(missing, [])
            if name not in found:
                found.append(name)
    return tuple(Unanswered(tuple(found), missing) for missing, found in fields.items())


def _is_lacking(value: object, missing: MissingBlock) -> bool:
    """Whether a value is incomplete: a device may rightly refuse the third of two trackers."""
    is_lost = missing.reason not in {MissingReason.REFUSED, MissingReason.POSTPONED}
    return value is None or (is_lost and isinstance(value, list))


def fields_in(block: Block, plan: ReadPlan) -> tuple[str, ...]:
    """Name the quantities that a request of a plan would have brought."""
    names = {row.name for row in plan.registers if block.covers(row.block)}
    return tuple(
        quantity.name
        for quantity in QUANTITIES
        for alternatives in alternatives_of(quantity, plan.family, plan.context)
        if any(register.name in names for register in alternatives)
    )


def _missing_of(
    quantity: Quantity, reading: PlanReading, refused: Mapping[Block, int]
) -> Iterator[MissingBlock]:
    plan = reading.plan
    for alternatives in alternatives_of(quantity, plan.family, plan.context):
        read = [register for register in alternatives if _was_read(register.block, reading.words)]
        if len(read) == len(alternatives) or not all(plan.is_hole(one, reading.words) for one in read):
            continue
        yield from _why(alternatives, reading, refused)


def _was_read(block: Block, words: RegisterWords) -> bool:
    return words.take(block.space, block.first, block.count) is not None


def _why(
    alternatives: Alternatives, reading: PlanReading, refused: Mapping[Block, int]
) -> Iterator[MissingBlock]:
    """Why none of these registers was read: the best one that was not refused, else the best one, tells."""
    for register in alternatives:
        for missing in reading.missing:
            if missing.block.covers(register.block):
                yield missing
                return
    for register in alternatives:
        if block := reading.plan.refusal_of(register):
            code = refused.get(block)
            yield MissingBlock(block, MissingReason.REFUSED, code, refusal_text(code))
            return


def refusal_text(code: int | None) -> str:
    """Say with which exception a device refuses."""
    return "refused" if code is None else f"refused: exception {code}, {EXCEPTION_TEXTS.get(code, 'unknown')}"
