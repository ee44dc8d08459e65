"""The command line of `sungrow-edge spool`; what its commands do is in `spool_jobs`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from reference_edge.config import EdgeSettings
from sungrow_lib.errors import SpoolUnavailableError
from sungrow_lib.spool import SpoolState
from sungrow_lib.spool.disk import missing_place
from sungrow_lib.spool.foreign import is_missing

Settings = Callable[[argparse.Namespace], EdgeSettings]
"""Reads the settings: they name the spool's file when `--spool` does not."""

_MOST: Final = 2**63 - 1
"""The most an SQLite file can number."""
_MOST_DIGITS: Final = 19
STATES: Final = {state.name.lower(): (state,) for state in SpoolState} | {
    "quarantine": (SpoolState.REJECTED, SpoolState.CONFLICT)
}
"""What `--state` may name."""
_EPILOG: Final = """\
All of them work beside a running daemon, and none deletes a reading. None repairs:
the daemon recovers a damaged spool by itself, at its start or as it meets the damage.

where a reading stands:
  pending     to be delivered
  waiting     durable, but undated: it waits for a trusted clock
  deferred    kept, and offered again later
  rejected    in quarantine: the server says it can never be valid
  conflict    in quarantine: the server holds another value for the same device and time
  delivered   the server has it; kept here for 14 days in case the server loses it

examples:
  sungrow-edge spool stats                                 what is where
  sungrow-edge spool list --state quarantine               what the server refused, and why
  sungrow-edge spool requeue --all --code invalid          offer those again
  sungrow-edge spool export backup.ndjson                  a copy of everything
  sungrow-edge spool import backup.ndjson                  on another box, or into a new spool
  sungrow-edge spool resend --device roof                  the server lost readings: offer all that is kept
  sungrow-edge spool rename lost-device-1 roof --into-existing
                                                           damage took its name: give it back, and send
  sungrow-edge spool rename --undo lost-device-1           that was wrong: hold again what was not sent yet

exit status: 0 done, 1 the job failed or found something wrong, 2 wrong use
"""


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],  # typeshed has no public name for it
    settings: Settings,
) -> list[argparse.ArgumentParser]:
    """Add `spool` and its commands; return the parsers that need the option `--config`."""
    spool = commands.add_parser(
        "spool",
        help="look into the spool; export, import, requeue, resend, rename, verify",
        description="Look into the spool, carry it elsewhere, put right what was set apart.",
        epilog=_EPILOG,
    )
    parts = spool.add_subparsers(dest="spool_command", metavar="COMMAND", required=True)
    made: list[argparse.ArgumentParser] = []

    def add(name: str, summary: str, *, reports: bool = True) -> argparse.ArgumentParser:
        parser = parts.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        parser.add_argument(
            "--spool",
            type=Path,
            metavar="FILE",
            help="the spool's file (default: SPOOL_PATH, from the settings)",
        )
        if reports:
            parser.add_argument("--json", action="store_true", help="print JSON, for programs")
        parser.set_defaults(job=partial(_run, name, settings))
        made.append(parser)
        return parser

    add("stats", "count readings by device and by where they stand, with the reasons")

    listing = add("list", "list readings in the order they were accepted, one per line")
    _add_filters(listing)
    listing.add_argument("--after", type=_number, default=0, metavar="SEQ", help="begin after this number")
    listing.add_argument(
        "--limit", type=_natural, default=50, metavar="N", help="at most so many (default 50)"
    )

    export = add("export", "write readings, exactly as accepted, one JSON object per line", reports=False)
    export.add_argument("file", nargs="?", default="-", help="a new file, or - for standard output (default)")
    _add_filters(export)

    taking = add("import", "take in an export; what is here already is left alone")
    taking.add_argument("file", help="what `export` wrote, or - for standard input")
    taking.add_argument("--partial", action="store_true", help="lines were left out of the export on purpose")

    requeue = add("requeue", "offer quarantined and deferred readings again")
    requeue.add_argument("seq", nargs="*", type=_natural, help="their numbers, as `list` shows them")
    requeue.add_argument("--all", action="store_true", help="all of them, or all that the options below name")
    requeue.add_argument("--device", metavar="ID", help="only this device's")
    requeue.add_argument("--code", metavar="CODE", help="only those with this code, as `stats` shows it")

    resend = add("resend", "offer everything kept once more, for a server that lost readings")
    resend.add_argument("--device", metavar="ID", help="only this device's")

    rename = add("rename", "name a device whose readings are held back, and send them; or take that back")
    rename.add_argument("old", help="what it is called here, as the alarm `held` says")
    rename.add_argument("new", nargs="?", help="its device id on the server")
    rename.add_argument(
        "--into-existing", action="store_true", help="NEW is a device of the settings or of this spool"
    )
    rename.add_argument("--force", action="store_true", help="NEW is neither: nobody here knows it")
    rename.add_argument(
        "--undo", action="store_true", help="take the last rename of OLD back, as far as nothing was sent"
    )
    rename.set_defaults(settings=settings)

    aside = add("set-aside", "put readings of a device that is held back into quarantine, for good")
    aside.add_argument("device", help="what it is called here, as the alarm `held` says")

    add("verify", "check every page of the file and every rule of the spool")
    return made


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="ID", help="only this device's")
    parser.add_argument(
        "--state", choices=list(STATES), metavar="STATE", help=f"only these: {', '.join(STATES)}"
    )


def _number(text: str, least: int = 0) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text[:_MOST_DIGITS])):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
    if len(text) > _MOST_DIGITS or int(text) > _MOST:
        raise argparse.ArgumentTypeError(f"more than any reading's number; {_MOST} is the most")
    return int(text)


def _natural(text: str) -> int:
    return _number(text, least=1)


def _run(name: str, settings: Settings, args: argparse.Namespace) -> int:
    from reference_edge.spool_jobs import JOBS  # noqa: PLC0415 - the daemon needs no memory for it

    path = args.spool or settings(args).spool_path
    if name != "import" and is_missing(path):
        empty = " (an empty file)" if path.exists() else ""
        raise SpoolUnavailableError(
            f"there is no spool at {path}{empty}; name it with --spool, or in SPOOL_PATH"
        )
    if (why := missing_place(path)) is not None:
        raise SpoolUnavailableError(why)
    return anyio.run(JOBS[name], args, path)
