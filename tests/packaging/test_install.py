"""The wheel installs into an empty environment with each extra, and what is installed then works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
LOCK: Final = ROOT / "requirements" / "dev.lock"

WORKING: Final = {
    "": "import sungrow_lib; [getattr(sungrow_lib, name) for name in sungrow_lib.__all__]",
    "edge": "import reference_edge.app, reference_edge.metrics",
    "server": "import reference_server.app, reference_server.resources as r; r.web_folder()",
    "demo": "import sungrow_lib.demo.run, trustme, reference_edge.app, reference_server.app",
    "notebooks": "import ipykernel, matplotlib.pyplot, nbclient, pandas, pyarrow, sungrow_lib",
    "docs": "import furo, sphinx.application, sphinxcontrib.pydantic, sungrow_lib",
}
"""Extra -> what a program can do with it."""
WORKS: Final = {
    "": {"sungrow", "sungrow-edge"},
    "edge": {"sungrow", "sungrow-edge"},
    "server": {"sungrow", "sungrow-edge", "sungrow-server"},  # it has all that an edge needs
    "demo": {"sungrow", "sungrow-edge", "sungrow-server"},
}
"""Extra -> the commands that work with it; the others say what to install."""


class Environment:
    """An empty environment; packages come from the registry, as the lock file pins them."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder = folder
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "UV_CACHE_DIR": str(cache),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_SYSTEM_CERTS": "1",  # the machine's own authorities, as pip uses them
        } | {name: value for name, value in os.environ.items() if name.startswith(("UV_", "SSL_"))}
        self.uv("venv", "--python", sys.executable, str(folder))

    def uv(self, *words: str) -> str:
        command = [sys.executable, "-m", "uv", "--quiet", *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, *what: str) -> None:
        python = str(self._folder / "bin" / "python")
        self.uv("pip", "install", "--python", python, "--constraints", str(LOCK), *what)
        self.uv("pip", "check", "--python", python)

    def run(self, command: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._folder / "bin" / command, *words],
            cwd=self._folder,
            env={"PATH": "", "HOME": str(self._folder)},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uv")


@pytest.mark.slow
@pytest.mark.timeout(1200)  # downloads
@pytest.mark.parametrize("extra", WORKING, ids=lambda extra: extra or "bare")
def test_the_wheel_installs_into_an_empty_environment(
    wheel: Path, tmp_path: Path, cache: Path, extra: str
) -> None:
    environment = Environment(tmp_path, cache)
    environment.install(f"{wheel}[{extra}]" if extra else str(wheel))
    done = environment.run("python", "-W", "error", "-c", WORKING[extra])
    assert done.returncode == 0, done.stderr
    for command in ("sungrow", "sungrow-edge", "sungrow-server") if extra in WORKS else ():
        shown = environment.run(command, "--version")
        if command in WORKS[extra]:
            assert (shown.returncode, shown.stderr) == (0, "")
            continue
        assert shown.returncode == 1
        [line] = shown.stderr.splitlines()
        assert line.startswith(f"{command}: the package ")
        assert line.endswith(f" is not installed: pip install 'sungrow-lib[{command.partition('-')[2]}]'")


@pytest.mark.parametrize("extra", ["dev", "all"])
def test_the_great_sets_resolve(wheel: Path, tmp_path: Path, cache: Path, extra: str) -> None:
    """What they hold is installed already: these tests run with it."""
    environment = Environment(tmp_path, cache)
    environment.install("--dry-run", f"{wheel}[{extra}]")
