"""The quick start is followed literally in a fresh clone; every snippet of the guides is run beside it."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import anyio
import certifi
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sungrow_lib import Capture, DurableSpool, Space, SungrowSample, write_capture
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import wait_until
from sungrow_lib.demo.setup import clean_environment, free_ports, is_listening
from tests.clone import Clone
from tests.living import living_inverter
from tests.patience import PATIENCE_S

from .shell import DOCS, ROOT, Terminal, fences, runnable

HOST: Final = "192.168.1.20"
SITE: Final = "https://solar.example.org"
QUICK_START: Final = DOCS / "quick-start.md"
GENERATED: Final = {"api", "reference", "notebooks"}
FRONT_PAGES: Final = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
RUN_BY: Final = {"run", "compose", "machine", "edge-machine"}
"""Here, and by tests/deploy: test_compose_steps, test_upgrade, test_installer."""
NOT_RUN: Final = re.compile(r'not-run="([^"]+)"')
PAGES: Final = sorted(
    page
    for page in DOCS.rglob("*.md")
    if page.relative_to(DOCS).parts[0] not in GENERATED and page != QUICK_START
)
SNIPPETS: Final = [
    pytest.param(content, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (language, words, content) in enumerate(fences(page))
    if language == "python" and words != "outline"
]
# Longer than usual: the first test installs, and waits for what the polite pace makes slow, 5 s a step.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
_STATUS: Final = ".venv/bin/sungrow-edge status --config edge.toml"
"""Whole, for the other terminal it is typed in has no PATH that leads there."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What stands after the quick start was followed.

    Attributes:
        terminal: the one it was typed in; edge and server run.
        outputs: what its blocks printed.
        read_token: the second token.
    """

    terminal: Terminal
    outputs: list[str]
    read_token: str


@pytest.fixture(scope="module")
def inverter_port() -> Iterator[int]:
    """A simulated hybrid in a process of its own, as `sungrow simulate` is one."""
    model = ["--model", "SH8.0RT-20", "--past", "1"]
    command = [sys.executable, "-m", "sungrow_lib.cli", "simulate", *model, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment()) as simulator:
        assert simulator.stdout is not None
        port = re.search(r":(\d+)", simulator.stdout.readline())
        assert port is not None
        yield int(port[1])
        simulator.terminate()


@pytest.fixture(scope="module")
def empty_database(postgres_dsn: str) -> Iterator[str]:
    name = f"docs_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'".encode())
        yield make_conninfo(postgres_dsn, dbname=name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="module")
def followed(
    tmp_path_factory: pytest.TempPathFactory,
    inverter_port: int,
    empty_database: str,
    tls_files: CertificateFiles,
    pip_settings: dict[str, str],
) -> Iterator[Followed]:
    parent = tmp_path_factory.mktemp("quick-start")
    folder = Clone(parent).folder
    (folder / "cert.pem").write_bytes(tls_files.cert.read_bytes())
    (folder / "key.pem").write_bytes(tls_files.key.read_bytes())
    (folder / "key.pem").chmod(0o600)
    [port] = free_ports(1)
    standing_for = {
        "postgresql://sungrow@localhost/sungrow": f"'{empty_database}'",
        f'host = "{HOST}"': f'host = "127.0.0.1"\nport = {inverter_port}',
        f'host="{HOST}"': f'host="127.0.0.1", port={inverter_port}',
        f"SUNGROW_HOST={HOST}": f"SUNGROW_HOST=127.0.0.1 SUNGROW_PORT={inverter_port}",
        HOST: f"127.0.0.1 --port {inverter_port}",
        f"{SITE}:8443": SITE,
        SITE: f"https://localhost:{port}",
        "LISTEN_HOST=0.0.0.0 LISTEN_PORT=8443": f"LISTEN_HOST=127.0.0.1 LISTEN_PORT={port}",
    }
    environment = clean_environment() | _pinned(parent) | pip_settings
    environment |= {
        "SSL_CERT_FILE": str(_trusted(parent, tls_files.ca)),
        "SUNGROW_LOCK_DIR": str(folder),
        "SUNGROW_STATE_DIR": str(folder),
    }
    with Terminal(folder, environment, standing_for) as terminal:
        outputs: list[str] = []
        tokens: list[str] = []
        for language, words, content in fences(QUICK_START):
            if language == "toml":
                [name] = re.findall(r'title="(.+)"', words)
                (folder / name).write_text(terminal.replaced(content))
                (folder / "token").write_text(tokens[0])
            elif (language, words) == ("sh", "run"):
                outputs.append(terminal.type(content))
                if "sungrow-server run" in content:
                    wait_until(
                        "the server", lambda: is_listening(port), timeout_s=PATIENCE_S
                    )  # a reader looks
                tokens += re.findall(r"^(sgt?_?\S{30,})$", outputs[-1], re.MULTILINE)
        yield Followed(terminal, outputs, tokens[1])


def _pinned(folder: Path) -> dict[str, str]:
    """Let the reader's `pip install` bring the versions that are tested."""
    lock = (ROOT / "requirements" / "dev.lock").read_text()
    pins = re.findall(r"^[\w.-]+==[^\\\n]+", lock, re.MULTILINE)
    assert len(pins) > 50
    (folder / "constraints.txt").write_text("\n".join(pins))
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return kept | {"PIP_CONSTRAINT": str(folder / "constraints.txt")}


