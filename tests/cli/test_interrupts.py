"""Ctrl-C and SIGTERM, from a command's first import on: one line, exit status 1, never a traceback."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

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


def started(*command: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "importtime", *command],  # says on stderr what it has imported
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(module: str, errors: IO[str]) -> None:
    assert any(re.match(rf"import time:.*\| +{re.escape(module)}$", line) for line in errors)


def complaint(process: subprocess.Popen[str]) -> str:
    """What the process said at its end, apart from imports."""
    assert process.stderr is not None
    assert process.stdout is not None
    said = [line for line in process.stderr if not line.startswith("import time:")]
    assert not process.stdout.read()
    return "".join(said).rstrip("\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["gettext", "argparse", "anyio", "sungrow_lib.errors"])
@pytest.mark.parametrize("program", COMMANDS)
def test_while_it_imports(program: str, module: str, number: signal.Signals) -> None:
    with started(str(BIN / program), *COMMANDS[program]) as process:
        assert process.stderr is not None
        wait_for(module, process.stderr)
        process.send_signal(number)
        assert complaint(process) == f"{program}: interrupted before it began"
    assert process.returncode == 1


@pytest.mark.parametrize("program", ["sungrow-edge", "sungrow-server"])
def test_a_service_that_is_stopped_while_it_starts_has_not_failed(program: str) -> None:
    with started(str(BIN / program), "run") as process:
        assert process.stderr is not None
        wait_for("argparse", process.stderr)
        process.send_signal(signal.SIGTERM)
        assert complaint(process) == ""
    assert process.returncode == 0


@pytest.mark.parametrize("program", COMMANDS)
def test_while_it_imports_as_a_module(program: str) -> None:
    with started("-m", MODULES[program], *COMMANDS[program]) as process:
        assert process.stderr is not None
        wait_for("gettext", process.stderr)
        process.send_signal(signal.SIGINT)
        assert complaint(process) == f"{program}: interrupted before it began"
    assert process.returncode == 1


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
            process.send_signal(number)
            assert complaint(process) == f"{program}: interrupted before it was done"
    assert process.returncode == 1
