"""Writes the modelled past of one device as CSV: ``python -m sungrow_lib.demo.past --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from zoneinfo import ZoneInfo

from sungrow_lib.sample import SungrowSample
from sungrow_lib.simulator.history import modelled_past, write_csv
from sungrow_lib.simulator.house import House, birth
from sungrow_lib.simulator.images import image_named


def main(argv: list[str] | None = None) -> int:
    """Write the file and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sungrow_lib.demo.past", description="Write the modelled past of one device as CSV."
    )
    parser.add_argument("--device", required=True, help="device id of the rows")
    parser.add_argument("--model", required=True, help="modelled inverter")
    parser.add_argument("--seed", type=int, required=True, help="which weather and household")
    parser.add_argument("--zone", type=ZoneInfo, required=True, help="time zone of the site")
    parser.add_argument("--until", type=datetime.fromisoformat, required=True, help="end, with its offset")
    parser.add_argument(
        "--days", type=int, default=365, help="how many days the house has stood (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    args = parser.parse_args(argv)
    image = image_named(args.model)
    house = House(args.seed, args.zone, kind=image.kind, born=birth(args.until, args.zone, days=args.days))
    since = args.until - timedelta(days=args.days)
    rows = modelled_past(args.device, house, image, args.until, since=since)
    with args.output.open("w", encoding="utf-8", newline="") as stream:
        write_csv(_told(rows), stream)
    return 0


def _told(rows: Iterable[SungrowSample]) -> Iterator[SungrowSample]:
    """Say on standard output, for each day that is reached, which it is."""
    for day, some in groupby(rows, lambda row: row.ts.date()):
        print(day, flush=True)
        yield from some


if __name__ == "__main__":
    sys.exit(main())
