"""Told to stop, the daemon ends soon, whatever it was waiting for."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import anyio
import pytest

from reference_edge.health import read_health
from sungrow_lib.demo.setup import clean_environment
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool
from sungrow_lib.spool.schema import PAGE_BYTES
from tests.patience import PATIENCE_S

LONGEST_S: Final = 10
"""What the daemon promises."""
SLOW_RESOLVER: Final = """
import socket, sys, time
find = socket.getaddrinfo
def find_slowly(host, *more, **options):
    if host in ("slow.example", b"slow.example"):
        print("asked", file=sys.stderr, flush=True)
        time.sleep(600)
    return find(host, *more, **options)
socket.getaddrinfo = find_slowly
from reference_edge.cli import main
sys.exit(main(["run"]))
"""

ENDLESS: Final = {
    "checking the spool": """
import sys
from sungrow_lib.spool import schema
schema.AGREE = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1e12) SELECT count(*) FROM n"
)
from reference_edge.cli import main
sys.exit(main(["run"]))
""",
    "recovering a damaged spool": """
import sys
from sungrow_lib.spool.pages import Pages
rows = Pages.rows
def rows_without_end(pages, **which):
    while True:
        yield from rows(pages, **which)
Pages.rows = rows_without_end
from reference_edge.cli import main
sys.exit(main(["run"]))
""",
}


@pytest.mark.parametrize("what", ENDLESS)
def test_an_opening_that_takes_long_says_that_it_goes_on_and_ends_when_told_to(
    tmp_path: Path, what: str
) -> None:
    path, health = tmp_path / "spool.sqlite", tmp_path / "health.json"
    anyio.run(leave_something_to_deliver, path)
    is_damaged = what.startswith("recovering")
    if is_damaged:
        path.write_bytes(path.read_bytes()[:PAGE_BYTES].ljust(path.stat().st_size, b"\xaa"))
    before = path.read_bytes()
    environment = clean_environment() | {
        "SERVER_URL": "https://127.0.0.1:1",
        "DEVICE_TOKEN": "edge-token-0123456789",
        "SUNGROW_HOST": "127.0.0.1",
        "SUNGROW_PORT": "1",
        "DEVICE_ID": "roof",
        "SPOOL_PATH": str(path),
        "HEALTH_FILE": str(health),
        "SUNGROW_LOCK_DIR": str(tmp_path),
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        command = [sys.executable, "-c", ENDLESS[what]]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                report, words = read_health(health), 0
                while words < 2 or not report["running"]:
                    said = dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())
                    assert said == {"EXTEND_TIMEOUT_USEC": "120000000", "WATCHDOG": "1", "STATUS": what}
                    report, words = read_health(health), words + 1
                process.send_signal(signal.SIGTERM)
                assert process.wait(2 * LONGEST_S) == 0  # the machine may be busy with other tests
            finally:
                process.kill()
            assert process.stderr is not None
            assert "begins anew at the next start" in process.stderr.read()
    alarms = [(alarm["code"], "recovered" in alarm["detail"]) for alarm in report["alarms"]]
    assert alarms == ([("spool", True)] if is_damaged else [])
    assert path.read_bytes() == before
    assert not [
        *tmp_path.glob("spool.sqlite.*[!k]")
    ]  # nothing set aside, nothing half made; there is a .lock


@pytest.mark.parametrize("slow", ["server", "inverter"])
def test_a_name_server_that_does_not_answer(tmp_path: Path, slow: str) -> None:
    environment = clean_environment() | {
        "SERVER_URL": "https://slow.example" if slow == "server" else "https://127.0.0.1:1",
        "DEVICE_TOKEN": "edge-token-0123456789",
        "SUNGROW_HOST": "slow.example" if slow == "inverter" else "127.0.0.1",
        "SUNGROW_PORT": "1",
        "DEVICE_ID": "roof",
        "SPOOL_PATH": str(tmp_path / "spool.sqlite"),
        "SUNGROW_LOCK_DIR": str(tmp_path),
    }
    command = [sys.executable, "-c", SLOW_RESOLVER]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any(line == "asked\n" for line in process.stderr)
            process.send_signal(signal.SIGTERM)
            assert process.wait(2 * LONGEST_S) == 0  # the machine may be busy with other tests
        finally:
            process.kill()
        assert '"event": "stopped"' in process.stderr.read()


def test_an_inverter_and_a_server_that_are_both_silent(tmp_path: Path) -> None:
    """Told to stop as a request has just been sent: what it then waits for is the longest there is."""
    with socket.create_server(("127.0.0.1", 0)) as dongle, socket.create_server(("127.0.0.1", 0)) as server:
        dongle.settimeout(PATIENCE_S)
        environment = clean_environment() | {
            "SERVER_URL": f"https://127.0.0.1:{server.getsockname()[1]}",
            "DEVICE_TOKEN": "edge-token-0123456789",
            "SUNGROW_HOST": "127.0.0.1",
            "SUNGROW_PORT": str(dongle.getsockname()[1]),
            "DEVICE_ID": "roof",
            "SPOOL_PATH": str(tmp_path / "spool.sqlite"),
            "SUNGROW_LOCK_DIR": str(tmp_path),
        }
        anyio.run(leave_something_to_deliver, tmp_path / "spool.sqlite")
        command = [sys.executable, "-m", "reference_edge", "run"]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                connection, _ = dongle.accept()
                with connection:
                    connection.settimeout(PATIENCE_S)
                    assert connection.recv(100)
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(3 * LONGEST_S) == 0  # the machine may be busy with other tests
            finally:
                process.kill()
            assert process.stderr is not None
            assert '"everything_delivered": false' in process.stderr.read()


def test_a_health_file_on_a_disk_that_hangs(tmp_path: Path) -> None:
    """A pipe that nobody reads is as silent."""
    environment = clean_environment() | {
        "SERVER_URL": "https://127.0.0.1:1",
        "DEVICE_TOKEN": "edge-token-0123456789",
        "SUNGROW_HOST": "127.0.0.1",
        "SUNGROW_PORT": "1",
        "DEVICE_ID": "roof",
        "SPOOL_PATH": str(tmp_path / "spool.sqlite"),
        "HEALTH_FILE": str(tmp_path / "health.json"),
        "SUNGROW_LOCK_DIR": str(tmp_path),
    }
    os.mkfifo(tmp_path / "health.json.new")
    command = [sys.executable, "-m", "reference_edge", "run"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any('"event": "poll"' in line for line in process.stderr)
            process.send_signal(signal.SIGTERM)
            assert process.wait(3 * LONGEST_S) == 0  # the machine may be busy with other tests
        finally:
            process.kill()
        assert '"event": "stopped"' in process.stderr.read()


async def leave_something_to_deliver(path: Path) -> None:
    async with DurableSpool.open(path) as spool:
        sample = SungrowSample(device_id="roof", ts=datetime(2026, 6, 1, tzinfo=UTC), pv_power_w=1)
        await spool.append(sample, ts_is_final=True)
