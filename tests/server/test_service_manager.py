"""The server as a service of systemd: it says when it answers, that it lives, and that it ends."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from reference_server.storage.migrations import migrate
from sungrow_lib.demo.processes import Child, python
from sungrow_lib.demo.setup import clean_environment, free_ports, is_listening
from tests.patience import PATIENCE_S


@pytest.mark.parametrize("workers", ["1", "2"])
def test_systemd_is_told(database: str, tmp_path: Path, workers: str) -> None:
    migrate(database)
    [port] = free_ports(1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        environment = clean_environment() | {
            "DATABASE_URL": database,
            "LISTEN_PORT": str(port),
            "WORKERS": workers,
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "3000000",
        }
        server = Child(
            "the server", python("reference_server", "run"), tmp_path / "log", environment=environment
        )
        try:
            assert manager.recv(4096) == b"READY=1"
            assert is_listening(port)
            for _ in range(2):  # again and again
                assert manager.recv(4096).startswith(b"WATCHDOG=1\n")
        finally:
            server.stop(60.0)
        said = [manager.recv(4096)]
        while said[-1] != b"STOPPING=1":
            said.append(manager.recv(4096))
        assert set(said[:-1]) <= {b"WATCHDOG=1\nSTATUS=answering requests"}
