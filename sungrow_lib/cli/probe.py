"""`sungrow probe`: find out what an inverter is and what it answers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any, Final

from sungrow_lib.cli.connection import (
    CONNECTION_HELP,
    add_connection_options,
    family_of,
    run_on_device,
    settings_of,
    tell,
)
from sungrow_lib.cli.inventory import announce, documented_plan, identify_with_path, read_on
from sungrow_lib.modbus.careful import CarefulReader, PlanReading
from sungrow_lib.modbus.notes import DeviceNotes
from sungrow_lib.modbus.session import DeviceSession
from sungrow_lib.modbus.settings import ConnectionSettings
from sungrow_lib.registers.identity import Identity, identify
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.words import RegisterWords, Space

_DESCRIPTION = """\
Find out what answers at an address: model, serial number, firmware, register family, whether it is the
inverter's own port or a dongle, and of every documented register whether it is answered, refused, or a hole
that is filled with 0xFFFF.

Refused reads are hard on a dongle, so there is at most one in five seconds; a thorough probe of a dongle can
take minutes. Progress is kept in SUNGROW_STATE_DIR (default: the user's state folder): after Ctrl-C or a
failure the next run goes on where this one ended, and other commands avoid what is known to be refused.
"""

_EPILOG = f"""\
{CONNECTION_HELP}
examples:
  sungrow probe 192.168.1.20
  sungrow probe 192.168.1.20 --unit 200          a battery behind the LAN port
  sungrow probe 192.168.1.20 --fresh             after a firmware update
  sungrow probe 192.168.1.20 --json | jq .refused

exit status: 0 probed, 1 the device failed (run it again to go on), 2 wrong use
"""

_CLASSES: Final = {"answered": "answered", "holes": "holes (filled with 0xFFFF)", "refused": "refused"}
"""What a device does with a register, and how that is said."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add `probe` to the command line."""
    parser = subparsers.add_parser(
        "probe",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    add_connection_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs found out")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Probe the device and print what was found."""
    settings = settings_of(args)
    answer = run_on_device(args, lambda: _probe(args, settings))
    print(json.dumps(answer, indent=2) if args.json else "\n".join(_report(answer)))
    return 0


async def _probe(args: argparse.Namespace, settings: ConnectionSettings) -> dict[str, Any]:
    async with DeviceSession(settings) as session:
        reader = CarefulReader(session, args.unit, tell=tell)
        try:
            async with session.one_pass():
                identity, notes = await identify_with_path(reader, family_of(args), afresh=args.fresh)
                plan = documented_plan(identity, notes, (Space.INPUT, Space.HOLDING))
                announce(identity, plan)
                reading = await reader.read_plan(plan, thorough=True, known=reader.words)
            reading = await read_on(session, reader, reading)
        finally:
            reader.notes.save()
    identity = identify(reader.words, family=identity.family, path=identity.path)
    holes = _holes(identity, reading)
    reader.see_holes(holes)
    notes.save()
    return _answer(identity, reading, holes, notes, args)


def _answer(
    identity: Identity,
    reading: PlanReading,
    holes: frozenset[str],
    notes: DeviceNotes,
    args: argparse.Namespace,
) -> dict[str, Any]:
    served, refused = _sorted_out(identity, reading)
    return {
        "host": args.host,
        "port": args.port,
        "unit": args.unit,
        "family": identity.family,
        "model": identity.model,
        "type_code": None if identity.type_code is None else f"0x{identity.type_code:04X}",
        "serial": identity.serial,
        "firmware": identity.firmware,
        "protocol_version": identity.protocol,
        "nominal_power_kw": None if identity.nominal_kw is None else float(identity.nominal_kw),
        "phases": identity.phases,
        "path": identity.path,
        "answered": [name for name in served if name not in holes],
        "holes": [name for name in served if name in holes],
        "refused": refused,
        "refused_requests": [
            {"space": block.space.name.lower(), "first": block.first, "count": block.count, "code": code}
            for block, code in sorted(notes.refused.items())
        ],
    }


def _sorted_out(identity: Identity, reading: PlanReading) -> tuple[list[str], list[str]]:
    """Names of the registers that were served, and of the wanted ones that were not."""
    served = {register.name for register in reading.plan.registers}
    wanted = [register.name for alternatives in reading.plan.wanted for register in alternatives]
    answered = [name for name in wanted if name in served and _was_read(identity, name, reading.words)]
    return answered, [name for name in wanted if name not in served]


def _holes(identity: Identity, reading: PlanReading) -> frozenset[str]:
    """Names of the registers that are filled with 0xFFFF, as where the device has none."""
    runs = RegisterMap.for_family(identity.family).holes(reading.words)
    return reading.plan.holes(reading.words) | (runs & {row.name for row in reading.plan.registers})


def _was_read(identity: Identity, name: str, words: RegisterWords) -> bool:
    register = RegisterMap.for_family(identity.family).by_name(name)
    return words.take(register.space, register.number, register.word_count) is not None


def _report(answer: dict[str, Any]) -> Iterator[str]:
    for key in ("model", "serial", "firmware", "family", "path", "type_code", "protocol_version"):
        yield f"  {key.replace('_', ' '):<18}{answer[key] or 'unknown'}"
    counts = ", ".join(f"{len(answer[kind])} {text}" for kind, text in _CLASSES.items())
    yield f"  {'registers':<18}{counts}"
    for kind in ("holes", "refused"):
        if answer[kind]:
            yield f"  {kind:<18}{', '.join(answer[kind])}"
