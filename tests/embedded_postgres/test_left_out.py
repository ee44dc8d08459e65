"""What a run could not test is said in its last lines, and is a failure where everything is required."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]

TESTS: Final = """
def test_with_a_tool(need):
    assert need("no-such-tool", "sh", purpose="shells").name == "sh"

def test_without_a_tool(need):
    need("no-such-tool", purpose="things only it can do")
"""


def run(folder: Path, require_all: str, *options: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_tools.py").write_text(TESTS)
    always = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *always, *options, str(folder)],
        cwd=ROOT,
        env={**os.environ, "SUNGROW_REQUIRE_ALL": require_all},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_a_missing_tool_is_skipped_and_named_at_the_very_end(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    answer = run(tmp_path, "", *options)
    assert answer.returncode == 0
    *_, summary, heading, tool = answer.stdout.splitlines()
    assert "1 passed, 1 skipped" in summary
    assert heading.startswith("left out")
    assert tool == "  no-such-tool: things only it can do"


def test_a_missing_tool_is_a_failure_where_everything_is_required(tmp_path: Path) -> None:
    answer = run(tmp_path, "1")
    assert answer.returncode == 1
    assert "1 failed, 1 passed" in answer.stdout
    assert "no-such-tool is not installed: things only it can do" in answer.stdout
