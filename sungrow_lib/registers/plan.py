"""Which registers are read together: as few requests as the rules allow.

The rules: at most 125 registers in a request; no value of several words split over two of them; only
registers the device is thought to have; holes bridged only as far as its path fills them; what was refused
is never asked again.

A hybrid's fast tier costs four requests on the LAN port, where holes are filled:

* 13000..13047 holds PV, battery, house and grid in one piece, so the balance of a sample is of one moment.
  It is asked first, and its arrival dates the poll.
* 5003..5036 adds trackers, phase voltages, temperature and DC power.
* 5214..5242 adds the battery power that has a sign on every firmware, and the frequency in 0.01 Hz.
* 5601..5631 adds the meter, phase by phase, and the battery current that has a sign.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import chain, pairwise
from typing import Final

from sungrow_lib.quantities import QUANTITIES, Family, Quantity, Tier
from sungrow_lib.registers.applies import NOTHING_KNOWN, ConnectionPath, DeviceContext, Presence
from sungrow_lib.registers.map import SURELY_THERE, RegisterMap
from sungrow_lib.registers.model import Register
from sungrow_lib.registers.words import BLOCK_MAX, WORD_MAX, Block, RegisterWords, Space

DEFAULT_MAX_GAP: Final = 2
"""Undocumented registers bridged on an unknown path: single reserved words inside a table."""

FILLED_MAX_GAP: Final = 64
"""The same where holes are filled with 0xFFFF. A request costs at least 20 ms of silence, a word 20 us."""

_INVERTERS: Final = frozenset({Family.SH, Family.SG})

_FILLING: Final = frozenset({Family.SH, Family.BATTERY})
"""Families whose own port was seen to fill holes."""

_FAST_REGISTER: Final = {
    Family.SH: "export_power",
    Family.SG: "total_active_power",
    Family.BATTERY: "battery_unit_voltage",
    Family.IHM: "grid_active_power",
}
"""The register whose block dates the poll."""

_METERED: Final = ("total_export_energy", "total_import_energy")
"""What tells a meter that reads 0 from one that is not there, ..."""
_GRID: Final = ("export_power", *_METERED)
"""... beside what goes through it now."""

_BESIDE: Final = {
    "battery_power_w": ("battery_power", "power_flow_status", "total_active_power"),
    "battery_current_a": ("battery_current", "power_flow_status"),
    "export_power_w": ("meter_active_power", *_METERED),
    "load_power_w": _GRID,
    "alarm_codes": ("work_state_1",),
    "fault_codes": ("work_state_1",),
}
"""Registers a quantity needs besides its best source, to tell directions and cross-check."""

_TELLING_ABSENCE: Final = {
    ("battery_",): ("battery_voltage", "battery_soc", "battery_soh", "battery_capacity"),
    ("load_", "export_", "import_", "direct_use_", "self_consumption_"): _GRID,
}
"""By what quantities are called, the registers of an inverter that tell a battery or a meter that is missing
from one that reads 0. Where everything is read, they are among it."""

_TELLTALE_SETTINGS: Final = {
    Family.SH: ("ems_mode", "start_stop"),
    Family.SG: ("start_stop", "power_limit_percent"),
    Family.IHM: ("ems_mode", "start_stop"),
}
"""Settings that a device of the family serves if its path serves settings at all."""

_CLOCK: Final = Block(Space.HOLDING, 5000, 6)
"""Registers of which none is worth a request without the others: half a date is none."""

Alternatives = tuple[Register, ...]
"""Registers that can supply the same value, best first; the first that is not refused is read."""


@dataclass(frozen=True)
class ReadPlan:
    """What to ask one device, in which order. Immutable: learning gives a new plan.

    Attributes:
        family: register map the device speaks.
        wanted: what to read.
        max_gap: undocumented registers in a row that a request may bridge.
        refused: requests the device refused; never contained in another request again.
        context: model and path; registers they rule out count as holes.
    """

    family: Family
    wanted: tuple[Alternatives, ...]
    max_gap: int = DEFAULT_MAX_GAP
    refused: frozenset[Block] = frozenset()
    context: DeviceContext = NOTHING_KNOWN

    @classmethod
    def for_registers(
        cls, family: Family, names: Iterable[str], context: DeviceContext = NOTHING_KNOWN
    ) -> ReadPlan:
        """Plan to read these registers, whatever else is known of the device.

        Raises:
            UsageError: the family has no such register.
        """
        table = RegisterMap.for_family(family)
        wanted = tuple((table.by_name(name),) for name in dict.fromkeys(names))
        return cls(family, wanted, max_gap=_max_gap(family, context), context=context)

    @classmethod
    def for_quantities(
        cls,
        family: Family,
        context: DeviceContext = NOTHING_KNOWN,
        *,
        tiers: Collection[Tier] = (Tier.FAST,),
        names: Collection[str] | None = None,
        refused: Iterable[Block] = (),
    ) -> ReadPlan:
        """Plan to read everything a sample can hold.

        Args:
            family: register map the device speaks.
            context: model and path; registers the device is known to lack are not asked.
            tiers: how urgent; several tiers in one plan share requests.
            names: limit to these quantities.
            refused: what this device refused before.
        """
        chosen = [q for q in QUANTITIES if q.tier in tiers and (names is None or q.name in names)]
        wanted = dict.fromkeys(rows for q in chosen for rows in alternatives_of(q, family, context))
        if names is not None and family in _INVERTERS:
            wanted |= dict.fromkeys(_telling_absence(chosen, family, context))
        return cls(
            family,
            tuple(wanted),
            max_gap=_max_gap(family, context),
            refused=frozenset(refused),
            context=context,
        )

    @cached_property
    def registers(self) -> tuple[Register, ...]:
        """What will be read: of each group of alternatives the best not refused, in wire order."""
        chosen = {
            register.name: register
            for alternatives in self.wanted
            for register in alternatives
            if register is next((best for best in alternatives if not self._is_lost(best)), None)
        }
        return tuple(sorted(chosen.values(), key=lambda row: (row.space, row.number)))

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The requests, the fast block first, then by space and number."""
        blocks = tuple(chain.from_iterable(self._fit(run) for run in self._runs()))
        fast = _FAST_REGISTER[self.family]
        anchor = next((row for row in self.registers if row.name == fast), None)
        return tuple(
            sorted(blocks, key=lambda block: (not _contains(block, anchor), -block.space, block.first))
        )

    @property
    def fast(self) -> Block | None:
        """The request whose answer dates the poll; None when nothing is left to read."""
        return next(iter(self.blocks), None)

    def without(self, refused: Block) -> ReadPlan:
        """Return the plan that has learnt that the device refused this request.

        A refused request that bridged holes, or held parts of several features, is asked again without;
        one that did not is halved at a border between values. Of a feature the first register decides. A
        single refused register gives way to its next best alternative.
        """
        return replace(self, refused=self.refused | {refused})

    @property
    def telltale_settings(self) -> tuple[Block, ...]:
        """Requests for settings wanted of which at least one is served where any setting is."""
        names = _TELLTALE_SETTINGS.get(self.family, ())
        return tuple(row.block for row in self._settings if row.name in names)

    def without_settings(self) -> ReadPlan:
        """Return the plan that has learnt that no setting is served."""
        return replace(self, refused=self.refused.union(row.block for row in self._settings))

    @property
    def _settings(self) -> tuple[Register, ...]:
        return tuple(row for row in self.registers if row.space is Space.HOLDING)

    def past_holes(self, words: RegisterWords) -> ReadPlan:
        """Return the plan that has seen ``words``: registers that read as holes give way to alternatives."""
        return self.beyond(self.holes(words))

    def with_neighbours(self, words: RegisterWords) -> ReadPlan:
        """Return the plan that can tell -1 from a hole in ``words``, by what else stands beside it."""
        beside = {row.name: row for _, rows in self._undecided(words) for row in rows}
        known = {register.name for register in self.registers}
        wanted = tuple((row,) for name, row in beside.items() if name not in known)
        return replace(self, wanted=self.wanted + wanted) if wanted else self

    def undecided(self, words: RegisterWords) -> tuple[Block, ...]:
        """Registers that read 0xFFFF throughout, while what would tell whether that is -1 was not read."""
        return tuple(
            register.block for register, _ in self._undecided(words) if register.name not in SURELY_THERE
        )

    def _undecided(self, words: RegisterWords) -> Iterator[tuple[Register, list[Register]]]:
        """Yield the registers that are either -1 or a hole, each with the neighbours that would tell."""
        table = RegisterMap.for_family(self.family)
        for register in self.registers:
            if self._is_full(register, words) and not self.is_hole(register, words):
                rows = [
                    row
                    for row in table.beside(register, words)
                    if row.applies.presence(self.context) is not Presence.ABSENT and not self._is_lost(row)
                ]
                if rows:
                    yield register, rows

    def beyond(self, holes: Collection[str]) -> ReadPlan:
        """Return the plan in which these registers give way to alternatives.

        A path that fills holes does not refuse what it lacks; it answers 0xFFFF. Where no alternative is
        left, the register stays: what is behind it may be asleep. So does the one that dates the poll, whose
        -1 W looks the same on a device that nobody knows.
        """
        if not holes:
            return self
        return replace(self, wanted=tuple(self._beyond(group, holes) for group in self.wanted))

    def _beyond(self, alternatives: Alternatives, holes: Collection[str]) -> Alternatives:
        if any(register.name == _FAST_REGISTER[self.family] for register in alternatives):
            return alternatives
        left = tuple(row for row in alternatives if row.name not in holes)
        return alternatives if all(self._is_lost(row) for row in left) else left

    def holes(self, words: RegisterWords) -> frozenset[str]:
        """Name the registers wanted that read as holes."""
        return frozenset(register.name for register in self._candidates if self.is_hole(register, words))

    @cached_property
    def _candidates(self) -> tuple[Register, ...]:
        """Every register that may supply something wanted."""
        return tuple({row.name: row for row in chain.from_iterable(self.wanted)}.values())

    @cached_property
    def _wanted_blocks(self) -> frozenset[Block]:
        """The requests for each of them alone; many share one, and all are looked at for each refusal."""
        return frozenset(register.block for register in self._candidates)

    def wants(self, block: Block) -> bool:
        """Whether a request would bring a register that may supply something wanted."""
        return any(block.covers(wanted) for wanted in self._wanted_blocks)

    def is_hole(self, register: Register, words: RegisterWords) -> bool:
        """Whether it reads as "not there": 0xFFFF, which in a signed register the device surely has is -1."""
        if not self._is_full(register, words):
            return False
        full = (WORD_MAX,) * register.word_count
        return register.decode(full, presence=register.applies.presence(self.context)) is None

    @staticmethod
    def _is_full(register: Register, words: RegisterWords) -> bool:
        """Whether it was read and all its words are 0xFFFF."""
        if words.by_register.get((register.space, register.number)) != WORD_MAX:
            return False  # most are not, and all are asked in every poll
        taken = words.take(register.space, register.number, register.word_count)
        return taken is not None and set(taken) == {WORD_MAX}

    def _is_lost(self, register: Register) -> bool:
        """Whether what was refused leaves no use for it."""
        return self.refusal_of(register) is not None

    def refusal_of(self, register: Register) -> Block | None:
        """Return the refused request that leaves no use for this register; None when there is none."""
        if _CLOCK.covers(register.block):
            return self._refused_in(_CLOCK)
        return self._refused_in(register.block) or self._refused_in(self._first(register).block)

    def _first(self, register: Register) -> Register:
        """The register whose refusal stands for this one's: the first of its feature."""
        return _first_of(self.family, self.context).get((register.space, register.feature), register)

    def _is_refused(self, block: Block) -> bool:
        return self._refused_in(block) is not None

    def _refused_in(self, block: Block) -> Block | None:
        return min((refused for refused in self.refused if block.covers(refused)), default=None)

    def _runs(self) -> Iterator[list[Register]]:
        """Registers that may share a request, unless it is refused."""
        run: list[Register] = []
        for register in self.registers:
            if run and not self._may_join(run, register):
                yield run
                run = []
            run.append(register)
        if run:
            yield run

    def _may_join(self, run: Sequence[Register], register: Register) -> bool:
        first, last = run[0], run[-1]
        return (
            register.space is first.space
            and register.last - first.number < BLOCK_MAX
            and self._gap(last, register) <= self.max_gap
        )

    def _gap(self, left: Register, right: Register) -> int:
        """Undocumented registers in a row between two registers; -1 when they are neighbours."""
        table = RegisterMap.for_family(self.family)
        longest, row = -1, 0
        for number in range(left.last + 1, right.number):
            register = table.at(left.space, number)
            known = register and register.applies.presence(self.context) is not Presence.ABSENT
            row = 0 if known else row + 1
            longest = max(longest, row)
        return longest

    def _fit(self, run: list[Register]) -> Iterator[Block]:
        """Requests for ``run``, none of which contains a refused one."""
        block = _span(run)
        if not self._is_refused(block):
            yield block
        elif len(run) > 1:
            for part in self._parts(run):
                yield from self._fit(part)

    def _parts(self, run: list[Register]) -> list[list[Register]]:
        """Split at the likeliest culprits: bridged holes, then borders of features; else in half.

        Of a feature its first register is asked alone.
        """
        parts: list[list[Register]] = [[run[0]]]
        for left, right in pairwise(run):
            if left.feature != right.feature or (not left.feature and self._gap(left, right) > 0):
                parts.append([])
            parts[-1].append(right)
        if len(parts) > 1:
            return parts
        if run[0] is self._first(run[0]) and run[0].feature:
            return [run[:1], run[1:]]
        middle = (run[0].number + run[-1].last) / 2
        at = min(range(1, len(run)), key=lambda n: abs(run[n].number - middle))
        return [run[:at], run[at:]]


