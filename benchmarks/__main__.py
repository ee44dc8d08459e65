"""`make bench`: measure against floors and peers in the same run; print ratios with machine and date.

Absolute times differ from machine to machine and from minute to minute; the ratios are what to quote.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version

from benchmarks import decode, ingest, poll, spool
from benchmarks.measure import Figure

SUITES: dict[str, Callable[[], Iterator[Figure]]] = {
    "decode": decode.run,
    "ingest": ingest.run,
    "poll": poll.run,
    "spool": spool.run,
}


def main() -> int:
    """Run the suites asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", metavar="SUITE", nargs="*", help=f"of {', '.join(SUITES)} (default: all)")
    args = parser.parse_args()
    if unknown := set(args.suites) - SUITES.keys():
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {_processor()}")
    print(f"sungrow-lib {version('sungrow-lib')}, pymodbus {version('pymodbus')}\n")
    print(f"{'what':<58} {'ours':>10} {'against':>10}  {'ratio':>6}")
    for name in args.suites or SUITES:
        for figure in SUITES[name]():
            print(figure)
    return 0


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as cpus:  # noqa: PTH123 - not a path of ours
            models = [line.partition(":")[2].strip() for line in cpus if line.startswith("model name")]
    except OSError:
        return platform.machine()
    return f"{len(models)} x {models[0]}" if models else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
