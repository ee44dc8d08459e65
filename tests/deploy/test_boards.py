"""Grafana's boards and Prometheus' alerts say only what the schema and the programs really have."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tests.conftest import Need

ROOT: Final = Path(__file__).resolve().parents[2]
BOARDS: Final = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
PROVISIONING: Final = ROOT / "deploy" / "grafana" / "provisioning"
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
RULES: Final = PROMETHEUS / "sungrow-alerts.yml"

FROM, TO = "2026-06-15T00:00:00Z", "2026-06-16T00:00:00Z"
QUARTER_S: Final = 900


def board(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def queries(path: Path) -> Iterator[tuple[str, str, str]]:
    """Title, format and SQL of everything a board asks for."""
    content = board(path)
    for panel in content["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["format"], target["rawSql"]
    for variable in content["templating"]["list"]:
        yield variable["name"], "variable", variable["query"]


def expanded(sql: str, begin: str = FROM, end: str = TO, interval_s: int = QUARTER_S) -> bytes:
    """What Grafana makes of a query: variables first, then its macros (macros.go of its data source)."""
    sql = sql.replace("$__interval_ms", str(interval_s * 1000)).replace("$device", "roof")
    sql = re.sub(
        r"\$__timeGroupAlias\(([^,)]+),\$__interval,(?:NULL|0)\)",
        rf'floor(extract(epoch from \1)/{interval_s})*{interval_s} AS "time"',
        sql,
    )
    sql = re.sub(r"\$__timeFilter\(([^)]+)\)", rf"\1 BETWEEN '{begin}' AND '{end}'", sql)
    sql = sql.replace("$__timeFrom()", f"'{begin}'").replace("$__timeTo()", f"'{end}'")
    assert "$" not in sql, sql
    return sql.encode()


@pytest.fixture
def filled(migrated: str) -> str:
    """The schema with one device, rollups of two quarters of an hour and of a day, an edge's status."""
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("INSERT INTO devices (device_id, timezone) VALUES ('roof', 'Europe/Berlin')")
        values = "sample_count, covered_ms, pv_power_w_sum, pv_power_w_ms, pv_total_kwh_increase"
        for table, column, key in (
            ("rollup_15m", "bucket", "'2026-06-15T10:00:00Z'"),
            ("rollup_day", "day", "'2026-06-15'"),
        ):
            connection.execute(
                f"INSERT INTO {table} ({column}, device, {values}) "
                f"VALUES ({key}, 1, 180, 900000, {3000 * 900_000}, 900000, 75)".encode()
            )
        connection.execute(
            "INSERT INTO rollup_15m (bucket, device, sample_count, covered_ms, pv_power_w_sum, "
            "pv_power_w_ms) VALUES ('2026-06-15T10:15:00Z', 1, 60, 300000, 300000000, 300000)"
        )
        connection.execute(
            "INSERT INTO edge_status (device, edge_id, body) VALUES (1, 'box', '{\"backlog\": 7}')"
        )
    return migrated


def test_every_query_runs_and_gives_what_its_panel_needs(filled: str) -> None:
    with psycopg.connect(filled, autocommit=True) as connection:
        for path in BOARDS:
            for title, form, sql in queries(path):
                answer = connection.execute(expanded(sql))
                names = [column.name for column in answer.description or ()]
                if form == "time_series":
                    assert names[0] == "time", (path.name, title)
                    assert len(names) > 1, (path.name, title)
                if form == "variable":
                    assert names == ["__text", "__value"]


def test_figures_are_in_the_unit_that_is_printed(filled: str) -> None:
    site = {title: sql for title, _, sql in queries(ROOT / "deploy/grafana/dashboards/site.json")}
    fleet = {title: sql for title, _, sql in queries(ROOT / "deploy/grafana/dashboards/fleet.json")}
    ingest = {title: sql for title, _, sql in queries(ROOT / "deploy/grafana/dashboards/ingest.json")}
    with psycopg.connect(filled) as connection:
        powers = connection.execute(expanded(site["Power"])).fetchall()
        assert [power[1:3] for power in powers] == [
            (3000.0, None),
            (1000.0, None),
        ]  # W; unknown stays unknown
        [hour] = connection.execute(expanded(site["Power"], interval_s=3600)).fetchall()
        assert hour[1] == 2500.0  # weighted by the time that was covered
        [covered] = connection.execute(expanded(fleet["Covered time"], interval_s=3600)).fetchall()
        assert covered[1:] == ("roof", pytest.approx(1200 / 3600))
        [shares] = connection.execute(expanded(site["Self-consumption and autarky per day"])).fetchall()
        assert shares[1:] == (None, None)  # nothing is known of the meter
        [energy] = connection.execute(expanded(site["Energy per day"])).fetchall()
        assert [None if value is None else float(value) for value in energy[1:]] == [7.5, None, None]
        assert energy[0].astimezone(UTC) == datetime(2026, 6, 14, 22, tzinfo=UTC)  # the site's midnight
        just_begun = expanded(site["Energy per day"], "2026-06-14T21:00:00Z", "2026-06-14T22:30:00Z")
        assert len(connection.execute(just_begun).fetchall()) == 1  # it is the fifteenth there
        assert connection.execute(expanded(site["Energy per day"], TO, TO)).fetchall() == []
        [backlog] = connection.execute(expanded(ingest["Readings waiting on the edges"])).fetchall()
        assert backlog[1] == 7


