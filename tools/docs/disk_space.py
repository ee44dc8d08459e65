"""The disk space page: measured bytes of readings and rollups, times fleet and the time they are kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.kept import ROLLUPS
from reference_server.config import ServerSettings
from tools.docs.markdown import Page, table

MEASURED: Final = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "storage.json"
READINGS_PER_DAY: Final = 17_280
ENGINES: Final = ("PostgreSQL", "TimescaleDB")
_READING: Final = re.compile(r"bytes of a reading (?P<where>.*?) / ")
_KEPT: Final = re.compile(r"bytes of a (?P<what>row|day) of (?P<name>\w+) in (?P<engine>\w+) / ")
_FLEETS: Final = (1, 10, 100, 500, 5_000, 250_000)
_EDGE_FLEETS: Final = (1, 5, 50)
_RAW_DAYS: Final[int] = ServerSettings.model_fields["raw_retention_days"].default
_KEPT_DAYS: Final = 3_650
_UNCOMPRESSED_DAYS: Final = 3
"""Of TimescaleDB's raw readings: a chunk is compressed when all of its day is older than two."""
_DATABASE_DAYS: Final = {
    "a day": 1,
    "30 days": 30,
    f"{_RAW_DAYS} days, the default": _RAW_DAYS,
    "10 years": 3650,
}
_SPOOL_DAYS: Final = {
    "a day": 1,
    "always on line": 14,
    "after a week without": 21,
    "after a month without": 44,
}
_SPOOL: Final = "in the spool"
_INTRO: Final = """\
What readings every five seconds take, day and night, as an edge reads a hybrid: the most a device can fill.
String inverters give fewer fields and sleep at night; `POLL_INTERVAL_S=10` halves what raw readings take.
[Sizing](../sizing.md) says what machine that makes, [the database](../database.md#bytes-of-a-reading) why so
many bytes.

A reading takes {readings}. What stays for ever takes, a day and device, {kept}.
Measured on {machine}, {date}.

## A fleet

Raw readings go after `RAW_RETENTION_DAYS` ({days} by default). Rollups and aggregates
[never go](../database.md#bytes-of-what-stays), and are as many at any poll interval.
"""
_NOTES: Final = {
    "in PostgreSQL with its index": "For a house or a few. With more devices or years take TimescaleDB.",
    "in TimescaleDB, compressed": "Days older than two are compressed; "
    f"add {_UNCOMPRESSED_DAYS} days of the table above.",
    _SPOOL: "On the edge's disk: what is not delivered yet, and what was delivered in the last two weeks. "
    "A spool that outgrows its disk is [merged, not lost](../edge.md#a-full-disk).",
}


def pages() -> Iterator[Page]:
    """Make the page."""
    result = _result()
    sizes = _readings(result)
    readings = ", ".join(f"{size} bytes {where}" for where, size in sizes.items())
    kept = ", ".join(f"{_shown(sum(_kept(result, engine).values()))} in {engine}" for engine in ENGINES)
    intro = {"readings": readings, "kept": kept, "machine": result["machine"], "date": result["date"]}
    body = [_INTRO.format(days=_RAW_DAYS, **intro)]
    for engine in ENGINES:
        body += [f"### On {engine}", costs(engine)]
    body.append("## Raw readings alone")
    for where, size in sizes.items():
        rows = (_EDGE_FLEETS, _SPOOL_DAYS) if where == _SPOOL else (_FLEETS, _DATABASE_DAYS)
        body += [f"### {where[0].upper()}{where[1:]}", _NOTES.get(where, ""), _table(size, *rows)]
    yield Page(
        "disk-space.md",
        "Disk space",
        "Disk that readings and rollups take in the database and on the edge, by devices and days kept.",
        "\n\n".join(body),
    )


def costs(engine: str) -> str:
    """Return the table of what fleets take of the server's disk: in a day, and once years have passed."""
    result = _result()
    sizes = _readings(result)
    kept = sum(_kept(result, engine).values())
    raw = sizes[f"in {engine} with its index"] * READINGS_PER_DAY
    columns = {"raw, a day": raw}
    raw_kept = raw * _RAW_DAYS
    if compressed := sizes.get(f"in {engine}, compressed", 0) * READINGS_PER_DAY:
        columns["compressed, a day"] = compressed
        raw_kept = raw * _UNCOMPRESSED_DAYS + compressed * (_RAW_DAYS - _UNCOMPRESSED_DAYS)
    what = "rollups and aggregates" if compressed else "rollups"
    columns |= {
        f"{what}, a day": kept,
        f"raw of {_RAW_DAYS} days": raw_kept,
        f"{what} of ten years": kept * _KEPT_DAYS,
        "in all": raw_kept + kept * _KEPT_DAYS,
    }
    rows = ((f"{fleet:,}", *(_shown(size * fleet) for size in columns.values())) for fleet in _FLEETS)
    return table(("devices", *columns), rows)


def _result() -> dict[str, Any]:
    result: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return result


def _readings(result: dict[str, Any]) -> dict[str, int]:
    """Bytes of a reading, by where it lies: ``in TimescaleDB, compressed``."""
    found = ((_READING.match(figure["what"]), figure["ours"]) for figure in result["figures"])
    return {match["where"]: int(size) for match, size in found if match is not None}


def _kept(result: dict[str, Any], engine: str) -> dict[str, int]:
    """Bytes that a day of a device takes of each rollup and aggregate."""
    found = ((_KEPT.match(figure["what"]), figure["ours"]) for figure in result["figures"])
    return {
        match["name"]: int(size) * (ROLLUPS[match["name"]] if match["what"] == "row" else 1)
        for match, size in found
        if match is not None and match["engine"] == engine
    }


def _table(size: int, fleets: Sequence[int], columns: dict[str, int]) -> str:
    day = size * READINGS_PER_DAY
    rows = ((f"{fleet:,}", *(_shown(day * fleet * days) for days in columns.values())) for fleet in fleets)
    return table(("devices", *columns), rows)


def _shown(count: float) -> str:
    for size, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if round(count / size, 2) >= 1:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
