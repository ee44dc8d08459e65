"""What the README shows is run: its code, its commands, its links."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import anyio
import pytest

from sungrow_lib import InverterSimulator
from sungrow_lib.demo.setup import clean_environment
from tests.living import living_inverter

ROOT: Final = Path(__file__).resolve().parents[2]
README: Final = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}[^\n]*\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.anyio
async def test_the_ten_lines_read_an_inverter(tmp_path: Path) -> None:
    [code] = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1)
    async with InverterSimulator({1: inverter}) as simulator:
        address = 'host="192.168.1.20"'
        assert address in code
        code = code.replace(address, f'host="127.0.0.1", port={simulator.port}')
        done = await anyio.run_process(
            [sys.executable, "-W", "error", "-c", code],
            env=clean_environment() | {"SUNGROW_LOCK_DIR": str(tmp_path)},
        )
    first, second = done.stdout.decode().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d sun \d+ W, house \d+ W", first)
    assert re.fullmatch(r"battery [\d.]+ %, grid -?\d+ W \(\+ is export\)", second)


@pytest.mark.parametrize(
    "line", [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
)
def test_each_command_exists_with_its_options(line: str) -> None:
    """Commands that need a device or end only when told are asked for their help instead."""
    command, *words = line.partition("#")[0].split()
    if command == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert re.search(rf"^{words[0]}:", makefile, re.MULTILINE)
        return
    module = {
        "sungrow": "sungrow_lib.cli",
        "sungrow-edge": "reference_edge",
        "sungrow-server": "reference_server",
    }[command]
    done = subprocess.run(
        [sys.executable, "-m", module, words[0], "--help"], capture_output=True, text=True, check=True
    )
    for option in [word for word in words if word.startswith("--")]:
        assert option in done.stdout, textwrap.shorten(done.stdout, 500)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)[^)]*\)", README))))
def test_each_link_leads_somewhere(target: str) -> None:
    assert target.startswith("https://") or (ROOT / target).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[a-z0-9_]+/)`", README))))
def test_each_promise_names_tests_that_exist(path: str) -> None:
    assert list((ROOT / path).glob("test_*.py"))
