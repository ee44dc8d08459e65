"""`make bench`: measure against floors and peers in the same run; print ratios with machine and date.

Absolute times differ from machine to machine and from minute to minute; the ratios are what to quote.
With `--save` each suite's figures are kept in `benchmarks/results/`, from which the documents quote them.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks import decode, footprint, ingest, page, poll, serving, spool, storage
from benchmarks.measure import Figure
from sungrow_lib.cli.demo import duration

SUITES: dict[str, Callable[[], Iterator[Figure]]] = {
    "decode": decode.run,
    "footprint": footprint.run,
    "ingest": ingest.run,
    "page": page.run,
    "poll": poll.run,
    "serving": serving.run,
    "spool": spool.run,
    "storage": storage.run,
}
RESULTS: Final = Path(__file__).resolve().parent / "results"
"""One file per suite: when, where and with what it ran, and its figures."""


def main() -> int:
    """Run the suites asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", metavar="SUITE", nargs="*", help=f"of {', '.join(SUITES)} (default: all)")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    parser.add_argument(
        "--for",
        dest="long_s",
        type=duration,
        metavar="TIME",
        help="footprint: read the memory of one more daemon after so long: 1h, say",
    )
    args = parser.parse_args()
    if unknown := set(args.suites) - SUITES.keys():
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    about = _about()
    print(", ".join(f"{name} {value}" for name, value in about.items()) + "\n")
    print(f"{'what':<58} {'ours':>10} {'against':>10}  {'ratio':>6}")
    suites = SUITES | {"footprint": partial(footprint.run, args.long_s)}
    for name in args.suites or suites:
        figures = []
        for figure in suites[name]():
            print(figure)
            figures.append(figure)
        if args.save:
            _save(name, about, figures)
    return 0


def _about() -> dict[str, str]:
    """Return what the figures depend on: the day, the machine, the versions."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": _processor(),
        "python": platform.python_version(),
        "sungrow-lib": version("sungrow-lib"),
        "pymodbus": version("pymodbus"),
    }


def _save(suite: str, about: dict[str, str], figures: list[Figure]) -> None:
    result: dict[str, Any] = {"suite": suite, **about, "figures": [asdict(figure) for figure in figures]}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    (RESULTS / f"{suite}.json").write_text(text, encoding="utf-8")


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as cpus:  # noqa: PTH123 - not a path of ours
            models = [line.partition(":")[2].strip() for line in cpus if line.startswith("model name")]
    except OSError:
        return platform.machine()
    return f"{len(models)} x {models[0]}" if models else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
