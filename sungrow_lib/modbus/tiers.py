"""What to read of an inverter, by tier: the one place that turns identity, notes and wishes into plans."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final, Self

from sungrow_lib.errors import UsageError
from sungrow_lib.modbus.learning import FixedBlocks, UnitPlan
from sungrow_lib.modbus.notes import DeviceNotes
from sungrow_lib.quantities import QUANTITIES, QUANTITY_BY_NAME, Family, QuantityKind, Tier
from sungrow_lib.registers.applies import Presence
from sungrow_lib.registers.identity import Identity
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Kind
from sungrow_lib.registers.plan import ReadPlan
from sungrow_lib.registers.words import Block, RegisterWords

_LEAST: Final = frozenset({"active_power_w"})
"""What dates a reading when none of the values asked for is the inverter's own."""

_FIRMWARES: Final = {
    Family.SH: ("communication_module_firmware", "battery_firmware"),
}
"""Firmware texts beside the inverter's own, which decide what is served, too."""


def require_fields(fields: Collection[str]) -> None:
    """Do nothing when every name is a quantity that can be read.

    Raises:
        UsageError: one is not; says which one is meant.
    """
    readable = [quantity.name for quantity in QUANTITIES if quantity.sources]
    for field in fields:
        if field not in readable:
            import difflib  # noqa: PLC0415 - memory, only for who errs

            near = difflib.get_close_matches(field, readable, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"there is no field {field}{hint} (sungrow read HOST without FIELDs shows all)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPlans:
    """What to read of one inverter.

    Attributes:
        fast: in every poll; its first request dates the reading.
        slow: once a minute.
        identity: a few times a day.
    """

    fast: ReadPlan
    slow: ReadPlan
    identity: ReadPlan

    @classmethod
    def of(cls, identity: Identity, notes: DeviceNotes, fields: Collection[str] | None = None) -> Self:
        """Plan to read ``fields``, or everything a sample can hold.

        Args:
            identity: what the inverter is.
            notes: what it refused before, and what read as a hole.
            fields: names of quantities; None for all.
        """
        fast, slow, rare = (_plan(identity, notes, tier, fields) for tier in Tier)
        if fields is None:
            rare = _with_all_firmware(rare)
        if not fast.wanted:  # whatever is asked for is worth the pace of the polls
            fast, slow = slow, fast
        if not fast.wanted:
            fast = _plan(identity, notes, Tier.FAST, _LEAST)
        if not fast.wanted:
            fast = _plan(identity, notes, Tier.FAST, None)
        return cls(fast=fast, slow=slow, identity=rare)

    def for_unit(self, unit: int, notes: DeviceNotes) -> UnitPlan:
        """Return the poller's plan for a unit."""
        slow = self.slow if self.slow.wanted else FixedBlocks(())
        identity = self.identity if self.identity.wanted else FixedBlocks(())
        return UnitPlan(unit=unit, fast=self.fast, slow=slow, identity=identity, notes=notes)

    def holes(self, words: RegisterWords) -> frozenset[str]:
        """Name the registers that read as holes in ``words``."""
        return self.fast.holes(words) | self.slow.holes(words)

    def beyond(self, holes: Collection[str]) -> Self:
        """Return the plans in which these registers give way to alternatives."""
        return replace(self, fast=self.fast.beyond(holes), slow=self.slow.beyond(holes))

    def with_neighbours(self, words: RegisterWords) -> Self:
        """Return the plans that can tell -1 from a hole in ``words``; these ones where they can already."""
        fast, slow = self.fast.with_neighbours(words), self.slow.with_neighbours(words)
        return self if fast is self.fast and slow is self.slow else replace(self, fast=fast, slow=slow)

    def decided(self, words: RegisterWords) -> RegisterWords:
        """Leave out what may be -1 or a hole, until its neighbours were read."""
        undecided = (*self.fast.undecided(words), *self.slow.undecided(words))
        return words.without(undecided) if undecided else words

    def avoiding(self, refused: Collection[Block]) -> Self:
        """Return the plans that have learnt what else was refused."""
        fast, slow, rare = (
            replace(plan, refused=plan.refused.union(refused))
            for plan in (self.fast, self.slow, self.identity)
        )
        return replace(self, fast=fast, slow=slow, identity=rare)

    def wants(self, block: Block) -> bool:
        """Whether a request would bring something that is wanted, in whichever tier."""
        return any(plan.wants(block) for plan in (self.fast, self.slow, self.identity))

    def firmware_texts(self, words: RegisterWords) -> dict[str, str]:
        """Return the firmware texts in what was read, by register."""
        texts = {}
        for alternatives in self.identity.wanted:
            for register in alternatives:
                taken = words.take(register.space, register.number, register.word_count)
                text = register.decode(taken) if taken and register.kind is Kind.TEXT else None
                if isinstance(text, str):
                    texts[register.name] = text
        return texts

    def beside(self, fields: Collection[str] | None) -> frozenset[str]:
        """Name the quantities wanted that a battery of its own unit serves and the inverter does not."""
        served = {register.name for plan in (self.fast, self.slow) for register in plan.registers}
        return frozenset(
            quantity.name
            for quantity in QUANTITIES
            if Family.BATTERY in quantity.sources
            and quantity.kind is not QuantityKind.CODES
            and quantity.tier is not Tier.IDENTITY
            and (fields is None or quantity.name in fields)
            and not served & _sources(quantity.name, self.fast.family)
        )


def _plan(identity: Identity, notes: DeviceNotes, tier: Tier, fields: Collection[str] | None) -> ReadPlan:
    return ReadPlan.for_quantities(
        identity.family, identity.context, tiers=(tier,), names=fields, refused=notes.refused
    ).beyond(notes.holes)


def _with_all_firmware(plan: ReadPlan) -> ReadPlan:
    table = RegisterMap.for_family(plan.family)
    others = (table.by_name(name) for name in _FIRMWARES.get(plan.family, ()))
    present = tuple(
        (register,) for register in others if register.applies.presence(plan.context) is not Presence.ABSENT
    )
    return replace(plan, wanted=plan.wanted + present)


def _sources(quantity: str, family: Family) -> set[str]:
    items = QUANTITY_BY_NAME[quantity].sources.get(family, ())
    return {source.register for item in items for source in item}
