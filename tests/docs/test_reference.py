"""The generated pages name everything there is: settings, fields, registers, models, commands, errors."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

import sungrow_lib
from reference_edge.config import DeviceSettings, EdgeSettings
from reference_server import explanations
from reference_server.config import ServerSettings
from reference_server.docstrings import split
from reference_server.operations import OPERATIONS
from reference_server.problems import TITLES
from sungrow_lib.cli.command import COMMANDS
from sungrow_lib.quantities import QUANTITIES, Family
from sungrow_lib.registers.devices import DEVICE_TYPES
from sungrow_lib.registers.map import RegisterMap
from tools.docs import commands, configuration, data_model, disk_space, performance, registers, service
from tools.docs.__main__ import PAGES, write

ROOT: Final = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    write(folder / "pages", folder / "data")
    return folder


def page(written: Path, name: str) -> str:
    return (written / "pages" / name).read_text()


def rows(text: str) -> set[str]:
    """First cells of all tables."""
    return set(re.findall(r"^\| `?([^`|]+?)`? \|", text, re.MULTILINE))


@pytest.mark.parametrize("kind", [EdgeSettings, DeviceSettings, ServerSettings])
def test_every_setting_is_explained(kind: type[EdgeSettings | DeviceSettings | ServerSettings]) -> None:
    unexplained = kind.model_fields.keys() - split(kind.__doc__)[1].keys() - configuration.SINGLE.keys()
    assert not unexplained, f"say in the docstring of {kind.__name__} what they are"


def test_configuration_lists_every_variable(written: Path) -> None:
    edge, _, server = page(written, "configuration.md").partition("## Server")
    assert {name.upper() for name in EdgeSettings.model_fields} <= rows(edge)
    assert {name.upper() for name in ServerSettings.model_fields} <= rows(server)
    assert set(configuration.SINGLE.values()) == set(DeviceSettings.model_fields)


def test_configuration_tells_types_defaults_and_rules(written: Path) -> None:
    text = page(written, "configuration.md")
    assert re.search(r"^\| `DATABASE_URL` \| [^|]+ \| secret text \| required \|", text, re.MULTILINE)
    assert re.search(
        r"^\| `BATCH_SIZE` \| [^|]+ \| whole number \| `500` \| at least 1; at most 10,000 \|",
        text,
        re.MULTILINE,
    )
    assert re.search(
        r"^\| `POLL_INTERVAL_S` \| [^|]+ \| `poll_interval_s` \| number \| `5` \| at least 5; ",
        text,
        re.MULTILINE,
    )


def test_every_field_is_listed_with_its_sources(written: Path) -> None:
    fields, _, sources = page(written, "fields.md").partition("## Where each field")
    names = {quantity.name for quantity in QUANTITIES}
    assert names <= rows(fields)
    assert names <= rows(sources)
    assert not data_model.unknown_sources()


@pytest.mark.parametrize("family", Family)
def test_every_register_is_in_its_table(written: Path, family: Family) -> None:
    shown = json.loads((written / "data" / f"registers-{family.value}.json").read_text())
    assert [row["name"] for row in shown] == [register.name for register in RegisterMap.for_family(family)]
    assert f"registers-{family.value}.json" in page(written, f"registers/{family.value}.mdx")


def test_a_register_is_described_in_full() -> None:
    tables = {name: json.loads(text) for name, text in registers.data()}
    row = next(row for row in tables["registers-sh.json"] if row["name"] == "battery_soc")
    assert (row["number"], row["space"], row["type"], row["scale"], row["unit"]) == (
        "13023",
        "in",
        "U16",
        "0.1",
        "%",
    )


def test_every_model_is_listed(written: Path) -> None:
    assert {device.model for device in DEVICE_TYPES} <= rows(page(written, "models.md"))


def test_every_command_has_a_heading_and_its_help(written: Path) -> None:
    for program in commands.PROGRAMS:
        text = page(written, f"commands/{program}.md")
        for words in commands.commands(program)[1:]:
            assert f"\n## {' '.join(words)}\n" in text
            assert f"usage: {' '.join(words)} " in text
    assert {words[1] for words in commands.commands("sungrow")[1:]} == set(COMMANDS)
    assert ("sungrow-server", "token", "create") in commands.commands("sungrow-server")


def test_every_error_and_operation_is_listed(written: Path) -> None:
    text = page(written, "http.md")
    assert set(service.WHAT_TO_DO) == set(TITLES)
    assert {str(status) for status in TITLES} <= rows(text)
    assert {f"{op.method} {op.path}" for op in OPERATIONS} <= rows(text)


def test_every_metric_is_listed(written: Path) -> None:
    names = {name for name, *_ in service.metrics()}
    assert {"sungrow_samples_total", "sungrow_http_requests_total"} <= names
    assert {"sungrow_device_lag_seconds", "sungrow_rollup_marks", "sungrow_database_up"} <= names
    server, _, edge = page(written, "metrics.md").partition("## Of the edge")
    assert names <= rows(server)
    source = (ROOT / "reference_edge" / "metrics.py").read_text()
    named = set(re.findall(r'"(sungrow_edge_\w+)"', source))
    assert len(named) > 10
    assert named <= rows(edge)


def test_every_public_name_is_in_the_python_reference() -> None:
    pages = "\n".join(path.read_text() for path in (ROOT / "website" / "python").glob("*.rst"))
    named = re.findall(r"^\.\. auto\w+:: (\w+)$", pages, re.MULTILINE)
    assert sorted(named) == sorted(set(sungrow_lib.__all__) - {"__version__"})


def test_every_figure_measured_has_its_place_on_the_performance_page(written: Path) -> None:
    results = [json.loads(path.read_text()) for path in sorted(performance.RESULTS.glob("*.json"))]
    assert sorted(performance.places()) == [result["suite"] for result in results]
    text = page(written, "performance.md")
    assert "<!--" not in text
    for result in results:
        assert {figure["what"] for figure in result["figures"]} <= rows(text)


def test_what_a_fleet_costs_is_told_as_it_was_measured(written: Path) -> None:
    sizing = (ROOT / "docs" / "sizing.md").read_text()
    for engine in disk_space.ENGINES:
        shown = disk_space.costs(engine)
        assert {"1", "10", "100", "500", "5,000", "250,000"} <= rows(shown)
        assert shown in page(written, "disk-space.md")
        assert shown in sizing, f"copy into docs/sizing.md what was measured on {engine}"


def test_a_fleet_costs_raw_readings_for_a_while_and_rollups_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {
        "reading in TimescaleDB with its index / as JSON": 300,
        "reading in TimescaleDB, compressed / as JSON": 20,
        "row of rollup_15m in TimescaleDB / of its readings, compressed": 1_000,
        "row of rollup_15m in PostgreSQL / of its readings": 1,
        "row of rollup_day in TimescaleDB / of its readings, compressed": 2_000,
        "day of samples_hourly in TimescaleDB / of its readings, compressed": 2_000,
    }
    figures = [{"what": f"bytes of a {what}", "ours": size} for what, size in sizes.items()]
    measured = tmp_path / "storage.json"
    measured.write_text(json.dumps({"figures": figures}))
    monkeypatch.setattr(disk_space, "MEASURED", measured)
    raw = (3 * 300 + 397 * 20) * 17_280
    kept = 3650 * 100_000
    told = f"| 1 | 5.18 MB | 346 kB | 100 kB | {raw / 1e6:.0f} MB | {kept / 1e6:.0f} MB | "
    assert f"{told}{(raw + kept) / 1e6:.0f} MB |" in disk_space.costs("TimescaleDB")


def test_the_memory_of_a_draining_edge_is_said_as_it_was_measured() -> None:
    result = json.loads((performance.RESULTS / "footprint.json").read_text())
    measured = {figure["what"]: figure["ours"] for figure in result["figures"]}
    most = measured["a month of backlog, memory at most / at its start"]
    text = " ".join((ROOT / "docs" / "performance.md").read_text().split())
    assert f"as a month of both inverters drains it takes up to {most:.1f} MB" in text
    assert measured["a month of backlog, memory 135 s after it / at its start"] < 50


@pytest.mark.parametrize(
    ("goal", "ours", "unit", "mark"),
    [
        ("<= 1.5", 9, "us", ""),
        ("<= 1.25", 9, "us", "missed"),
        ("<= 1.6 (14 kB)", 99, "kB", ""),
        ("<= 2 s", 1_900_000, "us", ""),
        ("<= 2 s", 2_100_000, "us", "missed"),
        ("<= 200 B", 274, "", "missed"),
        ("<= 1 %", 0.34, "%", ""),
    ],
)
def test_a_missed_goal_is_marked(
    goal: str, ours: float, unit: str, mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = {"what": "it", "ours": ours, "other": 6, "ratio": 1.5, "unit": unit, "goal": goal}
    (tmp_path / "one.json").write_text(json.dumps({"suite": "one", "figures": [figure]}))
    monkeypatch.setattr(performance, "RESULTS", tmp_path)
    assert "".join(re.findall("missed", performance.figures("one"))) == mark


def test_the_landing_page_draws_what_the_library_reads(written: Path) -> None:
    day = json.loads((written / "data" / "facts.json").read_text())["day"]
    assert max(pv for pv, *_ in day) > 1000
    assert day[0][0] == 0


def test_nothing_generated_is_committed() -> None:
    listed = ["git", "ls-files", str(PAGES), "docs/api", "website/generated", "website/build"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_every_operation_shows_what_is_sent_and_answered() -> None:
    for op in OPERATIONS:
        assert op.name in explanations.OPERATIONS, "say what a caller has to know"
        assert op.body is None or op.body_example is not None, op.name
        assert op.example is not None or op.name == "get_openapi", "it is an example of itself"
        op.query.model_validate(op.query_example)  # tests/server/test_contract.py sends it
        names = {field.alias or name for name, field in op.query.model_fields.items()}
        assert op.query_example.keys() <= names, op.name
        assert bool(op.query_example) == bool(names), f"show a request of {op.name}"


def test_the_site_shows_no_bound_that_a_browser_would_round() -> None:
    assert "9223372036854775807" not in service.openapi()
    batch = json.loads(service.openapi())["components"]["schemas"]["IngestRequest"]
    assert batch["properties"]["seq"]["items"] == {"type": "integer", "minimum": 0}


def test_the_openapi_document_explains_every_parameter() -> None:
    document = json.loads(service.openapi())
    for methods in document["paths"].values():
        for operation in methods.values():
            assert all(parameter["description"] for parameter in operation.get("parameters", ()))
    series = document["paths"]["/v1/series"]["get"]["parameters"]
    [bucket] = [parameter["schema"] for parameter in series if parameter["name"] == "bucket"]
    assert bucket["enum"] == ["raw", "5m", "15m", "1h", "1d", "1M"]
    assert "day" in document["components"]["schemas"]["Series"]["properties"]["frame"]["enum"]
    batch = document["components"]["schemas"]["IngestRequest"]
    assert batch["example"]["samples"][0]["pv_power_w"] > 0, "what the page shows first"
    assert "Attributes" not in json.dumps(document)
    assert batch["properties"]["batch_id"]["description"]
