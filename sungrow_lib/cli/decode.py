"""`sungrow decode`: what a capture file says, without a device."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sungrow_lib.capture import load_capture, merge_captures
from sungrow_lib.decoding import decoded
from sungrow_lib.quantities import QUANTITY_BY_NAME, Family
from sungrow_lib.registers.map import RegisterMap

_AUTO: Final = "auto"

_DESCRIPTION = """\
Decode capture files: JSON with the raw registers of one inverter, battery or iHomeManager, as
`sungrow dump` writes them. Every register is scaled to its unit; what the device does not have or does
not know stays empty, never 0. The sample below the registers is the reading as a whole, with the signs
used everywhere: battery + charging, grid + exporting. Values of it that can hardly be true are kept and
marked: "(implausible)" in the table, a list "implausible" in the JSON.

Several files of one device are merged, such as its input and its holding registers.
"""

_EPILOG = """\
families:
  auto      by the type code in the capture, then by its "model" text
  sh        hybrid inverters (SH..., MG...)
  sg        string inverters (SG...)
  battery   a battery read on a unit of its own (SBR..., SBH...)
  ihm       iHomeManager

examples:
  sungrow decode inverter.json                       a table
  sungrow decode input.json holding.json --json      both register spaces, as JSON
  sungrow decode --family sg unknown.json            when the file does not say what it is

exit status: 0 decoded, 2 the files cannot be read or do not fit together, or are of another family
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add `decode` to the command line."""
    parser = subparsers.add_parser(
        "decode",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="capture file")
    parser.add_argument(
        "--family",
        choices=[_AUTO, *(family.value for family in Family)],
        default=_AUTO,
        help="register map to read it with (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Decode the files and print the answer."""
    capture = merge_captures([load_capture(path) for path in args.files])
    answer = decoded(capture, None if args.family == _AUTO else Family(args.family))
    if args.json:
        print(json.dumps(answer, indent=2))
    else:
        print("\n".join(_table(answer)))
    return 0


def _table(answer: dict[str, Any]) -> Iterator[str]:
    yield "device"
    yield from _rows(answer["device"], {})
    yield "\nregisters"
    family = Family(answer["device"]["family"])
    maps = [RegisterMap.for_family(family), RegisterMap.for_family(Family.BATTERY)]
    units = {row.name: row.unit for table in reversed(maps) for row in table}
    yield from _rows(answer["registers"], units)
    yield "\nsample (battery: + charging; grid: + exporting)"
    units = {name: quantity.unit for name, quantity in QUANTITY_BY_NAME.items()}
    known = {name: value for name, value in answer["sample"].items() if value is not None}
    yield from _rows(known, {**units, **_marked(units, answer.get("implausible", ()))})


def _marked(units: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: f"{units[name]}  (implausible)" for name in names}


def _rows(values: dict[str, Any], units: dict[str, str]) -> Iterator[str]:
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        yield f"  {name:<{width}}  {_shown(value, units.get(name, ''))}".rstrip()


def _shown(value: object, unit: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        text = " ".join("-" if item is None else str(item) for item in value)
        if all(isinstance(item, str) for item in value):
            text = ", ".join(value) or "none"
        return f"{text} {unit}"
    return f"{value} {unit}"
