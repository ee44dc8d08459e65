"""The disk space page: measured bytes per reading, times fleet and retention."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tools.docs.markdown import Page, table

MEASURED: Final = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "storage.json"
READINGS_PER_DAY: Final = 17_280
_FLEETS: Final = (1, 5, 50, 500)
_DAYS: Final = (30, 400, 3650)
_INTRO: Final = """\
Raw readings every five seconds, day and night, as an edge reads a hybrid: {measured}.
[The database](../database.md) says why so many. Measured on {machine}, {date}. Rollups, which stay for ever,
come on top: 96 rows a day and device.
"""


def pages() -> Iterator[Page]:
    """Make the page."""
    result = json.loads(MEASURED.read_text(encoding="utf-8"))
    sizes = {_where(figure): int(figure["ours"]) for figure in result["figures"]}
    measured = ", ".join(f"{size} bytes {where}" for where, size in sizes.items())
    body = [_INTRO.format(measured=measured, machine=result["machine"], date=result["date"])]
    for where, size in sizes.items():
        body += [f"## {where[0].upper()}{where[1:]}", _table(size)]
    yield Page(
        "disk-space.md",
        "Disk space",
        "Disk that raw readings take, by number of devices and days they are kept.",
        "\n\n".join(body),
    )


def _where(figure: dict[str, Any]) -> str:
    """Take ``in PostgreSQL`` out of ``bytes of a reading in PostgreSQL / as JSON``."""
    return str(figure["what"]).removeprefix("bytes of a reading ").partition(" /")[0]


def _table(size: int) -> str:
    day = size * READINGS_PER_DAY
    rows = ((str(fleet), *(_shown(day * fleet * days) for days in (1, *_DAYS))) for fleet in _FLEETS)
    return table(("devices", "a day", *(f"{days} days" for days in _DAYS)), rows)


def _shown(count: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e6:.3g} MB"
