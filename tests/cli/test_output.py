"""Output that nobody takes: a full disk is told in one line, a reader that has seen enough is no failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.patience import PATIENCE_S

_FULL: Final = Path("/dev/full")
_CAPTURE: Final = {"model": "SH10RT", "firmware": "", "connection": "", "function": 4, "unit_id": 1}


@pytest.fixture(params=["sungrow", "sungrow-server"])
def command(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """A command that prints some, and one that prints more than any pipe holds."""
    if request.param == "sungrow-server":
        return [sys.executable, "-m", "reference_server", "openapi"]
    file = tmp_path / "capture.json"
    file.write_text(json.dumps(_CAPTURE | {"registers": {"5000": 3599, "13022": 184}}))
    return [sys.executable, "-m", "sungrow_lib.cli", "decode", "--json", str(file)]


@pytest.mark.skipif(not _FULL.exists(), reason="this system has no disk that is always full")
def test_a_full_disk_is_told_in_one_line(command: list[str]) -> None:
    with _FULL.open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False
        )
    assert done.returncode == 1, done.stderr
    [line] = done.stderr.splitlines()
    assert line.endswith(": the output cannot be written: No space left on device")


def test_a_reader_that_is_gone_is_no_failure(command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            command, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