def _max_gap(family: Family, context: DeviceContext) -> int:
    fills = context.path is ConnectionPath.LAN and family in _FILLING
    return FILLED_MAX_GAP if fills else DEFAULT_MAX_GAP


@cache
def _first_of(family: Family, context: DeviceContext) -> dict[tuple[Space, str], Register]:
    """By space and feature, the first register that this device may have, if it may have one."""
    rows = [register for register in RegisterMap.for_family(family) if register.feature]
    rows.sort(key=lambda row: (row.applies.presence(context) is Presence.ABSENT, row.number))
    return {(row.space, row.feature): row for row in reversed(rows)}


def parts_of(quantity: Quantity, family: Family, context: DeviceContext) -> list[Alternatives]:
    """Return for each part of a quantity, a tracker say, the registers that can supply it on a device."""
    table = RegisterMap.for_family(family)
    present = [
        tuple(
            register
            for register in (table.by_name(source.register) for source in sources)
            if register.applies.presence(context) is not Presence.ABSENT
        )
        for sources in quantity.sources.get(family, ())
    ]
    return [registers for registers in present if registers]


def alternatives_of(quantity: Quantity, family: Family, context: DeviceContext) -> Iterator[Alternatives]:
    """Yield what a quantity is made of on a device: its parts, and what tells directions and cross-checks."""
    parts, table = parts_of(quantity, family, context), RegisterMap.for_family(family)
    yield from parts
    for name in _BESIDE.get(quantity.name, ()):
        if parts and name in table:
            yield (table.by_name(name),)


def _telling_absence(
    chosen: Iterable[Quantity], family: Family, context: DeviceContext
) -> Iterator[Alternatives]:
    """Yield what tells whether that of which quantities tell is there at all."""
    table = RegisterMap.for_family(family)
    for quantity in chosen:
        for begins, names in _TELLING_ABSENCE.items():
            if quantity.name.startswith(begins) and parts_of(quantity, family, context):
                known = (table.by_name(name) for name in names if name in table)
                yield from ((row,) for row in known if row.applies.presence(context) is not Presence.ABSENT)


def _span(run: Sequence[Register]) -> Block:
    return Block(run[0].space, run[0].number, run[-1].last - run[0].number + 1)


def _contains(block: Block, register: Register | None) -> bool:
    return register is not None and block.covers(register.block)
