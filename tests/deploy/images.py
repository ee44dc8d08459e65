"""Does what a Dockerfile says in a folder, without a container engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_PLACES: Final = ("/opt/sungrow", "/src", "/var/lib/sungrow-edge")
"""Paths of the image that stand in the folder here."""


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Name and rest of each instruction."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def context() -> list[str]:
    """What .dockerignore lets into an image."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    return [line[1:] for line in lines if line.startswith("!")]


class Image:
    """What the instructions of a Dockerfile make in ``folder``.

    Args:
        dockerfile: what to follow.
        folder: stands for the file systems of its stages.
        pip_settings: variables for what is installed.
    """

    def __init__(self, dockerfile: Path, folder: Path, pip_settings: dict[str, str]) -> None:
        self._folder = folder
        self._pip_settings = pip_settings
        self._instructions = instructions(dockerfile)
        self.environment = {"HOME": str(folder), "PATH": f"{folder}/python/bin:/usr/local/bin:/usr/bin:/bin"}
        self.settings: dict[str, str] = {}

    def build(self) -> None:
        """Follow the instructions one by one."""
        subprocess.run([sys.executable, "-m", "venv", self._folder / "python"], check=True)
        workdir = self._folder
        for name, rest in self._instructions:
            if name == "WORKDIR":
                workdir = Path(self.inside(rest))
                workdir.mkdir(parents=True)
            elif name == "COPY" and not rest.startswith("--from"):
                self._copy(workdir, *rest.split())
            elif name == "RUN" and not rest.startswith("apt-get "):  # Debian's own affair
                self._run(rest, workdir)
            elif name == "ENV":
                for assignment in shlex.split(rest):
                    variable, _, value = assignment.partition("=")
                    self.environment[variable] = self.inside(value).replace(
                        "$PATH", self.environment["PATH"].partition(":")[2]
                    )
            else:
                self.settings[name] = rest

    def inside(self, text: str) -> str:
        """Turn the image's paths into those in the folder."""
        return re.sub(
            "|".join(f"(?<![\\w.]){place}\\b" for place in _PLACES), lambda m: f"{self._folder}{m[0]}", text
        )

    def command(self, *words: str) -> list[str]:
        """What the container runs: its entry point with ``words``, by default those of the image."""
        return [*json.loads(self.settings["ENTRYPOINT"]), *(words or json.loads(self.settings["CMD"]))]

    @property
    def health_check(self) -> list[str]:
        """The command of the health check."""
        command: list[str] = json.loads(self.settings["HEALTHCHECK"].partition("CMD ")[2])
        return command

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as the container would."""
        return subprocess.run(
            self.found(words),
            env=self.environment | variables,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    def found(self, words: tuple[str, ...] | list[str]) -> list[str]:
        """Return the command with the path of its program, as the container's PATH finds it."""
        program = shutil.which(words[0], path=self.environment["PATH"])
        assert program is not None, f"{words[0]} is not in the image"
        assert Path(program).is_relative_to(self._folder / "opt"), f"{program} would not be in the image"
        return [program, *words[1:]]

    def _copy(self, workdir: Path, source: str, target: str) -> None:
        names = context() if source == "." else [source]
        for name in names:
            place = workdir / ("" if source == "." else target) / (name if source == "." else "")
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("node_modules", "__pycache__")
                shutil.copytree(ROOT / name, place, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / name, place)

    def _run(self, command: str, workdir: Path) -> None:
        if os.getuid() != 0:
            command = re.sub(r"--(owner|group)=\d+ ", "", command)
        if "install --directory" in command:
            Path(self.inside("/var/lib/sungrow-edge")).parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["/bin/sh", "-euc", self.inside(command)],
            cwd=workdir,
            env=self.environment
            | {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
            | self._pip_settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}"
