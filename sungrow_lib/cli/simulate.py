"""`sungrow simulate`: an inverter to try everything on."""

from __future__ import annotations

import argparse
import signal
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import anyio
import anyio._backends._asyncio  # loaded now: in the midst of a job, Ctrl-C would find it half loaded

from sungrow_lib.capture import Capture, load_capture, merge_captures
from sungrow_lib.cli.connection import FAMILIES_TO_NAME
from sungrow_lib.cli.parser import PORT_MAX, UNIT, whole_number
from sungrow_lib.errors import CaptureError, UsageError
from sungrow_lib.registers.identity import device_by_code
from sungrow_lib.simulator import MODELS, living_inverter
from sungrow_lib.simulator.captured import family_of_capture
from sungrow_lib.simulator.dongle import DongleHabits
from sungrow_lib.simulator.faults import Fault, RecurringFault
from sungrow_lib.simulator.journal import Journal
from sungrow_lib.simulator.server import (
    InverterSimulator,
    Profile,
    RegisterSource,
    StaticSource,
    require_free,
)

_DESCRIPTION = """\
Be an inverter on Modbus TCP: serve capture files as they are, or a modelled inverter in a modelled house,
where the sun moves, clouds pass, the kettle boils and the battery balances it all.

A capture is served under the unit id it names, several of one unit are merged (input and holding registers),
and captures of different units make one dongle with several inverters behind it.
"""

_HABITS = DongleHabits()
_FAULTS = "\n".join(f"  {fault:<20}{fault.text}" for fault in Fault)

_EPILOG = f"""\
profiles:
  lan       the inverter's own port: registers it lacks inside a block read 0xFFFF
  winet-s   the dongle: a block that touches a register it lacks is refused; no yield history, no meter
            voltages; values are a copy up to {_HABITS.copy_s:g} s old; a new client throws the old one out;
            {_HABITS.refusals + 1} refused reads in {_HABITS.within_s:g} s make it restart, which takes
            {_HABITS.restart_s:g} s
  rs485     a gateway on the serial bus: as lan, and a unit that is not there is answered with an exception

faults (--fault NAME or NAME:EVERY, such as reset:20 for every twentieth request):
{_FAULTS}

examples:
  sungrow simulate --model {MODELS[0]}                     an inverter on 127.0.0.1:5020
  sungrow simulate input.json holding.json --unit 3        a capture, under another unit id
  sungrow simulate --model {MODELS[0]} --port 0            any free port; the first line says which
  sungrow simulate inverter.json --profile winet-s --fault silence:10

The journal has one line of JSON for every answered read, written before the answer leaves:
  {{"n": 1, "ts": "2026-01-31T10:00:00.000Z", "unit": 1, "space": "input", "first": 5000, "count": 1,
    "words": [3602]}}

exit status: 0 stopped by Ctrl-C or SIGTERM, 2 wrong use
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add `simulate` to the command line."""
    parser = subparsers.add_parser(
        "simulate",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("files", metavar="FILE", nargs="*", type=Path, help="capture file")
    parser.add_argument("--model", metavar="NAME", help=f"modelled inverter: {', '.join(MODELS)}")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port",
        type=whole_number("a port", 0, PORT_MAX),
        default=5020,
        help="TCP port, 0 for any (default: %(default)s)",
    )
    parser.add_argument("--unit", type=UNIT, help="Modbus unit id (default: the capture's, else 1)")
    parser.add_argument(
        "--profile",
        choices=[profile.value for profile in Profile],
        default=Profile.LAN.value,
        help="path to imitate (default: lan)",
    )
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME[:EVERY]", help="misbehave; may be repeated"
    )
    parser.add_argument("--journal", type=Path, metavar="FILE", help="append every answered read to FILE")
    parser.add_argument(
        "--timezone", default="UTC", metavar="ZONE", help="IANA zone of the modelled site (default: UTC)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="which weather and household the model has (default: %(default)s)"
    )
    parser.add_argument(
        "--past",
        dest="days",
        type=whole_number("a number of days", 1, 365),
        default=365,
        metavar="DAYS",
        help="how many days the modelled house has stood; few are replayed sooner (default: %(default)s)",
    )
    parser.set_defaults(run=run, until_stopped=lambda _: True)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    if bool(args.files) == (args.model is not None):
        raise UsageError("name capture files, or a model with --model, but not both (--help shows examples)")
    faults = [RecurringFault.parse(text) for text in args.fault]
    captures = _captures_by_unit(args.files, args.unit) if args.files else {}
    require_free(args.host, args.port)  # a model takes seconds to make
    units = {unit: _source(capture) for unit, capture in captures.items()} or _modelled_unit(args)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(args.journal)) if args.journal else None
        simulator = InverterSimulator(
            units,
            host=args.host,
            port=args.port,
            profile=Profile(args.profile),
            journal=journal,
            faults=faults,
            habits=_HABITS if args.profile == Profile.WINET_S else None,
        )
        title = f"{_title(args)} as unit {', '.join(map(str, units))}"
        unit = next(iter(units))
        anyio.run(_serve, simulator, args.host, title, _options(unit, captures.get(unit)))
    return 0


def _captures_by_unit(files: Sequence[Path], unit: int | None) -> Mapping[int, Capture]:
    captures = [load_capture(path) for path in files]
    by_unit = defaultdict(list)
    for capture in captures:
        by_unit[capture.unit_id or 1].append(capture)
    if unit is not None and len(by_unit) > 1:
        raise CaptureError("these captures are of several units, so --unit cannot name one for them all")
    return {unit or number: merge_captures(parts) for number, parts in by_unit.items()}


def _source(capture: Capture) -> RegisterSource:
    return StaticSource(capture.words)


def _options(unit: int, capture: Capture | None) -> str:
    """What `sungrow read` must be told of a unit that does not say it itself."""
    options = "" if unit == 1 else f" --unit {unit}"
    family = family_of_capture(capture) if capture and device_by_code(capture.words) is None else None
    return f"{options} --family {family}" if family in FAMILIES_TO_NAME else options


def _modelled_unit(args: argparse.Namespace) -> Mapping[int, RegisterSource]:
    try:
        zone = ZoneInfo(args.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            f"there is no time zone {args.timezone}; use a name such as Europe/Brussels"
        ) from None
    source = living_inverter(args.model, zone=zone, seed=args.seed, start=datetime.now(UTC), days=args.days)
    return {1 if args.unit is None else args.unit: source}


def _title(args: argparse.Namespace) -> str:
    return args.model or " + ".join(path.name for path in args.files)


async def _serve(simulator: InverterSimulator, host: str, title: str, options: str) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with simulator:
            print(f"listening on {host}:{simulator.port}: {title}", flush=True)
            command = f"sungrow read {host} --port {simulator.port}{options}"
            print(f"try: {command}    (Ctrl-C stops)", flush=True)
            async for _ in signals:
                return
