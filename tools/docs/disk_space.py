"""The disk space page: measured bytes per reading, times fleet and the time they are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tools.docs.markdown import Page, table

MEASURED: Final = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "storage.json"
READINGS_PER_DAY: Final = 17_280
_FLEETS: Final = (1, 5, 50, 500)
_DATABASE_DAYS: Final = {"a day": 1, "30 days": 30, "400 days, the default": 400, "10 years": 3650}
_SPOOL_DAYS: Final = {
    "a day": 1,
    "always on line": 14,
    "after a week without": 21,
    "after a month without": 44,
}
_SPOOL: Final = "in the spool"
_INTRO: Final = """\
What readings every five seconds take, day and night, as an edge reads a hybrid: the most a device can fill.
String inverters give fewer fields and sleep at night; `POLL_INTERVAL_S=10` halves every figure.
[Sizing](../sizing.md) says what machine that makes, [the database](../database.md) why so many bytes.

A reading takes {measured}. Measured on {machine}, {date}. Raw readings go after `RAW_RETENTION_DAYS`;
rollups, which stay for ever, come on top: 96 rows a day and device.
"""
_NOTES: Final = {
    "in PostgreSQL": "For a house or a few. With more devices or years take TimescaleDB.",
    "in TimescaleDB, compressed": "Days older than two are compressed; add two days of the table above.",
    _SPOOL: "On the edge's disk: what is not delivered yet, and what was delivered in the last two weeks. "
    "A spool that outgrows its disk is [merged, not lost](../edge.md#a-full-disk).",
}


def pages() -> Iterator[Page]:
    """Make the page."""
    result = json.loads(MEASURED.read_text(encoding="utf-8"))
    sizes = {_where(figure): int(figure["ours"]) for figure in result["figures"]}
    measured = ", ".join(f"{size} bytes {where}" for where, size in sizes.items())
    body = [_INTRO.format(measured=measured, machine=result["machine"], date=result["date"])]
    for where, size in sizes.items():
        days = _SPOOL_DAYS if where == _SPOOL else _DATABASE_DAYS
        body += [f"## {where[0].upper()}{where[1:]}", _NOTES.get(where, ""), _table(size, days)]
    yield Page(
        "disk-space.md",
        "Disk space",
        "Disk that raw readings take in the database and on the edge, by devices and days kept.",
        "\n\n".join(body),
    )


def _where(figure: dict[str, Any]) -> str:
    """Take ``in PostgreSQL`` out of ``bytes of a reading in PostgreSQL / as JSON``."""
    return str(figure["what"]).removeprefix("bytes of a reading ").partition(" /")[0]


def _table(size: int, columns: dict[str, int]) -> str:
    day = size * READINGS_PER_DAY
    rows = ((str(fleet), *(_shown(day * fleet * days) for days in columns.values())) for fleet in _FLEETS)
    return table(("devices", *columns), rows)


def _shown(count: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e6:.3g} MB"
