"""Runs the shell blocks of a page as a reader would: in order, in one folder, exports kept."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from tests.patience import PATIENCE_S

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
_LASTING: Final = re.compile(r"sungrow-(?:server|edge) run\b.*")
_FENCE: Final = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_ENOUGH_S: Final = 1000.0
"""Only what hangs takes so long; how quick a busy machine is, is not tested here."""


def fences(page: Path) -> Iterator[tuple[str, str, str]]:
    """Language, what else the fence says, and content of each block of code."""
    for language, words, content in _FENCE.findall(page.read_text()):
        yield language, words.strip(), content


def runnable(page: Path, mark: str = "run") -> list[str]:
    """Blocks a reader is to type, marked ``sh run``, or ``sh`` and another word for another test."""
    return [content for language, words, content in fences(page) if (language, words) == ("sh", mark)]


class Terminal:
    """A shell in a folder. What stands for a reader's own addresses is replaced before it is typed.

    Args:
        folder: where.
        environment: to begin with.
        standing_for: what the pages write -> what is there in its place.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], standing_for: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.standing_for = standing_for
        self._running = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def replaced(self, text: str) -> str:
        for written, meant in self.standing_for.items():
            text = text.replace(written, meant)
        return text

    def type(self, block: str) -> str:
        """Run a block and return what it prints; a program that goes on is left running."""
        *lines, last = self.replaced(block).strip().splitlines()
        output = ""
        if not _LASTING.fullmatch(last):
            lines.append(last)
        if lines:
            output = self._run("\n".join(lines))
        if _LASTING.fullmatch(last):
            self._start(last)
        return output

    def _run(self, script: str) -> str:
        kept = self.folder / ".environment"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{script}\nenv -0 >{shlex.quote(str(kept))}"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_ENOUGH_S,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        entries = kept.read_text().split("\0")
        self.environment = dict(entry.partition("=")[::2] for entry in entries if entry)
        return done.stdout

    def _start(self, command: str) -> None:
        """Leave a program running until the terminal is closed; it must end well when told to."""
        log = (self.folder / f".{command.split(maxsplit=1)[0]}.log").open("w")
        self._running.enter_context(log)
        program = subprocess.Popen(
            shlex.split(command), cwd=self.folder, env=self.environment, stdout=log, stderr=log
        )

        def stop() -> None:
            program.send_signal(signal.SIGTERM)
            try:
                assert program.wait(timeout=PATIENCE_S) == 0, Path(log.name).read_text()
            finally:
                program.kill()

        self._running.callback(stop)
