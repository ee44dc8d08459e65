"""`sungrow decode`: what a capture file says, without a device."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sungrow_lib.capture import Capture, load_capture, merge_captures
from sungrow_lib.cli.connection import refuse_family
from sungrow_lib.errors import UnknownFamilyError
from sungrow_lib.normalizer import Normalizer
from sungrow_lib.quantities import QUANTITY_BY_NAME, Family
from sungrow_lib.registers.identity import Identity, family_of, identify, path_by_name
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Value
from sungrow_lib.sample import SungrowSample, format_ts

_AUTO: Final = "auto"
_INVERTERS: Final = frozenset({Family.SH, Family.SG})

_DESCRIPTION = """\
Decode capture files: JSON with the raw registers of one inverter, battery or iHomeManager, as
`sungrow dump` writes them. Every register is scaled to its unit; what the device does not have or does
not know stays empty, never 0. The sample below the registers is the reading as a whole, with the signs
used everywhere: battery + charging, grid + exporting.

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
        formatter_class=argparse.RawDescriptionHelpFormatter,
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


def decoded(capture: Capture, family: Family | None = None) -> dict[str, Any]:
    """Return ``{"device", "registers", "sample"}`` of a capture, as JSON types.

    Args:
        capture: what was read.
        family: register map to use; None goes by the type code, then by the capture's model.

    Raises:
        UnknownFamilyError: neither says which family it is.
        UsageError: the type code, or the capture's model, says that it is of another family.
    """
    if family is not None:
        refuse_family("the capture", family, capture.words, capture.model)
    family = family or family_of(capture.words, capture.model)
    if family is None:
        raise UnknownFamilyError
    identity = identify(
        capture.words, family=family, model=capture.model, path=path_by_name(capture.connection)
    )
    return {
        "device": _device(identity, capture),
        "registers": _registers(identity, capture),
        "sample": _sample(identity, capture),
    }


def _device(identity: Identity, capture: Capture) -> dict[str, Any]:
    device = identity.device
    return {
        "family": identity.family,
        "model": identity.model,
        "type_code": None if identity.type_code is None else f"0x{identity.type_code:04X}",
        "serial": identity.serial,
        "firmware": identity.firmware or capture.firmware or None,
        "protocol_version": identity.protocol,
        "nominal_power_kw": None if identity.nominal_kw is None else float(identity.nominal_kw),
        "phases": identity.phases,
        "trackers": device.trackers if device else None,
        "strings_per_tracker": list(device.strings) or None if device else None,
        "takes_battery": device.has_battery if device and device.family in _INVERTERS else None,
        "path": identity.path,
        "unit_id": capture.unit_id,
    }


def _registers(identity: Identity, capture: Capture) -> dict[str, Value | None]:
    values = RegisterMap.for_family(identity.family).decode(capture.words, identity.context)
    if identity.family is Family.SH:  # a hybrid's capture may hold the registers of its battery, too
        values = RegisterMap.for_family(Family.BATTERY).decode(capture.words) | values
    return values


def _sample(identity: Identity, capture: Capture) -> dict[str, Any]:
    values = Normalizer("", identity).values(capture.words, firmware=True)
    known = {
        **values,
        "device_id": capture.device_id,
        "ts": format_ts(capture.ts) if capture.ts else None,
        "sample_count": 1,
    }
    return {name: known.get(name) for name in SungrowSample.model_fields}


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
    yield from _rows({name: value for name, value in answer["sample"].items() if value is not None}, units)


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
