"""`sungrow decode` as a user runs it: a process, its output, its exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from sungrow_lib.quantities import Family
from sungrow_lib.registers.devices import DEVICE_TYPES
from sungrow_lib.sample import SungrowSample
from tests.patience import PATIENCE_S

BATTERY_CODE: Final = next(row.code for row in DEVICE_TYPES if row.family is Family.BATTERY)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sungrow_lib.cli", "decode", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def answer(*arguments: str | Path) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def write(path: Path, **changes: Any) -> Path:
    document = {"function": 4, "unit_id": 1, **changes}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture
def hybrid(tmp_path: Path) -> Path:
    return write(
        tmp_path / "hybrid.json",
        connection="internal LAN port",
        registers={
            "5000": 3587,
            "5015": 0xFFFF,
            "13001": 0x2B,
            "13010": 65134,
            "13011": 65535,
            "13022": 7977,
        },
    )


def test_json_has_device_registers_and_sample(hybrid: Path) -> None:
    decoded = answer(hybrid)
    assert decoded.keys() == {"device", "registers", "sample"}
    assert decoded["device"]["model"] == "SH10RT"
    assert decoded["device"]["type_code"] == "0x0E03"
    assert decoded["device"]["path"] == "LAN"
    assert decoded["registers"] == {
        "device_type_code": "SH10RT",
        "mppt_3_voltage": None,
        "power_flow_status": ["PV producing", "battery charging", "load consuming", "importing"],
        "export_power": -402,
        "battery_power": 7977,
    }


def test_the_sample_has_every_field_with_null_for_what_is_missing(hybrid: Path) -> None:
    sample = answer(hybrid)["sample"]
    assert list(sample) == list(SungrowSample.model_fields)
    told = {name: value for name, value in sample.items() if value is not None}
    assert told == {"battery_power_w": 7977, "export_power_w": -402, "sample_count": 1}


def test_the_sample_takes_time_and_device_from_the_capture(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.json",
        model="SH10RT",
        ts="2026-01-31T11:00:00+01:00",
        device_id="house",
        registers={"13022": 0},
    )
    sample = answer(path)["sample"]
    assert (sample["ts"], sample["device_id"]) == ("2026-01-31T10:00:00.000Z", "house")
    assert SungrowSample.model_validate_json(json.dumps(sample)).battery_power_w == 0


def test_values_that_can_hardly_be_true_are_kept_and_marked(tmp_path: Path) -> None:
    registers = {"5000": 3587, "13023": 1234, "13025": 215, "5019": 2301}
    path = write(tmp_path / "strange.json", registers=registers)
    decoded = answer(path)
    assert decoded["implausible"] == ["battery_soc_pct"]
    assert decoded["sample"]["battery_soc_pct"] == 123.4
    marked = [line for line in run(path).stdout.splitlines() if "(implausible)" in line]
    assert [line.split() for line in marked] == [["battery_soc_pct", "123.4", "%", "(implausible)"]]


def test_captures_of_both_spaces_merge(hybrid: Path, tmp_path: Path) -> None:
    holding = write(tmp_path / "holding.json", function=3, registers={"5000": 2024, "13050": 2})
    registers = answer(hybrid, holding)["registers"]
    assert registers["device_type_code"] == "SH10RT"
    assert registers["clock_year"] == 2024
    assert registers["ems_mode"] == "forced/compulsory"


def test_a_hybrids_capture_may_hold_its_battery_too(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", model="SH10RT", registers={"10744": 873, "13023": 880})
    assert answer(path)["registers"] == {"battery_unit_soc": 87.3, "battery_soc": 88.0}


def test_the_family_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", registers={"5004": 204, "5005": 0, "8163": 500, "10744": 873})
    assert answer("--family", "sg", path)["registers"] == {"total_power_yields": 204}
    assert answer("--family", "sh", path)["registers"]["total_output_energy"] == 20.4
    assert answer("--family", "battery", path)["registers"] == {"battery_unit_soc": 87.3}
    assert answer("--family", "ihm", path)["registers"] == {"battery_soc": 50.0}


@pytest.mark.parametrize(
    ("family", "changes", "model", "of"),
    [
        ("sg", {"registers": {"5000": 3602}}, "SH8.0RT-20", "sh"),
        ("battery", {"registers": {"5000": 3602, "10744": 873}}, "SH8.0RT-20", "sh"),
        ("ihm", {"registers": {"5000": 3602}}, "SH8.0RT-20", "sh"),
        ("sh", {"registers": {"8000": 0x072A}}, "iHomeManager", "ihm"),
        ("sh", {"model": "SG10RT", "registers": {"5004": 204}}, "SG10RT", "sg"),
        ("sh", {"model": "SG10RT", "registers": {"5000": 1}}, "SG10RT", "sg"),
    ],
)
def test_a_family_that_the_capture_rules_out_is_refused(
    tmp_path: Path, family: str, changes: dict[str, Any], model: str, of: str
) -> None:
    done = run("--family", family, write(tmp_path / "c.json", **changes))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"says that {model} is of family {of}, not {family}; leave --family {family} out" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("sg", {"registers": {"5000": 1}}),
        ("sg", {"model": "prototype", "registers": {"5000": 1}}),
        ("sh", {"model": "SG10RT", "registers": {"5000": 3602}}),
        ("battery", {"model": "SH10RT", "registers": {"5000": 3602, "10710": BATTERY_CODE}}),
        ("sg", {"model": "SG10RT", "registers": {"5000": BATTERY_CODE}}),
    ],
)
def test_a_family_that_nothing_rules_out_can_be_named(
    tmp_path: Path, family: str, changes: dict[str, Any]
) -> None:
    path = write(tmp_path / "c.json", **changes)
    assert answer("--family", family, path)["device"]["family"] == family


def test_the_family_follows_from_the_model_where_the_type_code_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", function=3, model="SG3.0RS", registers={"5000": 3587})
    decoded = answer(path)
    assert decoded["device"]["family"] == "sg"
    assert decoded["registers"] == {"clock_year": 3587}


@pytest.mark.parametrize("registers", [{"13022": 184}, {"5000": 1, "13022": 184}, {}])
def test_without_type_code_and_model_the_family_is_asked_for(
    tmp_path: Path, registers: dict[str, int]
) -> None:
    done = run(write(tmp_path / "c.json", registers=registers))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "--family sh|sg|battery|ihm" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_table_says_yes_and_no_to_people(hybrid: Path) -> None:
    assert re.search(r"^  takes_battery +yes$", run(hybrid).stdout, re.MULTILINE)


def test_the_table_shows_units_and_leaves_gaps_open(hybrid: Path) -> None:
    done = run(hybrid)
    assert done.returncode == 0
    assert "mppt_3_voltage     -" in done.stdout
    assert "export_power       -402 W" in done.stdout
    assert "battery_power_w  7977 W" in done.stdout
    assert "PV producing, battery charging" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: FILE"),
        (["none.json"], "none.json: cannot be read: No such file"),
        (["--family", "xy", "none.json"], "invalid choice: 'xy' (choose from 'auto', 'sh'"),
    ],
)
def test_wrong_use_is_one_clear_line(arguments: list[str], complaint: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_captures_of_different_units_are_refused(hybrid: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.json", unit_id=2, registers={})
    done = run(hybrid, other)
    assert done.returncode == 2
    assert "different units (1, 2)" in done.stderr


def test_a_capture_that_contradicts_anothers_type_code_is_refused(hybrid: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.json", function=3, model="SH15T", registers={"13050": 2})
    done = run(hybrid, other)
    assert (done.returncode, done.stdout) == (2, "")
    assert "different models (SH10RT, SH15T)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_damaged_file_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('{"function": 4, "registers": {"5000": true}}', encoding="utf-8")
    done = run(path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"sungrow: {path}: register 5000 holds true, which is no word (0 to 65535)\n"


def test_help_teaches() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("examples:", "families:", "exit status:", "battery + charging"):
        assert word in done.stdout


def test_a_terminal_that_cannot_show_every_character_still_shows_the_values(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", model="SH10RT", registers={"13025": 210})
    command = [sys.executable, "-m", "sungrow_lib.cli", "decode", str(path)]
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=plain)
    assert (done.returncode, done.stderr) == (0, "")
    assert "battery_temperature  21.0 ?C" in done.stdout


def test_a_reader_that_goes_away_is_no_error(hybrid: Path) -> None:
    command = f'"{sys.executable}" -m sungrow_lib.cli decode --json "{hybrid}" | head -c 1'
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.stdout, done.stderr) == ("{", "")
