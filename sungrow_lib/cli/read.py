"""`sungrow read`: an inverter's values, once or again and again."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sungrow_lib.cli.connection import (
    CONNECTION_HELP,
    add_connection_options,
    check_family,
    family_of,
    run_on_device,
    settings_of,
    tell,
)
from sungrow_lib.counters import CounterWatch
from sungrow_lib.errors import RegisterRefusedError, UsageError
from sungrow_lib.modbus.battery import BatteryBeside, usual_units
from sungrow_lib.modbus.careful import NOT_ASKED, CarefulReader, PlanReading
from sungrow_lib.modbus.discovery import recognise_unit, remembered
from sungrow_lib.modbus.learning import UnitPlan
from sungrow_lib.modbus.notes import DeviceNotes
from sungrow_lib.modbus.poller import ModbusPoller
from sungrow_lib.modbus.results import MissingBlock
from sungrow_lib.modbus.session import DeviceSession
from sungrow_lib.modbus.settings import ConnectionSettings
from sungrow_lib.modbus.shortfall import Unanswered, fields_in, refusal_text, unanswered
from sungrow_lib.modbus.tiers import TierPlans, require_fields
from sungrow_lib.normalizer import Normalizer, rests_on_firmware
from sungrow_lib.quantities import QUANTITIES, QUANTITY_BY_NAME, Family, Tier
from sungrow_lib.registers.identity import Identity, has_answers_of
from sungrow_lib.registers.plan import ReadPlan
from sungrow_lib.registers.words import RegisterWords
from sungrow_lib.sample import DEVICE_ID_PATTERN, SungrowSample, format_ts

_DESCRIPTION = """\
Ask an inverter what it is, read it once and print every value it has. What it does not have or does not
know is left out, never 0. Signs: battery + charging, grid (export_power_w) + exporting.

What the device did not answer is named with the reason, on stderr and as "not_answered" in the JSON. A
request that is refused is asked again in smaller pieces where power values hang on it, 5 s apart: the first
reading behind a dongle can take a minute, later ones avoid what was refused. When an answer is lost, the
reading goes on over a new connection.

The battery is looked for on a Modbus unit of its own, too (200 on the LAN port, 2 behind a WiNet-S); where it
answers, its cell voltages and module temperatures are added (with --watch once a minute).

With --watch power values come every 5 s and slow ones (backup output, bus voltage, insulation, alarms and
faults) once a minute; in the lines between these are null.

With FIELDs only those are read and printed, with fewer requests; --watch reads all of them every 5 s, but
once a minute what only the battery's own unit tells.
"""

_EPILOG = f"""\
{CONNECTION_HELP}
examples:
  sungrow read 192.168.1.20                                     everything, once
  sungrow read 192.168.1.20 pv_power_w battery_soc_pct          two values
  sungrow read 192.168.1.20 --json                              one sample as JSON
  sungrow read 192.168.1.20 --watch --json pv_power_w | jq .    a sample every 5 s, one per line

