"""Told to stop, the daemon ends soon, whatever it was waiting for."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import anyio
import pytest

from sungrow_lib.demo.setup import clean_environment
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool

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
        dongle.settimeout(60)
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
                    connection.settimeout(60)
                    assert connection.recv(100)
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(3 * LONGEST_S) == 0  # the machine may be busy with other tests
            finally:
                process.kill()
            assert process.stderr is not None
            assert '"everything_delivered": false' in process.stderr.read()


async def leave_something_to_deliver(path: Path) -> None:
    async with DurableSpool.open(path) as spool:
        sample = SungrowSample(device_id="roof", ts=datetime(2026, 6, 1, tzinfo=UTC), pv_power_w=1)
        await spool.append(sample, ts_is_final=True)
