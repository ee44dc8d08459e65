"""`python -m tests.crash`: break everything at random, for long, and count what became of every reading."""

from __future__ import annotations

import argparse
import re
import secrets
import sys
import tempfile
import time
from pathlib import Path

from sungrow_lib.demo.processes import ending_on_signals
from sungrow_lib.errors import SungrowError
from tests.crash.run import Plan, run

_LISTS = Path("build/crash")
_UNITS = {"s": 1, "m": 60, "h": 3600}


def _span(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is no span; write one such as 90s, 10m or 8h")
    return float(match[1]) * _UNITS[match[2]]


def main() -> int:
    """Run the harness; return 0 only if nothing was lost, doubled or altered."""
    parser = argparse.ArgumentParser(
        prog="make crash",
        description="Real processes under a rain of faults; then every accepted reading is looked for. "
        "Every kind of fault comes at least once, which takes some ten minutes; --for adds to that only "
        "what is longer.",
        epilog='example: make crash ARGS="--seed 7 --for 10m"',
    )
    parser.add_argument(
        "--seed", type=int, default=None, help="decides the order of the faults (default: any)"
    )
    parser.add_argument(
        "--for",
        dest="span",
        type=_span,
        default=120.0,
        metavar="SPAN",
        help="go on for so long at least; default: 2m",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="new folder to leave everything in")
    args = parser.parse_args()
    seed = secrets.randbelow(10**6) if args.seed is None else args.seed
    print(f"seed {seed}, {args.span:.0f} s", flush=True)
    began = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {what}", flush=True)

    try:
        with ending_on_signals(), tempfile.TemporaryDirectory(prefix="sungrow-crash-") as scratch:
            folder = args.keep or Path(scratch, "run")
            folder.mkdir(mode=0o700)
            account, faults = run(Plan(seed=seed, for_s=args.span, tell=tell), folder)
    except (SungrowError, OSError) as error:
        print(f"make crash: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    listing = (args.keep or _LISTS) / f"seed-{seed}.keys"
    account.write_list(listing)
    print(f"every reading counted apart, and every finding: {listing}")
    print(account.report(faults, seed=seed, seconds=args.span))
    return 0 if account.holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
