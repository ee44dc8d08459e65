"""Imported rows that do not say what time they stand for stand for what their file's spacing tells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reference_server import history
from reference_server.cli import main
from reference_server.history import import_csv
from sungrow_lib.sample import format_ts
from tests.server.conftest import Api

pytestmark = pytest.mark.anyio

DAY = datetime(2026, 6, 10, tzinfo=UTC)
FIVE_MINUTES = [DAY + timedelta(minutes=5 * n) for n in range(288)]


def _file(folder: Path, stamps: Iterable[datetime], name: str = "coarse.csv", **more: str) -> Path:
    lines = [",".join(["ts", "pv_power_w", *more])]
    lines += [",".join([format_ts(ts), "1000", *more.values()]) for ts in stamps]
    file = folder / name
    file.write_text("\n".join(lines) + "\n")
    return file


async def _load(api: Api, file: Path, **more: Any) -> str:
    return str(await import_csv(api.dsn, file, "sh-1", source="test", retention=timedelta(days=4000), **more))


def _covered_s(api: Api) -> float:
    [(covered,)] = api.rows("SELECT sum(covered_ms)::int8 FROM rollup_15m")
    [(work,)] = api.rows("SELECT sum(pv_power_w_sum)::int8 FROM rollup_15m")
    assert work == 1000 * covered
    return float(covered) / 1000


def _plain_s(stamps: Sequence[datetime], interval_s: float) -> float:
    """What time rows stand for: the time since the one before, at most three intervals; one for the first."""
    stamps = sorted(stamps)
    distances = [(later - earlier).total_seconds() for earlier, later in pairwise(stamps)]
    return interval_s + sum(min(distance, 3 * interval_s) for distance in distances)


async def test_rows_of_five_minutes_cover_their_day(api: Api, tmp_path: Path) -> None:
    file = _file(tmp_path, FIVE_MINUTES)
    assert await _load(api, file) == "imported 288, known 0, kept aside 0; interval taken: 300 s"
    assert _covered_s(api) == 86_400
    span = {"from": format_ts(DAY), "to": format_ts(DAY + timedelta(days=1)), "bucket": "1h"}
    _, answer = await api.get("/v1/series", device_id="sh-1", **span)
    assert sum(hour["pv_kwh"] for hour in answer["series"]) == pytest.approx(24)
    assert await _load(api, file) == "imported 0, known 288, kept aside 0"
    later = _file(tmp_path, FIVE_MINUTES[100:])  # its first row has no row before it here
    assert await _load(api, later) == "imported 0, known 188, kept aside 0"


@pytest.mark.parametrize("order", ["forwards", "backwards"])
async def test_a_gap_stays_one_and_parts_go_together(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", 40)
    jitter = [ts + timedelta(seconds=n % 7) for n, ts in enumerate(FIVE_MINUTES)]
    stamps = jitter[:100] + jitter[140:200] + jitter[202:281]  # hours are missing
    file = _file(tmp_path, stamps if order == "forwards" else stamps[::-1])
    assert "interval taken: 301 s" in await _load(api, file)
    lost_s = 0 if order == "forwards" else 40  # of the newest row of a part, whose interval is the usual one
    assert _plain_s(stamps, 301) - lost_s <= _covered_s(api) <= _plain_s(stamps, 301)


async def test_a_row_that_knows_its_interval_keeps_it(api: Api, tmp_path: Path) -> None:
    assert ";" not in await _load(
        api, _file(tmp_path, FIVE_MINUTES, interval_s="60"), interval=timedelta(seconds=300)
    )
    assert _covered_s(api) == 288 * 60


async def test_an_interval_that_is_unknown_row_by_row_stays_so(api: Api, tmp_path: Path) -> None:
    assert ";" not in await _load(api, _file(tmp_path, FIVE_MINUTES, interval_s=""))
    assert _covered_s(api) <= 288 * 15


@pytest.mark.parametrize(("distance_s", "count"), [(5, 200), (15, 100), (7200, 12), (600, 3)])
async def test_what_is_near_far_or_few_is_left_to_the_rule_of_polls(
    api: Api, tmp_path: Path, distance_s: int, count: int
) -> None:
    file = _file(tmp_path, [DAY + timedelta(seconds=distance_s * n) for n in range(count)])
    assert "; interval taken" not in await _load(api, file)
    assert api.rows("SELECT count(*) FROM samples WHERE interval_s IS NOT NULL") == [(0,)]


def _every(minutes: float, count: int, after: datetime) -> list[datetime]:
    return [after + timedelta(minutes=minutes * n) for n in range(1, count + 1)]


@pytest.mark.parametrize("rows_at_once", [40, 2_000])
@pytest.mark.parametrize("minutes", [(60, 5), (5, 60), (1, 30), (30, 1)])
async def test_a_file_whose_interval_changes_is_followed(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: tuple[int, int], rows_at_once: int
) -> None:
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", rows_at_once)
    first = _every(minutes[0], 80, DAY)
    stamps = [*first, *_every(minutes[1], 200, first[-1])]
    told = await _load(api, _file(tmp_path, stamps))
    low, high = sorted(minutes)
    assert told.endswith(f"interval taken: {60 * low} to {60 * high} s")
    assert _covered_s(api) == 60 * (80 * minutes[0] + 200 * minutes[1])


async def test_hours_that_are_a_little_late_are_hours(api: Api, tmp_path: Path) -> None:
    stamps = [ts + timedelta(seconds=n % 4) for n, ts in enumerate(_every(60, 100, DAY))]
    assert "interval taken" in await _load(api, _file(tmp_path, stamps))
    assert _covered_s(api) == pytest.approx(100 * 3600, abs=5)


async def test_the_interval_that_is_named_wins(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", api.dsn)
    assert (await _load(api, _file(tmp_path, FIVE_MINUTES), interval=timedelta(seconds=60))).endswith(
        ": 60 s"
    )
    assert _covered_s(api) == 60 + 287 * 180
    for wrong in ("0", "-5", "nan", "86401", "x"):
        with pytest.raises(SystemExit):
            main(["import", "x.csv", "--device", "sh-1", "--interval", wrong])
        assert "at most a day" in capsys.readouterr().err


async def test_too_few_rows_to_tell_are_told(api: Api, tmp_path: Path) -> None:
    told = "; no interval taken: fewer than four rows tell none, --interval SECONDS names it"
    few = _file(tmp_path, FIVE_MINUTES[:3])
    assert await _load(api, few) == "imported 3, known 0, kept aside 0" + told
    assert await _load(api, few) == "imported 0, known 3, kept aside 0"  # they stay as they are
    cases: list[tuple[list[datetime], dict[str, Any]]] = [
        (FIVE_MINUTES[10:14], {}),
        ([DAY + timedelta(days=1, seconds=5 * n) for n in range(3)], {}),  # as polls lie
        ([DAY + timedelta(days=2, hours=6 * n) for n in range(3)], {}),  # moments, however many
        ([DAY + timedelta(days=4)], {}),
        (FIVE_MINUTES[20:23], {"interval": timedelta(minutes=5)}),
    ]
    for stamps, more in cases:
        assert "no interval" not in await _load(api, _file(tmp_path, stamps), **more)
    assert "no interval" not in await _load(api, _file(tmp_path, FIVE_MINUTES[30:33], interval_s="60"))
