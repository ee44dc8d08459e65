"""What a run says of the tests it could not run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_TESTS = """
import pytest

@pytest.mark.parametrize("folder", ["facts", "captures"])
def test_that_needs(beside, folder):
    assert (beside(folder) / "README.md").read_text() == folder
"""


def run(repository: Path, *, require_all: bool) -> str:
    tests = repository / "tests"
    tests.mkdir(parents=True)
    for name in ("conftest.py", "memory.py"):
        shutil.copy(Path(__file__).with_name(name), tests)
    (tests / "test_it.py").write_text(_TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "tests"],
        cwd=repository,
        env={**os.environ, "SUNGROW_REQUIRE_ALL": "1" if require_all else "0", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("require_all", [False, True])
def test_collected_facts_that_are_not_at_hand_are_named_and_no_failure(
    tmp_path: Path, *, require_all: bool
) -> None:
    told = run(tmp_path / "around" / "repository", require_all=require_all)
    assert "2 skipped" in told
    last = told[told.index("left out, because it is not on this machine:") :]
    assert "../shared/captures: " in last
    assert "../shared/facts: " in last


@pytest.mark.parametrize("at", [".", ".."])
def test_collected_facts_that_are_at_hand_are_used(tmp_path: Path, at: str) -> None:
    repository = tmp_path / "around" / "repository"
    for folder in ("facts", "captures"):
        shared = repository.parent / at / "shared" / folder
        shared.mkdir(parents=True)
        (shared / "README.md").write_text(folder)
    told = run(repository, require_all=True)
    assert "2 passed" in told
    assert "shared" not in told
