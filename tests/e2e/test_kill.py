"""Edge, server and database are killed in turn while readings flow; afterwards every accepted one is stored.

What was accepted is known twice: from the edge's log, whose line is written after the spool's commit, and
from the spool itself, which keeps delivered rows.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from sungrow_lib.demo.certificates import make_certificates
from sungrow_lib.demo.live import EdgeStatus
from sungrow_lib.demo.postgres import EmbeddedPostgres
from sungrow_lib.demo.processes import Child, python, wait_until
from sungrow_lib.demo.proof import read_events
from sungrow_lib.demo.setup import (
    EDGE,
    ServerAddress,
    ServerCommands,
    await_simulators,
    clean_environment,
    free_ports,
    start_edge,
    start_simulator,
)
from sungrow_lib.demo.site import DEVICES, DemoSite
from sungrow_lib.spool import DurableSpool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Chain:
    """The whole chain as processes that can be killed and started again."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.site = DemoSite.in_folder(folder, datetime.now(UTC))
        self._stack = stack
        certificates = make_certificates(folder / "tls")
        self.postgres = EmbeddedPostgres(self.site.database)
        stack.callback(self.postgres.stop)
        self.postgres.start()
        server_port, *self._ports = free_ports(1 + len(DEVICES))
        self.commands = ServerCommands(self.site, self.postgres.dsn, certificates, server_port)
        self.commands.migrate()
        self._token, reader = self.commands.make_tokens()
        self.address = ServerAddress(server_port, certificates.ca, reader)
        simulators = [
            self._started(start_simulator(self.site, *pair))
            for pair in zip(DEVICES, self._ports, strict=True)
        ]
        await_simulators(simulators, self._ports)
        self.server = self._started(self.commands.start())
        self.edge = self._started(start_edge(self.site, self.address, self._token, self._ports))

    def _started(self, child: Child) -> Child:
        self._stack.callback(child.stop, 15.0)
        return child

    def start_server(self) -> None:
        self.server = self._started(self.commands.start())

    def start_edge(self) -> None:
        self.edge = self._started(
            Child(
                "the edge",
                python(EDGE, "run", "--config", str(self.site.edge_config)),
                self.site.log("edge"),
                environment=clean_environment() | {"LOG_LEVEL": "DEBUG"},
            )
        )

    def logged(self) -> set[int]:
        """Running numbers of the readings the edge's log calls accepted."""
        return {
            event["seq"]
            for event in read_events(self.site.log("edge"))
            if event.get("event") == "poll" and event.get("outcome") == "accepted"
        }

    def spool_counts(self) -> dict[str, int]:
        status = EdgeStatus(self.site.edge_config)
        try:
            return status.ask()
        finally:
            status.close()


@contextmanager
def chain(folder: Path) -> Iterator[Chain]:
    with ExitStack() as stack:
        yield Chain(folder, stack)


def kill(child: Child) -> None:
    os.kill(child.pid, signal.SIGKILL)
    wait_until(f"the end of {child.name}", lambda: child.exit_status is not None, timeout_s=10)


async def accepted_by(spool_path: Path) -> dict[int, dict[str, Any]]:
    """Everything in the spool by running number, dated as delivered (a waiting reading's date may move)."""
    async with DurableSpool.open(spool_path) as spool:
        return {record.entry.seq: json.loads(record.entry.to_json()) async for record in spool.records()}


def test_every_accepted_reading_survives_the_kill_of_every_part(tmp_path: Path) -> None:
    dice = random.Random()
    with chain(tmp_path) as parts:
        kill(parts.edge)  # at once: before, in or after the first poll
        parts.start_edge()
        for victim in ("edge", "server", "postgres", "edge", "server", "postgres"):
            before = len(parts.logged())
            wait_until("further readings", lambda n=before: len(parts.logged()) > n, timeout_s=30)  # type: ignore[misc]
            time.sleep(dice.uniform(0, 2))
            match victim:
                case "edge":
                    kill(parts.edge)
                    parts.start_edge()
                case "server":
                    kill(parts.server)
                    time.sleep(dice.uniform(0, 2))
                    parts.start_server()
                case _:
                    parts.postgres.kill()
                    time.sleep(dice.uniform(0, 2))
                    parts.postgres.start()
        wait_until("the server", parts.address.is_healthy, timeout_s=60, watched=[parts.server])
        wait_until(
            "the backlog to drain",
            lambda: parts.spool_counts()["pending"] == 0,
            timeout_s=90,
            watched=[parts.edge],
        )
        assert parts.edge.stop(15), "the edge did not end by itself when told to"
        accepted = anyio.run(accepted_by, tmp_path / "spool.sqlite")
        stored = [json.loads(line) for line in parts.commands.export()]
        counts = parts.spool_counts()
        logged = parts.logged()

    keys = Counter((row["device_id"], row["ts"]) for row in stored)
    assert max(keys.values()) == 1, "a reading is stored twice"
    assert logged <= accepted.keys(), "the spool lost a reading that the log calls accepted"
    by_key = {(row["device_id"], row["ts"]): row for row in stored}
    for reading in accepted.values():
        assert by_key[reading["device_id"], reading["ts"]] == reading
    assert len(accepted) == len(stored) == counts["accepted"] == counts["delivered"]
    assert len(stored) >= 12, "too few readings to have been tried"
