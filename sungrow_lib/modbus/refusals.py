"""What a device was found to refuse, in names: which registers, and which values that costs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sungrow_lib.modbus.tiers import TierPlans
from sungrow_lib.quantities import QUANTITIES, Quantity
from sungrow_lib.registers.plan import ReadPlan, parts_of
from sungrow_lib.registers.words import Block


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that the device refuses as not there, and that cannot be made smaller.

    Attributes:
        block: the request.
        registers: names of the registers of which it leaves no use.
        fields: names of the quantities that lack a value for it, as no other register supplies them.
    """

    block: Block
    registers: tuple[str, ...]
    fields: tuple[str, ...]


class Refusals:
    """What a unit refuses, worked out anew only when more is known: most polls learn nothing."""

    def __init__(self) -> None:
        self._plans: TierPlans | None = None
        self._refused: frozenset[Block] = frozenset()
        self._supplied: frozenset[str] = frozenset()
        self._told: tuple[Refusal, ...] = ()

    def of(
        self, plans: TierPlans, refused: Collection[Block], supplied: frozenset[str] = frozenset()
    ) -> tuple[Refusal, ...]:
        """Tell what is refused of what the plans would read.

        Args:
            plans: what is read of the unit.
            refused: requests it is known to refuse.
            supplied: quantities that another unit has values of.
        """
        if plans is not self._plans or refused != self._refused or supplied != self._supplied:
            self._plans, self._refused, self._supplied = plans, frozenset(refused), supplied
            self._told = _refusals(plans.avoiding(self._refused), supplied)
        return self._told


def _refusals(plans: TierPlans, supplied: frozenset[str]) -> tuple[Refusal, ...]:
    found: dict[Block, dict[str, None]] = {}
    for plan in (plans.fast, plans.slow, plans.identity):
        for register in (register for alternatives in plan.wanted for register in alternatives):
            if block := plan.refusal_of(register):
                found.setdefault(block, {})[register.name] = None
    if not found:
        return ()
    lacking = {
        quantity.name: {part.name for alternatives in parts for part in alternatives}
        for quantity in QUANTITIES
        if quantity.name not in supplied
        and (parts := parts_of(quantity, plans.fast.family, plans.fast.context))
        and _is_lacking(quantity, plans.fast)
    }
    return tuple(
        Refusal(block, tuple(names), tuple(field for field, of in lacking.items() if of & names.keys()))
        for block, names in sorted(found.items())
    )


def _is_lacking(quantity: Quantity, plan: ReadPlan) -> bool:
    """Whether a value cannot be there; a device may rightly refuse the third of two trackers."""
    lost = [
        all(plan.refusal_of(register) for register in alternatives)
        for alternatives in parts_of(quantity, plan.family, plan.context)
    ]
    return any(lost) if quantity.length is None else all(lost)
