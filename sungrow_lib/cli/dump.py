"""`sungrow dump`: save an inverter's registers to a capture file."""

from __future__ import annotations

import argparse
import re
from datetime import datetime
from pathlib import Path
from typing import Final

from sungrow_lib.capture import Capture, write_capture
from sungrow_lib.cli.connection import (
    CONNECTION_HELP,
    add_connection_options,
    family_of,
    run_on_device,
    settings_of,
    tell,
)
from sungrow_lib.cli.inventory import announce, documented_plan, identify_with_path, read_on
from sungrow_lib.errors import CaptureError
from sungrow_lib.modbus.careful import CarefulReader
from sungrow_lib.modbus.session import DeviceSession
from sungrow_lib.modbus.settings import ConnectionSettings
from sungrow_lib.registers.identity import Identity
from sungrow_lib.registers.words import RegisterWords, Space
from sungrow_lib.sample import DEVICE_ID_PATTERN, whole_milliseconds

_DESCRIPTION = """\
Read every documented register a device answers and write the raw words to a capture file, which
`sungrow decode` and `sungrow simulate` understand and which you can send to others: every digit of every
serial number in it is a 0, unless you ask for --with-serial. It says when it was read.

What the device refuses is asked again in smaller pieces, one refusal in five seconds; on a dongle that can
take minutes. What was refused is remembered, so a second run is quicker. Ctrl-C writes what was read so far.
"""

_EPILOG = f"""\
{CONNECTION_HELP}
examples:
  sungrow dump 192.168.1.20 -o inverter.json
  sungrow dump 192.168.1.20 -o settings.json --space holding
  sungrow decode inverter.json settings.json

exit status: 0 written, 1 the device failed (what was read is written), 2 wrong use
"""

_SPACES: Final = {"input": Space.INPUT, "holding": Space.HOLDING}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add `dump` to the command line."""
    parser = subparsers.add_parser(
        "dump",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    add_connection_options(parser)
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="capture to write")
    parser.add_argument(
        "--space",
        choices=list(_SPACES),
        default="input",
        help="input: measured values (default); holding: settings",
    )
    parser.add_argument("--device-id", type=device_id, metavar="ID", help="your name of the device")
    parser.add_argument("--with-serial", action="store_true", help="keep serial numbers as they are")
    parser.set_defaults(run=run)


def device_id(text: str) -> str:
    """Check a device id.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not re.fullmatch(DEVICE_ID_PATTERN, text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no device id: 1 to 64 letters, digits, dots, dashes or underscores"
        )
    return text


def run(args: argparse.Namespace) -> int:
    """Read the device and write the capture."""
    settings = settings_of(args)
    if not args.output.parent.is_dir():  # better now than after minutes of reading
        raise CaptureError(f"{args.output}: there is no folder {args.output.parent}")
    if args.output.is_dir():
        raise CaptureError(f"{args.output} is a folder; name a file in it")
    run_on_device(args, lambda: _dump(args, settings))
    return 0


async def _dump(args: argparse.Namespace, settings: ConnectionSettings) -> None:
    async with DeviceSession(settings) as session:
        reader = CarefulReader(session, args.unit, tell=tell)
        identity = None
        begun = session.clock.wall()
        try:
            async with session.one_pass():
                identity, notes = await identify_with_path(reader, family_of(args))
                begun = session.clock.wall()
                plan = documented_plan(identity, notes, (_SPACES[args.space],))
                announce(identity, plan)
                reading = await reader.read_plan(plan, thorough=True, known=reader.words)
            await read_on(session, reader, reading)
        finally:  # also when interrupted: minutes of careful reading are not thrown away
            if identity is not None:
                reader.notes.save()
                _write(args, identity, reader.words, begun)


def _write(args: argparse.Namespace, identity: Identity, words: RegisterWords, begun: datetime) -> None:
    space = _SPACES[args.space]
    capture = Capture(
        words=words,
        model=identity.model or "",
        firmware=identity.firmware or "",
        connection=identity.path,
        unit_id=args.unit,
        ts=whole_milliseconds(begun),
        device_id=args.device_id,
    )
    write_capture(args.output, capture, space, mask_serials=not args.with_serial)
    count = sum(of is space for of, _ in words)
    masked = "" if args.with_serial else ", serial numbers masked"
    print(f"{args.output}: {count} {args.space} registers of {identity.model or 'an unknown model'}{masked}")