def test_units_and_colours_are_of_columns_the_query_gives(filled: str) -> None:
    with psycopg.connect(filled, autocommit=True) as connection:
        for path in BOARDS:
            for panel in board(path)["panels"]:
                named = {over["matcher"]["options"] for over in panel["fieldConfig"]["overrides"]}
                [target] = panel["targets"]
                answer = connection.execute(expanded(target["rawSql"]))
                given = {column.name for column in answer.description or ()}
                assert named <= given, (path.name, panel["title"])


def test_how_old_the_figures_of_a_site_are(filled: str) -> None:
    site = {title: sql for title, _, sql in queries(ROOT / "deploy/grafana/dashboards/site.json")}
    with psycopg.connect(filled, autocommit=True) as connection:
        assert connection.execute(expanded(site["Last reading"])).fetchall() == []
        connection.execute(
            "INSERT INTO samples (device, ts, pv_power_w) VALUES (1, now() - interval '1 hour', 3000)"
        )
        [(_, age_s)] = connection.execute(expanded(site["Last reading"])).fetchall()
        assert 3600 <= age_s < 7200


def test_days_and_months_are_more_than_the_last_one() -> None:
    """A board that opens on a day shows a single bar of them, else."""
    for path in BOARDS:
        for panel in board(path)["panels"]:
            if re.search(r"per (day|month)", panel["title"]):
                assert panel["timeFrom"] in {"31d", "1y"}, (path.name, panel["title"])


def test_boards_are_whole() -> None:
    assert {path.stem for path in BOARDS} == {"battery", "fleet", "ingest", "site"}
    assert len({board(path)["uid"] for path in BOARDS}) == len(BOARDS)
    source = (PROVISIONING / "datasources" / "sungrow.yaml").read_text()
    for path in BOARDS:
        panels = board(path)["panels"]
        assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
        for panel in panels:
            assert f"uid: {panel['datasource']['uid']}\n" in source
            assert f"type: {panel['datasource']['type']}\n" in source
            place = panel["gridPos"]
            defaults = panel["fieldConfig"]["defaults"]
            if panel["type"] == "stat":  # else Grafana draws everything above 80 in red
                assert defaults["color"]["mode"] == "fixed" or defaults["thresholds"]["steps"]
            if defaults.get("custom", {}).get("drawStyle") == "line":  # else it draws lines across gaps
                [target] = panel["targets"]
                assert re.search(r"\$__timeGroupAlias\([a-z.]+,\$__interval,(NULL|0)\)", target["rawSql"])
                assert panel["interval"] in {"15m", "1d"}  # not finer than the rows it is made of
            assert place["x"] + place["w"] <= 24


def test_prometheus_takes_the_rules_and_the_sample(need: Need) -> None:
    promtool = need("promtool", purpose="checks the alert rules of Prometheus")
    for arguments in (["rules", str(RULES)], ["config", "--syntax-only", str(PROMETHEUS / "prometheus.yml")]):
        answer = subprocess.run([promtool, "check", *arguments], capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr


def test_every_metric_of_the_rules_exists() -> None:
    sources = "".join(
        (ROOT / package / "metrics.py").read_text() for package in ("reference_server", "reference_edge")
    )
    known = set(re.findall(r'"(sungrow_[a-z_]+)"', sources))
    expressions = " ".join(re.findall(r"expr: (.+)", RULES.read_text()))
    used = set(re.findall(r"\bsungrow_[a-z_]+", expressions))
    assert len(used) >= 10
    unknown = {name for name in used if {name, re.sub(r"_(total|bucket)$", "", name)}.isdisjoint(known)}
    assert not unknown