def _trusted(folder: Path, ca: Path) -> Path:
    """A reader's certificate is one every machine trusts: the tests' authority beside the public ones."""
    public = Path(os.environ.get("SSL_CERT_FILE") or certifi.where())
    (folder / "trusted.pem").write_bytes(public.read_bytes() + b"\n" + ca.read_bytes())
    return folder / "trusted.pem"


def test_the_quick_start_ends_with_readings_on_the_server(followed: Followed) -> None:
    assert "SH8.0RT-20" in "".join(followed.outputs)
    assert f"`{_STATUS}`" in QUICK_START.read_text()
    for program in ("sungrow", "sungrow-edge", "sungrow-server"):
        used = followed.terminal.type(f"command -v {program}").strip()
        assert used == str(followed.terminal.folder / ".venv" / "bin" / program), "what the reader installed"
    deadline = time.monotonic() + PATIENCE_S
    spool = followed.terminal.folder / "spool.sqlite"
    while not spool.exists() and time.monotonic() < deadline:  # the daemon is starting
        time.sleep(0.1)
    while True:  # until the first reading is delivered
        # A daemon that has only just started may not have made its spool yet, and status says so.
        answer = followed.terminal.type(f"{_STATUS} --json || true")
        status = json.loads(answer) if answer.strip() else {"spool": {"delivered": 0}}
        if status["spool"]["delivered"] or time.monotonic() > deadline:
            break
    assert status["spool"]["delivered"] >= 1, status


@pytest.mark.parametrize("code", SNIPPETS)
def test_each_snippet_runs_and_prints_what_it_says(code: str, followed: Followed, tmp_path: Path) -> None:
    (tmp_path / "token").write_text((followed.terminal.folder / "token").read_text())
    script = tmp_path / "snippet.py"
    script.write_text(followed.terminal.replaced(code))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        env=followed.terminal.environment
        | {"READ_TOKEN": followed.read_token, "SUNGROW_LOCK_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if promised := re.findall(r"^\s*# > (.*)$", code, re.MULTILINE):
        assert done.stdout.splitlines() == promised


@pytest.mark.parametrize("page", [*PAGES, QUICK_START, *FRONT_PAGES], ids=lambda page: page.stem)
def test_no_shell_block_is_shown_untried_without_a_reason(page: Path) -> None:
    for language, words, content in fences(page):
        reason = NOT_RUN.fullmatch(words)
        assert language not in {"bash", "console", "shell"}, content
        assert language != "sh" or words in RUN_BY or (reason and len(reason[1]) > 10), content
        for place in re.findall(r"tests/[\w/.]*\w", words):
            assert (ROOT / place).exists(), place


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("capture") / "capture.json"
    words = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1).words()
    write_capture(file, Capture(words=words, model="SH8.0RT-20"), Space.INPUT)
    return file


@pytest.fixture
def folder(followed: Followed, capture: Path, tmp_path: Path) -> Path:
    """What pages take for granted: token, settings, capture, a spool with readings, a place for backups."""
    for name in ("token", "edge.toml", "cert.pem", "key.pem"):
        shutil.copy(followed.terminal.folder / name, tmp_path / name)
    shutil.copy(capture, tmp_path)
    (tmp_path / "backups").mkdir()
    anyio.run(_fill_spool, tmp_path / "spool.sqlite")
    return tmp_path


async def _fill_spool(path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    async with DurableSpool.open(path) as spool:
        for ago in (3, 2, 1):
            await spool.append(SungrowSample(device_id="roof", ts=now - timedelta(seconds=ago)))


@pytest.mark.parametrize(
    "page", [page for page in (*PAGES, *FRONT_PAGES) if runnable(page)], ids=lambda page: page.stem
)
def test_each_shell_block_runs(page: Path, followed: Followed, folder: Path, empty_database: str) -> None:
    [port] = free_ports(1)
    blocks = runnable(page)
    if any("sungrow dump" in block for block in blocks):
        (folder / "capture.json").unlink()  # the reader makes it
    server = conninfo_to_dict(empty_database)
    restored = f"restored_{secrets.token_hex(6)}"
    environment = followed.terminal.environment | {
        "SUNGROW_LOCK_DIR": str(folder),
        "SUNGROW_STATE_DIR": str(folder),
        "LISTEN_PORT": str(port),
        "PGHOST": str(server["host"]),
        "PGPORT": str(server["port"]),
        "PGUSER": str(server["user"]),
    }
    if any("sungrow-edge spool" in block for block in blocks):
        environment["SUNGROW_EDGE_CONFIG"] = "edge.toml"  # as a service's, without --config
    standing_for = {
        "postgresql://sungrow@localhost/sungrow_new": f"'{make_conninfo(empty_database, dbname=restored)}'",
        "sungrow_new": restored,
        "/var/backups": str(folder / "backups"),
        **followed.terminal.standing_for,
    }
    try:
        with Terminal(folder, environment, standing_for) as terminal:
            for block in blocks:
                terminal.type(block)
                if "sungrow-server run" in block:
                    wait_until("the server", lambda: is_listening(port), timeout_s=PATIENCE_S)
    finally:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {restored} WITH (FORCE)".encode())
