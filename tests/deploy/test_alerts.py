"""Every alert of Prometheus fires on what the programs export when it should, and not before."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped] # it has no types

from reference_edge.account import DeviceAccount
from reference_edge.metrics import EdgeCollector
from reference_edge.survey import Survey
from sungrow_lib.spool import ClockState
from sungrow_lib.upload.status import StatusBoard
from tests.conftest import Need
from tools.docs.service import metrics as server_metrics

RULES: Final = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "sungrow-alerts.yml"
SERVER: Final = {"job": "sungrow-server", "instance": "sungrow.example:443"}
EDGE: Final = {"job": "sungrow-edge", "instance": "127.0.0.1:9105"}
ROOF: Final = {"device_id": "roof"}
STEP_M: Final = 1


@dataclass(frozen=True)
class Story:
    """A metric, minute by minute in promtool's notation, and who raises the alarm when.

    Attributes:
        job: labels of the scrape.
        series: values by metric and labels.
        fires_at: minutes after which the alert is there.
        labels: those the alert carries, without name and severity.
        quiet: values of the same series that alarm nobody.
    """

    job: dict[str, str]
    series: dict[tuple[str, tuple[tuple[str, str], ...]], str]
    fires_at: int
    labels: dict[str, str] = field(default_factory=dict)
    quiet: dict[tuple[str, tuple[tuple[str, str], ...]], str] = field(default_factory=dict)


def of(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(labels.items())


INSERTED: Final = of("sungrow_samples_total", verdict="inserted")
CONFLICTS: Final = of("sungrow_samples_total", verdict="conflict")
FINE: Final = of("sungrow_http_requests_total", method="GET", path="/v1/series", status="200")
FAILED: Final = of("sungrow_http_requests_total", method="GET", path="/v1/series", status="500")
INGEST: Final = {"method": "POST", "path": "/v1/ingest"}
FAST: Final = of("sungrow_http_request_seconds_bucket", **INGEST, le="1.0")
SLOW: Final = of("sungrow_http_request_seconds_bucket", **INGEST, le="5.0")
ALL: Final = of("sungrow_http_request_seconds_bucket", **INGEST, le="+Inf")
LAG: Final = of("sungrow_device_lag_seconds", **ROOF)
PENDING: Final = of("sungrow_edge_oldest_pending_timestamp_seconds", **ROOF)
ALARM: Final = of("sungrow_edge_alarm", code="disk", **ROOF)
DEVICE_UP: Final = of("sungrow_edge_device_up", **ROOF)
AT_SERVER: Final = {"instance": SERVER["instance"]}

STORIES: Final = {
    "SungrowServerUnreachable": Story(SERVER, {of("up"): "0x30"}, 6, SERVER, {of("up"): "1x30"}),
    "SungrowDatabaseDown": Story(
        SERVER, {of("sungrow_database_up"): "0x30"}, 3, SERVER, {of("sungrow_database_up"): "1x30"}
    ),
    "SungrowNothingIngested": Story(
        SERVER,
        {INSERTED: "0+12x1740 20880x200"},
        1820,
        AT_SERVER,
        {INSERTED: "0+12x350 4200x1088 4200+12x330 8160x200"},
    ),
    "SungrowDeviceLost": Story(SERVER, {LAG: "64801+60x10"}, 1, SERVER | ROOF, {LAG: "36000+60x10"}),
    "SungrowReadingsRejected": Story(
        SERVER, {CONFLICTS: "0x5 1x30"}, 10, AT_SERVER | {"verdict": "conflict"}, {CONFLICTS: "7x35"}
    ),
    "SungrowServerFails": Story(
        SERVER,
        {FINE: "0+90x40", FAILED: "0+10x40"},
        25,
        AT_SERVER,
        {FINE: "0+990x40", FAILED: "0+10x40"},
    ),
    "SungrowServerSlow": Story(
        SERVER,
        {FAST: "0x40", SLOW: "0+60x40", ALL: "0+60x40"},
        30,
        AT_SERVER,
        {FAST: "0+60x40", SLOW: "0+60x40", ALL: "0+60x40"},
    ),
    "SungrowRollupsBehind": Story(
        SERVER, {of("sungrow_rollup_marks"): "20001x40"}, 31, SERVER, {of("sungrow_rollup_marks"): "900x40"}
    ),
    "SungrowEdgeDown": Story(EDGE, {of("up"): "0x30"}, 6, EDGE, {of("up"): "1x30"}),
    "SungrowInverterSilent": Story(
        EDGE,
        {DEVICE_UP: "1x1740 0x200"},
        1820,
        EDGE | ROOF,
        {DEVICE_UP: "1x350 0x1088 1x330 0x200"},
    ),
    "SungrowUploadStuck": Story(EDGE, {PENDING: "0x120"}, 77, EDGE | ROOF, {PENDING: "0+60x120"}),
    "SungrowEdgeDiskFull": Story(
        EDGE,
        {of("sungrow_edge_disk_free_bytes"): "1e8x20"},
        11,
        EDGE,
        {of("sungrow_edge_disk_free_bytes"): "1e9x20"},
    ),
    "SungrowEdgeAlarm": Story(EDGE, {ALARM: "1x20"}, 6, EDGE | ROOF | {"code": "disk"}, {ALARM: "1x2 stale"}),
    "SungrowEdgeClock": Story(
        EDGE,
        {of("sungrow_edge_clock_trusted"): "0x80"},
        61,
        EDGE,
        {of("sungrow_edge_clock_trusted"): "0x30 1x50"},
    ),
}
MORE_STORIES: Final = [
    ("SungrowNothingIngested", Story(SERVER, {INSERTED: "100x90"}, 75, AT_SERVER, {INSERTED: "100+12x90"})),
    ("SungrowNothingIngested", Story(SERVER, {INSERTED: "9x1600"}, 1590, AT_SERVER, {INSERTED: "9+1x1600"})),
    ("SungrowInverterSilent", Story(EDGE, {DEVICE_UP: "0x90"}, 75, EDGE | ROOF, {DEVICE_UP: "0x45 1x45"})),
    (
        "SungrowInverterSilent",
        Story(EDGE, {DEVICE_UP: "1x60 0x1600"}, 1590, EDGE | ROOF, {DEVICE_UP: "1x60 0x900 1x700"}),
    ),
]
"""From the first day on, and still on the second day of silence."""


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_every_alert_has_its_story() -> None:
    assert rules().keys() == STORIES.keys()


def unit_test(name: str, story: Story, series: dict[Any, str], *expected: dict[str, Any]) -> dict[str, Any]:
    return {
        "interval": f"{STEP_M}m",
        "input_series": [
            {"series": metric + json_labels(story.job | dict(labels)), "values": values}
            for (metric, labels), values in series.items()
        ],
        "alert_rule_test": [
            {"eval_time": f"{story.fires_at}m", "alertname": name, "exp_alerts": list(expected)}
        ],
    }


def json_labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}"


def filled_in(text: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels.get(found[1], ""), text)


@pytest.mark.parametrize(("name", "story"), [*STORIES.items(), *MORE_STORIES])
def test_an_alert_is_raised_when_it_should_be_and_not_else(
    name: str, story: Story, need: Need, tmp_path: Path
) -> None:
    promtool = need("promtool", purpose="checks the alert rules of Prometheus")
    rule = rules()[name]
    annotations = {key: filled_in(text, story.labels) for key, text in rule["annotations"].items()}
    raised = {"exp_labels": rule["labels"] | story.labels, "exp_annotations": annotations}
    assert not [text for text in annotations.values() if "  " in text], "a label that is not there"
    alone = tmp_path / "rule.yml"  # the others would be told the whole story, too
    alone.write_text(json.dumps({"groups": [{"name": "alone", "rules": [rule]}]}))  # JSON is YAML
    trial = {
        "rule_files": [str(alone)],
        "evaluation_interval": f"{STEP_M}m",
        "tests": [
            unit_test(name, story, story.series, raised),
            unit_test(name, story, story.quiet),
        ],
    }
    file = tmp_path / "alerts.test.yml"
    file.write_text(json.dumps(trial))
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def exported(folder: Path) -> dict[str, tuple[str, ...]]:
    """Names and labels of everything server and edge show."""
    found = {name: labels for name, _, labels, _ in server_metrics()}
    for name in [name for name, kind, _, _ in server_metrics() if kind == "histogram"]:
        found[f"{name}_bucket"] = (*found[name], "le")
    survey = Survey(folder)
    survey.disk_free_bytes = 1
    survey.clock = ClockState(
        is_trusted=True, offset_s=None, is_vouched=True, server_serves=False, behind_s={}
    )
    collector = EdgeCollector(
        {"roof": DeviceAccount("roof", "192.168.1.20:502")}, {}, survey, StatusBoard().snapshot, lambda: 0
    )
    return found | {family.name: family.labels for family in collector.collect()}


def test_the_stories_are_told_in_the_names_the_programs_export(tmp_path: Path) -> None:
    known = exported(tmp_path)
    for name, story in STORIES.items():
        for metric, labels in {**story.series, **story.quiet}:
            if metric != "up":  # Prometheus makes that itself
                assert set(known[metric]) == {label for label, _ in labels}, name
    expressions = " ".join(rule["expr"] for rule in rules().values())
    used = set(re.findall(r"\bsungrow_[a-z_]+", expressions))
    assert used == {metric for story in STORIES.values() for metric, _ in story.series if metric != "up"}
