"""The command line of `sungrow`. Each subcommand is a module of this package with `add_parser` and `run`."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable
from typing import Final

from sungrow_lib._version import __version__
from sungrow_lib.cli.guard import guarded
from sungrow_lib.cli.parser import CommandParser, MixingParser

COMMANDS: Final[dict[str, str]] = {
    "probe": "find out what an inverter is and what it answers",
    "read": "read an inverter once, or keep reading",
    "dump": "save an inverter's registers to a capture file",
    "decode": "decode capture files without a device",
    "simulate": "be an inverter: serve a capture or a modelled day on Modbus TCP",
    "demo": "run everything on this machine: inverters, edge, server, dashboard",
}
"""Subcommand -> one line for the overview; a module of the same name implements it."""

_EPILOG = """\
examples:
  sungrow simulate --model SH8.0RT-20 --port 5020     an inverter to try the rest on
  sungrow read 127.0.0.1 --port 5020                  its values, once
  sungrow decode capture.json --json                  a capture's values, without a device

exit status: 0 done, 1 the job failed, 2 wrong use
"""


def main(argv: list[str] | None = None) -> int:
    """Run the `sungrow` command line inside a program that has its own mind about signals."""
    return prepare(argv)()


def prepare(argv: list[str] | None = None) -> Callable[[], int]:
    """Read the `sungrow` command line and return its job, which returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show "°C" still shows the value
    parser = CommandParser(
        prog="sungrow",
        description="Talk to Sungrow inverters: politely, correctly, without losing a reading.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"sungrow_lib {__version__}")
    parser.set_defaults(until_stopped=lambda _: False)
    subparsers = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=MixingParser
    )
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        if name == chosen:  # the other commands' modules are not even imported
            importlib.import_module(f"sungrow_lib.cli.{name}").add_parser(subparsers, summary)
        else:
            subparsers.add_parser(name, help=summary)
    args = parser.parse_args(arguments)
    return lambda: guarded(parser.prog, lambda: int(args.run(args)), until_stopped=args.until_stopped(args))
