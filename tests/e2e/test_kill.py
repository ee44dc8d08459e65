"""Edge, server and database are killed in turn while readings flow; afterwards every accepted one is stored.

What was accepted is known twice: from the edge's log, whose line is written after the spool's commit, and
from the spool itself, which keeps delivered rows.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from sungrow_lib.demo.live import EdgeStatus
from sungrow_lib.demo.processes import wait_until
from sungrow_lib.demo.proof import read_events
from sungrow_lib.demo.site import DEVICES, DemoSite
from sungrow_lib.spool import DurableSpool
from tests.crash.chain import Backend, Edge, Inverters
from tests.mortal import Mortal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
_SLOW_S: Final = 400.0
"""What takes seconds is given so long, for a busy machine."""


def logged(site: DemoSite) -> set[int]:
    """Running numbers of the readings the edge's log calls accepted."""
    return {
        event["seq"]
        for event in read_events(site.log("edge"))
        if event.get("event") == "poll" and event.get("outcome") == "accepted"
    }


def spool_counts(site: DemoSite) -> dict[str, int]:
    status = EdgeStatus(site.edge_config)
    try:
        wait_until("`status` to answer", lambda: bool(status.ask()), timeout_s=_SLOW_S)
        return status.spool
    finally:
        status.close()


def undelivered(site: DemoSite) -> int:
    counts = spool_counts(site)
    return counts["pending"] + counts["waiting"] + counts["deferred"]


def end_with_all_delivered(site: DemoSite, edge: Edge) -> None:
    """End the edge when it has delivered all; on a busy machine its last poll may need another start."""
    deadline = time.monotonic() + _SLOW_S
    while True:
        wait_until(
            "the backlog to drain",
            lambda: undelivered(site) <= len(DEVICES),  # the last poll may always wait for its upload
            timeout_s=_SLOW_S,
            watched=[edge.child],
        )
        assert edge.child.stop(_SLOW_S), "the edge did not end when told to"
        if not undelivered(site):
            return
        assert time.monotonic() < deadline, "the edge never ends with nothing left"
        edge.start()


async def accepted_by(spool_path: Path) -> dict[int, dict[str, Any]]:
    """Everything in the spool by running number, dated as delivered (a waiting reading's date may move)."""
    async with DurableSpool.open(spool_path) as spool:
        return {record.entry.seq: json.loads(record.entry.to_json()) async for record in spool.records()}


def test_every_accepted_reading_survives_the_kill_of_every_part(
    mortal_database: Mortal, tmp_path: Path
) -> None:
    dice = random.Random()
    site = DemoSite.in_folder(tmp_path, datetime.now(UTC))
    with ExitStack() as stack:
        backend = Backend(site, stack, database=mortal_database)
        edge = Edge(site, stack, backend.address, backend.token, Inverters(site, stack).ports)
        for victim in ("edge", "server", "database", "edge", "server", "database"):
            before = len(logged(site))
            wait_until("further readings", lambda n=before: len(logged(site)) >= n + 2, timeout_s=_SLOW_S)  # type: ignore[misc]
            time.sleep(dice.uniform(0, 2))
            match victim:
                case "edge":
                    edge.restart()
                case "server":
                    backend.kill_server(dice.uniform(0, 2))
                case _:
                    backend.kill_database(dice.uniform(0, 2))
        backend.await_health()
        end_with_all_delivered(site, edge)
        accepted = anyio.run(accepted_by, edge.spool)
        stored = [json.loads(line) for line in backend.commands.export()]
        counts = spool_counts(site)
        said = logged(site)

    keys = Counter((row["device_id"], row["ts"]) for row in stored)
    assert max(keys.values()) == 1, "a reading is stored twice"
    assert said <= accepted.keys(), "the spool lost a reading that the log calls accepted"
    by_key = {(row["device_id"], row["ts"]): row for row in stored}
    for reading in accepted.values():
        assert by_key[reading["device_id"], reading["ts"]] == reading
    assert len(accepted) == len(stored) == counts["accepted"] == counts["delivered"]
    assert len(stored) >= 12, "too few readings to have been tried"