exit status: 0 read (or --watch was ended by Ctrl-C), 1 no reading, 2 wrong use
"""

_RECONNECTS: Final = 12
"""How often one reading may connect again because an answer was lost."""
_BATTERY_VISITS: Final = 4
"""One that may come too soon after a refusal, two units a battery may answer on, and the reading."""

_HEADLINES: Final = (
    "pv_power_w",
    "battery_power_w",
    "battery_soc_pct",
    "load_power_w",
    "export_power_w",
    "active_power_w",
)
"""What a line of --watch shows when no FIELD is given."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add `read` to the command line."""
    parser = subparsers.add_parser(
        "read",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    add_connection_options(parser)
    parser.add_argument(
        "fields", metavar="FIELD", nargs="*", default=[], help="field of the sample, such as pv_power_w"
    )
    parser.add_argument("--json", action="store_true", help="print the sample as JSON, one line each")
    parser.add_argument("--watch", action="store_true", help="keep reading, every 5 s, until Ctrl-C")
    parser.set_defaults(run=run, until_stopped=lambda args: args.watch)


def run(args: argparse.Namespace) -> int:
    """Read the device and print what it says."""
    require_fields(args.fields)
    settings = settings_of(args)
    run_on_device(args, lambda: _read(args, settings))
    return 0


async def _read(args: argparse.Namespace, settings: ConnectionSettings) -> None:
    async with DeviceSession(settings) as session:
        async with session.one_pass():
            reader = CarefulReader(session, args.unit, tell=tell, reconnects=_RECONNECTS)
            identity = await recognise_unit(reader, family=family_of(args))
            check_family(family_of(args), reader.words)
            plan = _plan(identity, args, reader.notes)
            reading = await _read_past_holes(reader, plan, _urgent(plan, args.fields))
            reader.see_holes(plan.holes(reading.words))
            _check_answers(args, reading)
            identity = await _with_firmware(reader, identity, reading)
            reading = await _with_refused_before(reader, reading)
            printer = _Printer(args, identity, reader.notes)
            sample = printer.sample_of(reading)
            battery = _Battery(session, reader.notes, identity, args.fields or None)
            sample = await battery.first(sample)
            reader.notes.save()
        printer.first(sample, _unanswered(reading, sample, args, reader.notes))
        if absent := battery.absent(sample, args.fields):
            tell(absent)
        if args.watch:
            watched = _Watched(args, identity, reading.plan, reader.notes)
            poller = ModbusPoller(settings, [watched.unit_plan], session=session)
            await _watch(poller, battery, printer, watched)


def _urgent(plan: ReadPlan, fields: Collection[str]) -> frozenset[str]:
    """Name the registers worth the wait after a refusal: of fields asked for, else of the power values."""
    names = fields or [quantity.name for quantity in QUANTITIES if quantity.tier is Tier.FAST]
    best = ReadPlan.for_quantities(plan.family, plan.context, tiers=tuple(Tier), names=names)
    return frozenset(register.name for alternatives in best.wanted for register in alternatives)


async def _read_past_holes(reader: CarefulReader, plan: ReadPlan, urgent: Collection[str]) -> PlanReading:
    """Read a plan, what else may have the values of holes in it, and what tells a hole from -1."""
    reading = await reader.read_plan(plan, urgent=urgent)
    while reading.error is None:
        beyond = reading.plan.past_holes(reading.words).with_neighbours(reading.words)
        other = tuple(group for group in beyond.wanted if group not in reading.plan.wanted)
        reading = replace(reading, plan=beyond)
        if not other:
            break
        more = await reader.read_plan(replace(beyond, wanted=other), urgent=urgent, known=reading.words)
        reading = replace(
            reading,
            words=more.words,
            plan=replace(beyond, refused=beyond.refused | more.plan.refused),
            error=more.error,
            failed={**reading.failed, **more.failed},
        )
    return reading


def _check_answers(args: argparse.Namespace, reading: PlanReading) -> None:
    """Refuse a family that the user named, when the device refused everything that only it has."""
    family = family_of(args)
    if family is None or args.fields or reading.error is not None:
        return
    if not has_answers_of(family, reading.words):
        raise UsageError(
            f"the device serves nothing that only family {family} has; "
            f"leave --family {family} out, or check --unit"
        )


async def _with_firmware(reader: CarefulReader, identity: Identity, reading: PlanReading) -> Identity:
    """Ask for the firmware where it tells which way the battery flows, and is not known from before."""
    is_needed = identity.family is Family.SH and rests_on_firmware(reading.words)
    if reading.error is not None or reader.notes.firmware or not is_needed:
        return identity
    plans = TierPlans.of(identity, reader.notes, ("firmware",))
    more = await reader.read_plan(plans.identity, known=reading.words)
    reader.notes.see_firmware(plans.firmware_texts(more.words))
    return remembered(identity, reader.notes)


async def _with_refused_before(reader: CarefulReader, reading: PlanReading) -> PlanReading:
    """Ask once more for what was refused long ago: it may have been for a moment only."""
    if reading.error is not None or not (served := await reader.ask_again(reading.plan.wants)):
        return reading
    plan = replace(reading.plan, refused=reading.plan.refused - served)
    return replace(reading, words=reading.words | reader.words, plan=plan)


def _unanswered(
    reading: PlanReading, sample: SungrowSample, args: argparse.Namespace, notes: DeviceNotes
) -> tuple[Unanswered, ...]:
    tiers = _tiers(args)
    names = args.fields or [quantity.name for quantity in QUANTITIES if quantity.tier in tiers]
    return unanswered(reading, sample.model_dump(), names, notes.refused)


def _tiers(args: argparse.Namespace) -> tuple[Tier, ...]:
    return tuple(Tier) if args.fields else (Tier.FAST,) if args.watch else (Tier.FAST, Tier.SLOW)


def _plan(identity: Identity, args: argparse.Namespace, notes: DeviceNotes) -> ReadPlan:
    plan = ReadPlan.for_quantities(
        identity.family,
        identity.context,
        tiers=_tiers(args),
        names=args.fields or None,
        refused=notes.refused,
    ).beyond(notes.holes)
    if not plan.blocks:  # what the battery beside it serves is read beside something
        plans = TierPlans.of(identity, notes, args.fields)
        plan = plans.fast if plans.beside(args.fields) else plan
    if not plan.blocks:
        raise UsageError(f"{_name(identity)} has no {' and no '.join(args.fields)}")
    return plan


class _Battery:
    """The battery on a unit of its own, asked for what the hybrid does not know; first looked for."""

    def __init__(
        self,
        session: DeviceSession,
        notes: DeviceNotes,
        identity: Identity,
        fields: Collection[str] | None,
    ) -> None:
        self._session = session
        self._notes = notes
        self._identity = identity
        self._plans = TierPlans.of(identity, notes, fields)
        self._beside = BatteryBeside(session, None, fields)

    async def first(self, sample: SungrowSample) -> SungrowSample:
        """Return the first sample with what the battery says, too."""
        self._beside.is_there = sample.battery_soc_pct is not None
        clock, settings = self._session.clock, self._session.settings
        for _ in range(_BATTERY_VISITS):
            if self._session.is_open and not self._beside.has_words:
                if self._beside.is_searching:
                    await clock.sleep(self._session.refusals.remaining_s(clock.boottime()))
                await self.visit(clock.boottime() + settings.poll_interval_s)
        return self.add_to(sample)

    def absent(self, sample: SungrowSample, fields: Collection[str]) -> str:
        """Say which fields only a battery's own unit would tell, when none answered; else nothing."""
        asked = self._plans.beside(fields) if self._identity.family is Family.SH and fields else ()
        names = [name for name in asked if getattr(sample, name) is None]
        if not names or self._notes.battery_unit is not None:
            return ""
        units = ", ".join(map(str, usual_units(self._identity.path)))
        return f"not answered: {', '.join(sorted(names))} (no battery answers on a unit of its own: {units})"

    async def visit(self, deadline: float) -> None:
        """Read the battery if that is due, or look for it, by ``deadline`` (boot-time seconds)."""
        if self._identity.family is Family.SH:
            await self._beside.visit(deadline, self._notes, self._identity, self._plans)
            self._notes.save()

    def add_to(self, sample: SungrowSample) -> SungrowSample:
        """Return the sample with what the last visit brought."""
        self._beside.is_there |= sample.battery_soc_pct is not None
        return sample.model_copy(update=self._beside.values(self._beside.take()))

    def skip(self) -> None:
        """Drop what the last visit brought: it belongs to no reading."""
        self._beside.take()


class _Watched:
    """What --watch reads: what was asked for, and in time what tells its -1 from a hole."""

    def __init__(
        self, args: argparse.Namespace, identity: Identity, plan: ReadPlan, notes: DeviceNotes
    ) -> None:
        self.plan = plan
        self._slow = ReadPlan.for_quantities(
            identity.family,
            identity.context,
            tiers=(Tier.SLOW,),
            names=() if args.fields else None,
            refused=notes.refused,
        ).beyond(notes.holes)
        self._unit = args.unit
        self._is_part = bool(args.fields)
        self._notes = notes

    @property
    def unit_plan(self) -> UnitPlan:
        """The plan as the poller takes it."""
        return UnitPlan(unit=self._unit, fast=self.plan, slow=self._slow, notes=self._notes)

    def lacking(self, missing: MissingBlock) -> Unanswered:
        """Tell which values a request that failed would have brought."""
        fields = dict.fromkeys(fields_in(missing.block, self.plan) + fields_in(missing.block, self._slow))
        return Unanswered(tuple(fields), missing)

    def decided(self, words: RegisterWords, poller: ModbusPoller) -> RegisterWords:
        """Leave out what may be -1 or a hole, and let the next poll read what tells."""
        plan = replace(self.plan, refused=self.plan.refused.union(self._notes.refused))
        if not self._is_part or (wider := plan.with_neighbours(words)) is plan:
            return words
        self.plan = wider
        poller.set_plan(self.unit_plan)
        return words.without(plan.undecided(words))


async def _watch(poller: ModbusPoller, battery: _Battery, printer: _Printer, watched: _Watched) -> None:
    while True:
        poll = await poller.poll(battery.visit)
        [unit] = poll.units
        if unit.arrived_at is None:
            battery.skip()
            tell(f"{format_ts(poll.started_at)}  no reading: {unit.error}")
            continue
        lacking = [watched.lacking(missing) for missing in unit.missing]
        words = watched.decided(unit.words, poller)
        sample = battery.add_to(printer.normalize(words, unit.arrived_at))
        printer.sample(sample, lacking)
        printer.name_breaks(sample)
        for line in _lines(lacking):
            tell(f"{format_ts(poll.started_at)}  {line}")


class _Printer:
    """Prints samples the way the user asked for."""

    def __init__(self, args: argparse.Namespace, identity: Identity, notes: DeviceNotes) -> None:
        self._normalizer = Normalizer(_device_id(args, identity), identity, notes.signed_battery)
        self.identity = identity
        self.fields: list[str] = args.fields
        self._counters = CounterWatch(identity.nominal_kw)
        self._args = args

    def sample_of(self, reading: PlanReading) -> SungrowSample:
        if reading.arrived_at is None:
            if reading.failed:  # nothing was refused for good
                raise next(iter(reading.failed.values()))
            raise RegisterRefusedError(
                f"{_name(self.identity)} serves nothing that was asked for; check --unit and --family",
                code=2,
            )
        return self.normalize(reading.words, reading.arrived_at)

    def normalize(self, words: RegisterWords, ts: datetime) -> SungrowSample:
        self._normalizer = self._normalizer.learning(words)
        return self._normalizer.normalize(words, ts=ts, firmware="firmware" in self.fields)

    def first(self, sample: SungrowSample, lacking: Sequence[Unanswered]) -> None:
        if not (self._args.json or self._args.watch):
            print(self._headline(sample))
        self.sample(sample, lacking)
        self.name_breaks(sample)
        for line in _lines(lacking):
            tell(line)

    def name_breaks(self, sample: SungrowSample) -> None:
        """Say which counters ran back or jumped since the readings before."""
        for broken in self._counters.see(sample):
            tell(f"{format_ts(sample.ts)}  {broken}")

    def sample(self, sample: SungrowSample, lacking: Sequence[Unanswered] = ()) -> None:
        values = sample.model_dump(mode="json")
        if self._args.json:
            wanted = {"device_id", "ts", *self.fields} if self.fields else set(values)
            document = {name: value for name, value in values.items() if name in wanted}
            if lacking:
                document["not_answered"] = [_entry(one) for one in lacking]
            text = json.dumps(document)
        elif self._args.watch:
            shown = (name for name in self.fields or _HEADLINES if values[name] is not None)
            text = "  ".join([values["ts"], *(f"{name} {_shown(name, values[name])}" for name in shown)])
        else:
            text = "\n".join(_table(values, self.fields))
        print(text, flush=True)

    def _headline(self, sample: SungrowSample) -> str:
        identity, args = self.identity, self._args
        serial = f", serial {identity.serial}" if identity.serial else ""
        return (
            f"{_name(identity)}{serial}, unit {args.unit} at {args.host}:{args.port}, {format_ts(sample.ts)}"
        )


def _entry(one: Unanswered) -> dict[str, Any]:
    block = one.missing.block
    return {
        "fields": list(one.fields),
        "space": block.space.name.lower(),
        "first": block.first,
        "count": block.count,
        "reason": one.missing.reason,
        "code": one.missing.code,
        "detail": one.missing.detail,
    }


def _lines(lacking: Sequence[Unanswered]) -> Iterator[str]:
    """Say what is missing, in a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for one in lacking:
        by_reason.setdefault(one.missing.detail or refusal_text(one.missing.code), []).extend(one.fields)
    for reason, fields in by_reason.items():
        yield f"not answered: {', '.join(dict.fromkeys(fields))} ({reason})"
    if any(one.missing.detail == NOT_ASKED for one in lacking):
        yield "read again for more, or let `sungrow probe` find out once what this device serves"


def _table(values: dict[str, Any], fields: Collection[str]) -> Iterator[str]:
    names = fields or [
        quantity.name for quantity in QUANTITIES if quantity.sources and values[quantity.name] is not None
    ]
    shown = {name: _shown(name, values[name]) for name in names}
    name_width, value_width = (max(map(len, texts), default=0) for texts in (shown, shown.values()))
    columns = shutil.get_terminal_size().columns
    for name, value in shown.items():
        row = f"  {name:<{name_width}}  {value:<{value_width}}  {QUANTITY_BY_NAME[name].title}"
        yield row if len(row) <= columns else f"  {name:<{name_width}}  {value}"


def _shown(name: str, value: object) -> str:
    if value is None:
        return "-"
    unit = QUANTITY_BY_NAME[name].unit
    if isinstance(value, list):
        value = " ".join("-" if item is None else str(item) for item in value) or "none"
    return f"{value} {unit}".rstrip()


def _name(identity: Identity) -> str:
    return identity.model or f"an unknown {identity.family.upper()} device"


def _device_id(args: argparse.Namespace, identity: Identity) -> str:
    """The serial number where the device tells one, else the place where it answers."""
    if identity.serial and re.fullmatch(DEVICE_ID_PATTERN, identity.serial):
        return identity.serial
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{args.host}-{args.port}-{args.unit}")[-64:]
