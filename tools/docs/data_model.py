"""The data model page: every field of a sample with unit, sign, kind, resolution and source registers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sungrow_lib.quantities import QUANTITIES, Family, Quantity, QuantityKind
from sungrow_lib.registers.map import RegisterMap
from tools.docs.markdown import Page, code, plain, table

FAMILIES: Final = {
    Family.SH: "hybrids (SH, MG)",
    Family.SG: "string inverters (SG)",
    Family.BATTERY: "batteries (SBR, SBH)",
    Family.IHM: "iHomeManager",
}

_KINDS: Final = {
    QuantityKind.GAUGE: "a momentary value; averaged over time, with minimum and maximum",
    QuantityKind.COUNTER: "only grows until the device resets it; aggregated by its increase",
    QuantityKind.DAILY_COUNTER: "a counter the inverter resets at its own midnight; shown, never summed",
    QuantityKind.STATE: "a word",
    QuantityKind.CODES: "the codes active now; an empty list means read and none active",
    QuantityKind.META: "says something about the reading itself",
}

_INTRO: Final = """\
A sample has a `device_id`, a time `ts` (UTC, exactly milliseconds) and any of the fields below. A field
that was not read is missing or `null`, **never 0**. Every value is rounded once to its resolution,
before it is stored, and is the same number in the spool, on the wire, in the database and in every
answer. How to read them is told in [Data model](../data-model.md).

A value outside its plausible range is stored as it came, and flagged; nothing is cut off. A list has an
item for each tracker, phase or string, `null` where one was not read.
"""
_SOURCES: Final = """\
The registers that can supply it, best first; `-` before a name: the register's sign is the opposite. Each
is described in the [register reference](registers/index.md).
"""


def pages() -> Iterator[Page]:
    """Make the page."""
    body = [
        _INTRO,
        "## Fields",
        table(
            ("field", "meaning", "unit", "sign", "kind", "steps of", "plausible"),
            (_row(quantity) for quantity in QUANTITIES),
        ),
        "## Kinds",
        table(("kind", "means"), ((_kind(kind), text) for kind, text in _KINDS.items())),
        "## Where each field comes from {#sources}",
        _SOURCES,
        table(
            ("field", *(FAMILIES[family] for family in Family)),
            (
                (code(quantity.name), *(_sources(quantity, family) for family in Family))
                for quantity in QUANTITIES
            ),
        ),
    ]
    yield Page(
        "fields.md",
        "Fields of a sample",
        "Every field of a sample: unit, sign, kind, resolution, plausible range and source registers.",
        "\n\n".join(body),
        is_wide=True,
    )


def _row(quantity: Quantity) -> tuple[str, ...]:
    numeric = quantity.is_numeric
    return (
        code(quantity.name),
        quantity.title,
        quantity.unit,
        plain(quantity.sign),
        _kind(quantity.kind) + (f", list of up to {quantity.length}" if quantity.length else ""),
        f"{10**-quantity.decimals:.{quantity.decimals}f}" if numeric else "",
        f"{quantity.low:,.0f} to {quantity.high:,.0f}" if numeric else "",
    )


def _kind(kind: QuantityKind) -> str:
    return kind.value.replace("_", " ")


def _sources(quantity: Quantity, family: Family) -> str:
    """Name the registers; numbered ones of a list by the first and the last."""
    items = [
        [f"{'-' * source.negate}{source.register}" for source in item]
        for item in quantity.sources.get(family, ())
    ]
    if len(items) > 1 and "1" in items[0][0] and quantity.length is not None:
        return f"{code(items[0][0])} to {code(items[-1][0])}"
    return ", ".join(code(name) for item in items for name in item)


def unknown_sources() -> set[str]:
    """Return registers named here that no family has; a test wants it to be empty."""
    return {
        source.register
        for quantity in QUANTITIES
        for family, items in quantity.sources.items()
        for item in items
        for source in item
        if source.register not in RegisterMap.for_family(family)
    }
