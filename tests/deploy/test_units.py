"""The systemd units: nothing systemd would complain of, little that the services may do."""

from __future__ import annotations

import configparser
import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from reference_edge.config import EdgeSettings
from reference_server.config import ServerSettings
from tests.conftest import Need

SYSTEMD: Final = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
UNITS: Final = sorted(SYSTEMD.glob("*.service"))
MOST_EXPOSURE: Final = 20
"""Of 100, as systemd counts; most services of a distribution have 90 and more."""


@pytest.fixture(params=UNITS, ids=lambda path: path.stem)
def unit(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def analyze(need: Need) -> Path:
    return need("systemd-analyze", purpose="the checks of the units (Debian: systemd)")


def service(unit: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(unit)
    return dict(parser["Service"])


def test_systemd_understands_every_line(unit: Path, analyze: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    for program in ("sungrow-edge", "sungrow-server"):  # systemd wants to find what it is to start
        stand_in = tmp_path / program
        stand_in.write_text("#!/bin/sh\n")
        stand_in.chmod(0o755)
        text = text.replace(f"/opt/{program}/bin/{program}", str(stand_in))
    copy = tmp_path / unit.name
    copy.write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", copy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_service_may_do_little(unit: Path, analyze: Path) -> None:
    done = subprocess.run(
        [analyze, "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", unit],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SYSTEMD_PAGER": "cat"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_service_is_watched_and_comes_back(unit: Path) -> None:
    settings = service(unit)
    assert settings["Type"] == "notify"
    assert int(settings["WatchdogSec"]) > 0
    assert settings["Restart"] == "always"
    assert "StartLimitIntervalSec=0" in unit.read_text()  # however often it fails
    assert settings["ProtectSystem"] == "strict"
    assert settings["PrivateTmp"] == "yes"
    assert settings["StateDirectory"] == unit.stem


def test_the_edges_health_is_kept_off_the_card() -> None:
    folder = service(SYSTEMD / "sungrow-edge.service")["RuntimeDirectory"]
    installer = (SYSTEMD.parent / "install-edge.sh").read_text()
    assert f"health=$root/run/{folder}\n" in installer
    assert r'echo "health_file = \"$health/' in installer


def test_the_variables_in_the_units_are_settings(unit: Path) -> None:
    known = {name.upper() for kind in (EdgeSettings, ServerSettings) for name in kind.model_fields}
    lines = [line for line in unit.read_text().splitlines() if line.startswith("Environment=")]
    assert all(line.split("=")[1] in known for line in lines)
