"""The notebooks run on a modelled house, draw, say what is so, and are stored without output."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from typing import Any, Final

import pytest
from PIL import Image

from tools.modelled_server import modelled_server
from tools.render_notebooks import NOTEBOOKS, run_all

NAMES: Final = ("battery", "first-look", "quality", "strings", "without-server", "year")
DAYS: Final = 15
"""Past of the house here; the site draws a year."""


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Name -> the cells of each notebook after its run."""
    with modelled_server(days=DAYS) as server:
        paths = run_all(tmp_path_factory.mktemp("executed"), server.environment)
    return {path.stem: json.loads(path.read_text())["cells"] for path in paths}


def outputs(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [output for cell in cells for output in cell.get("outputs", [])]


def text(cells: list[dict[str, Any]]) -> str:
    return "".join("".join(output.get("text", "")) for output in outputs(cells))


def test_these_are_the_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(NAMES)


def test_notebooks_are_stored_without_output() -> None:
    paths = [str(NOTEBOOKS / f"{name}.ipynb") for name in NAMES]
    command = [sys.executable, "-m", "nbstripout", "--verify", *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run nbstripout on them: {done.stdout}"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_draws_without_a_warning(
    executed: dict[str, list[dict[str, Any]]], name: str
) -> None:
    shown = outputs(executed[name])
    assert not [output for output in shown if output.get("name") == "stderr"]
    pictures = [output["data"]["image/png"] for output in shown if "image/png" in output.get("data", {})]
    assert pictures
    for picture in pictures:  # on a dark page nothing shines
        assert Image.open(BytesIO(b64decode(picture))).convert("RGBA").getchannel("A").getpixel((0, 0)) == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_is_known_of_the_house_is_found(executed: dict[str, list[dict[str, Any]]]) -> None:
    """The model's battery, the chimney, the gap and the contradictions are in the data on purpose."""
    found = re.search(r"over \d+ days: ([\d.]+)% ± ([\d.]+)%", text(executed["battery"]))
    assert found is not None
    assert 85 < float(found[1]) < 100
    assert re.search(
        r"tracker 1: no step\ntracker 2: shaded from 16\.00 to 18\.00 h", text(executed["strings"])
    )
    assert "1967 of 2016 readings expected" in text(executed["quality"])
    tables = "".join(
        "".join(output.get("data", {}).get("text/plain", "")) for output in outputs(executed["quality"])
    )
    assert "0 days 04:05:00" in tables
    assert re.search(r"conflict +load_power_w +6", tables)
