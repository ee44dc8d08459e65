"""A fresh clone and Python are enough; where they are not, one clear line says why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
BOOTSTRAP: Final = ROOT / "tools" / "bootstrap.py"


def bootstrap(pretend: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up on a Python that is not quite as it is."""
    code = (
        f"import importlib.util, runpy, sys; {pretend}; sys.argv = ['bootstrap.py', 'dev']; "
        f"runpy.run_path({str(BOOTSTRAP)!r}, run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_python_that_is_too_old_is_one_clear_line() -> None:
    answer = bootstrap("sys.version_info = (3, 9, 2, 'final', 0)")
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1
    assert "Python 3.11 or newer is needed" in answer.stderr
    assert "make PYTHON=" in answer.stderr


def test_a_python_without_ensurepip_is_one_clear_line() -> None:
    answer = bootstrap("importlib.util.find_spec = lambda name: None if name == 'ensurepip' else name")
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1
    assert "apt install python3-venv" in answer.stderr


def test_help_lists_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "lint", "format", "bench", "lock", "clean"):
        assert f"make {target}\t" in shown


def test_of_the_users_python_set_up_nothing_leaks_in() -> None:
    """Without bytecode each of the hundreds of processes that the tests start would compile its sources."""
    theirs = dict.fromkeys(("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"), "1")
    done = subprocess.run(
        ["make", "-f", "Makefile", "-f", "-", "seen"],
        cwd=ROOT,
        env=os.environ | theirs,
        input="seen: ; @env\n",
        capture_output=True,
        text=True,
        check=True,
    )
    seen = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    assert seen["PYTHONNOUSERSITE"] == "1"
    assert not theirs.keys() & seen.keys()


@pytest.mark.slow
@pytest.mark.timeout(1200)  # downloads
def test_a_fresh_clone_sets_itself_up_and_writes_nowhere_else(tmp_path: Path) -> None:
    clone, home = tmp_path / "a fresh clone", tmp_path / "home"
    home.mkdir()
    clone.mkdir()
    made = shutil.ignore_patterns("__pycache__", "node_modules", "web", ".built")
    for name in ("Makefile", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    for name in (
        "tools",
        "requirements",
        "sungrow_lib",
        "reference_edge",
        "reference_server",
        "db",
        "dashboard",
    ):
        shutil.copytree(ROOT / name, clone / name, ignore=made)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PIP_COMPILE": "0"}  # as little is started
    command = ["make", "environment-demo", f"PYTHON={sys.executable}"]
    first = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "Making an environment" in first.stdout
    again = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=True)
    assert again.stdout == ""  # nothing changed, nothing done
    started = subprocess.run(
        [clone / ".venv/bin/python", "-c", "import sungrow_lib; print(sungrow_lib.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(started.stdout.strip()).is_relative_to(clone)
    assert not list(home.rglob("*pip*"))
    assert not list(home.rglob("*npm*"))
    assert (clone / "reference_server" / "web" / "index.html").is_file()
    with (clone / "dashboard" / "src" / "index.html").open("a") as page:
        page.write("<!-- changed -->")
    changed = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=True)
    assert "Building the web page" in changed.stdout
    assert "Installing" not in changed.stdout
    with (clone / "requirements" / "demo.lock").open("a") as lock:
        lock.write("# changed\n")
    changed = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=True)
    assert "Installing" in changed.stdout
