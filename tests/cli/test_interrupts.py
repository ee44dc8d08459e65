"""Ctrl-C and SIGTERM, from a command's first import on: one line, exit status 1, never a traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S

BIN = Path(sys.executable).parent
COMMANDS = {
    "sungrow": ["read", "127.0.0.1"],
    "sungrow-edge": ["status"],
    "sungrow-server": ["token", "list"],
}
MODULES = {
    "sungrow": "sungrow_lib.cli",
    "sungrow-edge": "reference_edge",
    "sungrow-server": "reference_server",
}
LARGE = {"sungrow": "anyio", "sungrow-edge": "anyio", "sungrow-server": "psycopg"}
"""Of the modules each loads one that takes long."""

STOP_AT_IMPORT = """
import os, sys, time
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == os.environ.get("STOP_AT"):
            print("stopped", file=sys.stderr, flush=True)
            for _ in range(600):
                time.sleep(0.1)  # a signal ends it; one that comes just before it begins, after it
sys.meta_path.insert(0, Finder)
"""


@pytest.fixture
def stopping(tmp_path: Path) -> str:
    """A folder for PYTHONPATH: with it, a program waits for a signal where it imports the module STOP_AT."""
    (tmp_path / "sitecustomize.py").write_text(STOP_AT_IMPORT, encoding="utf-8")
    return str(tmp_path)


def started(*command: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal; return what the process then says."""
    process.send_signal(number)
    said, complaint = process.communicate(timeout=PATIENCE_S)
    assert not said
    return complaint.rstrip("\n")


def end_at(module: str, number: signal.Signals, folder: str, *command: str) -> tuple[str, int]:
    """Send a signal while a module is imported; return what the process then says, and its exit status."""
    with started(*command, PYTHONPATH=folder, STOP_AT=module) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "stopped\n"
        return end_of(process, number), process.returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["gettext", "argparse", "sungrow_lib.errors", "a large one"])
@pytest.mark.parametrize("program", COMMANDS)
def test_while_it_imports(program: str, module: str, number: signal.Signals, stopping: str) -> None:
    end = end_at(
        LARGE[program] if module == "a large one" else module,
        number,
        stopping,
        str(BIN / program),
        *COMMANDS[program],
    )
    assert end == (f"{program}: interrupted before it began", 1)


@pytest.mark.parametrize(
    "words",
    [
        ["sungrow-edge", "run", "--config", "edge.toml"],
        ["sungrow-server", "run"],
        ["sungrow-server", "--config", "server.toml", "run"],
        ["sungrow-server", "--config=server.toml", "run"],
    ],
    ids=" ".join,
)
def test_a_service_that_is_stopped_while_it_starts_has_not_failed(words: list[str], stopping: str) -> None:
    program, *rest = words
    assert end_at("argparse", signal.SIGTERM, stopping, str(BIN / program), *rest) == ("", 0)


@pytest.mark.parametrize(
    "words",
    [
        ["sungrow-edge", "status", "--config", "run"],
        ["sungrow-edge", "spool", "list", "--device", "run"],
        ["sungrow-server", "--config", "run", "migrate"],
        ["sungrow", "read", "run"],
    ],
    ids=" ".join,
)
def test_a_word_that_is_no_command_makes_no_service(words: list[str], stopping: str) -> None:
    program, *rest = words
    end = end_at("argparse", signal.SIGTERM, stopping, str(BIN / program), *rest)
    assert end == (f"{program}: interrupted before it began", 1)


@pytest.mark.parametrize("program", COMMANDS)
def test_while_it_imports_as_a_module(program: str, stopping: str) -> None:
    end = end_at("gettext", signal.SIGINT, stopping, "-m", MODULES[program], *COMMANDS[program])
    assert end == (f"{program}: interrupted before it began", 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", ["sungrow", "sungrow-server"])
def test_while_it_waits_for_an_answer(program: str, number: signal.Signals, tmp_path: Path) -> None:
    """An event loop and a plain function wait for what never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        more = ["--port", str(port), "--timeout", "60"] if program == "sungrow" else []
        process = started(
            str(BIN / program),
            *COMMANDS[program],
            *more,
            DATABASE_URL=f"postgresql://user@127.0.0.1:{port}/none",
            SUNGROW_LOCK_DIR=str(tmp_path),
        )
        with process, silent.accept()[0] as connection:
            assert connection.recv(1)  # it has asked something
            assert end_of(process, number) == f"{program}: interrupted before it was done"
    assert process.returncode == 1
