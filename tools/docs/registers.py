"""The register reference: one searchable table per family, and the supported models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import Applies
from sungrow_lib.registers.devices import DEVICE_TYPES, DeviceType
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Register
from sungrow_lib.registers.words import Space
from tools.docs.data_model import FAMILIES
from tools.docs.markdown import Page, plain, table

_INTRO: Final = """\
Numbers are **document numbers**, as Sungrow prints them: the first register is 1, the address on the wire
is one less. *In* is an input register (function 04), *hold* a holding register (function 03). Two words
are sent low word first. A word that reads 0xFFFF (0x7FFF where the type has a sign) is *not available*,
never a value.
"""
_OVERVIEW: Final = """\
Every register that Sungrow's documents list, and those that people found on real devices, with type,
scale, unit, access and what to beware of. Each table is searched by name, number, unit or meaning.
"""
_READING: Final = """\
## How to read a table

* **Numbers** are document numbers, as Sungrow prints them: the first register is 1, the address on the
  wire is one less.
* **Space**: *in* is an input register (function 04, measured values), *hold* a holding register
  (function 03, settings). The same number means different things in both.
* **Two words** are sent low word first.
* **Not available** is 0xFFFF (0x7FFF where the type has a sign, both words for two): `null` here, never
  a value.
* A mark below the name says where the knowledge comes from when it is not Sungrow's current document:
  *legacy* is an older document, *undocumented* what several projects use, *inferred* what captured
  values show.

`sungrow probe HOST` tells which of them your device answers, `sungrow decode FILE` what a saved capture
of it says. [Fields of a sample](../fields.md#sources) lists which registers each value comes from, best
first.
"""
_WHERE: Final = {
    Family.SH: "the inverter, Modbus unit 1, through its LAN port or a WiNet-S",
    Family.SG: "the inverter, Modbus unit 1, through a WiNet-S or a Logger",
    Family.BATTERY: "the battery of a hybrid, Modbus unit 200 at its LAN port, often 2 behind a WiNet-S",
    Family.IHM: "the iHomeManager, Modbus unit 247, for the whole site",
}
_LINES: Final = {
    "SH-RT": "three-phase hybrids",
    "SH-T": "three-phase hybrids, newer",
    "SH-RS": "single-phase hybrids",
    "SH-RL": "single-phase hybrids, MG series",
    "SH-K": "single-phase hybrids, older",
    "SH-CX": "hybrids for business",
    "SG-RT": "three-phase string inverters",
    "SG-RS": "single-phase string inverters",
    "SG-CX": "string inverters for business",
    "battery": "SBR, read through the hybrid",
}
"""What a line is, where it needs telling; the lines of a house come first."""
_MODELS: Final = """\
{} models are told apart by the type code they answer. A model that is not listed still works when it speaks
one of the families' register maps: name the family (`--family sh`), and
[send in a capture](../contributing/captures.md).

Knowing the model tells which registers it lacks, so that nothing is asked in vain, and how many
trackers, strings and phases there are. Models share the decoder of their family, which the tests check
with words and figures that owners of real devices published. *Strings* is the number of trackers times
strings of each; empty is not known.
"""


def pages() -> Iterator[Page]:
    """Make an overview and one page per family."""
    rows = [
        (f"[{FAMILIES[family]}]({family.value}.mdx)", len(RegisterMap.for_family(family)), _WHERE[family])
        for family in Family
    ]
    yield Page(
        "registers/index.md",
        "Registers",
        "Every register of Sungrow's hybrids, string inverters, batteries and the iHomeManager.",
        f"{_OVERVIEW}\n{table(('family', 'registers', 'who answers them'), rows)}\n{_READING}",
    )
    for family in Family:
        title = FAMILIES[family]
        yield Page(
            f"registers/{family.value}.mdx",
            f"Registers: {title}",
            f"Searchable table of the {len(RegisterMap.for_family(family))} registers of {title}.",
            "import RegisterTable from '@site/src/components/RegisterTable';\n"
            f"import registers from '@site/generated/registers-{family.value}.json';\n\n"
            f"Answered by {_WHERE[family]}.\n\n{_INTRO}\n<RegisterTable registers={{registers}} />",
            label=title if title[1].isupper() else title[0].upper() + title[1:],
            is_wide=True,
        )


def data() -> Iterator[tuple[str, str]]:
    """Make the tables' content, as file name and JSON."""
    for family in Family:
        rows = [_register(register) for register in RegisterMap.for_family(family)]
        yield f"registers-{family.value}.json", json.dumps(rows, ensure_ascii=False)


def _register(register: Register) -> dict[str, Any]:
    numbers = str(register.number)
    if register.word_count > 1:
        numbers += f"-{register.number + register.word_count - 1}"
    texts = [
        *(f"{raw:#x} {text}" for raw, text in register.choices.items()),
        *(f"bit {bit}: {text}" for bit, text in register.bits.items()),
    ]
    feature = register.feature and f"served with the rest of *{register.feature}*, or not at all"
    notes = [register.sign, register.notes, _devices(register.applies), feature]
    return {
        "name": register.name,
        "number": numbers,
        "space": "in" if register.space is Space.INPUT else "hold",
        "type": register.type.value,
        "scale": f"{10.0**-register.decimals:g}" if register.decimals else "",
        "unit": register.unit,
        "access": register.access.value,
        "range": "" if register.valid_range is None else "{:,g} to {:,g}".format(*register.valid_range),
        "status": register.status.value,
        "notes": "; ".join(filter(None, notes)),
        "values": texts,
    }


def _devices(applies: Applies) -> str:
    only = ", ".join([*sorted(applies.lines), *applies.models])
    without = ", ".join([*sorted(applies.not_lines), *applies.not_models])
    parts = [
        only and f"only {only}",
        without and f"not on {without}",
        f"from {applies.trackers} trackers" if applies.trackers else "",
        f"from {applies.strings} strings" if applies.strings else "",
        "three-phase only" if applies.three_phase else "",
        "with a three-phase meter" if applies.three_phase_meter else "",
        "" if applies.winet else "not through WiNet-S",
        applies.winet_zero_models
        and f"0 may mean unknown through WiNet-S on {', '.join(applies.winet_zero_models)}",
        "" if applies.certain else "not on every device",
    ]
    return "; ".join(part for part in parts if part)


def models() -> Iterator[Page]:
    """Make the page of supported models."""
    body = [_MODELS.format(len({device.model for device in DEVICE_TYPES}))]
    for line, devices in groupby(sorted(DEVICE_TYPES, key=_order), lambda device: device.line):
        about = _LINES.get(line)
        body += [
            f"## {line[0].upper()}{line[1:]}" + (f": {about}" if about else ""),
            table(
                ("model", "type code", "kW", "trackers", "strings", "phases", "notes"),
                (_model(device) for device in devices),
            ),
        ]
    yield Page(
        "models.md",
        "Supported models",
        "Every Sungrow model that is recognised, with type code, power, trackers, strings and phases.",
        "\n\n".join(body),
    )


def _order(device: DeviceType) -> tuple[int, str]:
    """Lines of a house first, the others by name."""
    lines = list(_LINES)
    return lines.index(device.line) if device.line in lines else len(lines), device.line


def _model(device: DeviceType) -> tuple[str, ...]:
    return (
        device.model,
        f"`{device.code:#06x}`",
        "" if device.power_kw is None else f"{device.power_kw:g}",
        str(device.trackers or ""),
        _strings(device.strings),
        str(device.phases or ""),
        plain(device.notes),
    )


def _strings(per_tracker: Sequence[int]) -> str:
    """``6 x 2`` for six trackers of two strings each."""
    counts = [(len(list(group)), strings) for strings, group in groupby(per_tracker)]
    return " + ".join(f"{count} × {strings}" for count, strings in counts)  # noqa: RUF001 - it is a multiplication
