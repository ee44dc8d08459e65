"""Under a running daemon its spool is moved, removed, replaced, overwritten; it is killed in between.

The server is away meanwhile, so that the spool alone has the readings. Afterwards every one that was accepted
is stored, once, and every poll is accounted for.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from sungrow_lib.demo.processes import wait_until
from sungrow_lib.demo.proof import read_events
from sungrow_lib.demo.site import DemoSite
from sungrow_lib.spool import SpoolOptions, SpoolRecord, SpoolState, SystemClock
from sungrow_lib.spool.store import SpoolStore
from tests.crash.account import Account
from tests.crash.chain import Backend, Edge, Inverters, Machine, kill
from tests.crash.polled import judge_polled
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ACCEPTED: Final = {"event": "poll", "outcome": "accepted"}
BACK: Final = "while in use; it is back in its place, with all it holds"


# --- what happens to it ----------------------------------------------------------------------------------


def move(spool: Path) -> None:
    spool.rename(spool.with_name("moved"))


def remove(spool: Path) -> None:
    spool.unlink()


def remove_all(spool: Path) -> None:
    for file in spool.parent.glob("spool.sqlite*"):
        file.unlink()


def remove_folder(spool: Path) -> None:
    """At one stroke: the daemon makes files there anew, and a folder that has some cannot be removed."""
    shutil.rmtree(spool.parent.rename(spool.parent.with_name("removed")))


def remove_log(spool: Path) -> None:
    spool.with_name("spool.sqlite-wal").unlink()


def replace_by_text(spool: Path) -> None:
    other = spool.with_name("other")
    other.write_text("no spool")
    other.replace(spool)


def replace_by_earlier(spool: Path) -> None:
    earlier(spool).replace(spool)


def overwrite_with_earlier(spool: Path) -> None:
    shutil.copyfile(earlier(spool), spool)


def truncate(spool: Path) -> None:
    spool.write_bytes(b"")


def earlier(spool: Path) -> Path:
    """Make what a backup of the file alone would be, and its numbers used for something else."""
    copy = spool.with_name("earlier")
    store = SpoolStore(copy, SpoolOptions(), SystemClock())
    for number in range(10):
        store.append("shed", 1_780_000_000_000 + 5_000 * number, "{}", boot=None, ts_is_final=True)
    store.close()
    return copy


AWAY: Final[tuple[Callable[[Path], None], ...]] = (
    move,
    remove,
    remove_log,
    replace_by_text,
    replace_by_earlier,
    remove_all,
    remove_folder,
)
REACHED: Final[tuple[Callable[[Path], None], ...]] = (overwrite_with_earlier, truncate)
"""These ruin what nothing else has, unless the server has it."""


def events(site: DemoSite, **parts: str) -> list[dict[str, Any]]:
    return [
        event
        for event in read_events(site.log("edge"))
        if all(value in str(event.get(name)) for name, value in parts.items())
    ]


def await_more(what: str, site: DemoSite, edge: Edge, before: int, **parts: str) -> None:
    wait_until(
        what, lambda: len(events(site, **parts)) > before + 1, timeout_s=PATIENCE_S, watched=[edge.child]
    )


def test_every_accepted_reading_arrives_whatever_happens_to_the_file(tmp_path: Path) -> None:
    dice = random.Random()
    site = DemoSite.in_folder(tmp_path, datetime.now(UTC))
    with ExitStack() as stack:
        backend, ports = Backend(site, stack), Inverters(site, stack).ports
        edge = Edge(site, stack, backend.address, backend.token, ports, Machine(folder=site.folder / "spool"))
        kill(backend.server)
        for deed in AWAY:
            await_more("readings", site, edge, len(events(site, **ACCEPTED)), **ACCEPTED)
            before = len(events(site, event=BACK))
            deed(edge.spool)
            wait_until(
                f"its return after {deed.__name__}",
                lambda n=before: len(events(site, event=BACK)) > n,  # type: ignore[misc]  # a default it is
                timeout_s=PATIENCE_S,
                watched=[edge.child],
            )
            time.sleep(dice.uniform(0, 3))
            edge.restart()
        backend.start_server()
        backend.await_health()
        account = Account()
        stop_when_delivered(edge)
        judge_polled(account, site, edge, exported(backend))
        assert account.holds, account.findings
        assert account.accepted >= len(AWAY)

        edge.restart()
        for deed in REACHED:
            await_more("readings", site, edge, len(events(site, **ACCEPTED)), **ACCEPTED)
            await_delivery(edge)
            deed(edge.spool)
            await_more(
                f"readings after {deed.__name__}", site, edge, len(events(site, **ACCEPTED)), **ACCEPTED
            )
            name_the_lost(site, edge)
        stop_when_delivered(edge)
        stored = {(row["device_id"], row["ts"]) for row in exported(backend)}
        assert {(event["device_id"], event["ts"]) for event in events(site, **ACCEPTED)} <= stored
    assert list(edge.spool.parent.glob("spool.sqlite.*-2*"))


def exported(backend: Backend) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in backend.commands.export()]
    return [row for row in rows if not row["device_id"].startswith("shed")]


def name_the_lost(site: DemoSite, edge: Edge) -> None:
    """Do as the alarm says: the names were in the file, of which nothing is left, and none is guessed."""
    names = {event["seq"]: event["device_id"] for event in events(site, **ACCEPTED)}
    held = {r.entry.device_id: names[r.entry.seq] for r in records(edge) if r.entry.device_id[:5] == "lost-"}
    for lost, name in held.items():
        assert edge.said("rename", lost, name, "--into-existing") is not None, f"{lost} is not renamed"


def await_delivery(edge: Edge) -> None:
    """Wait until all that is accepted now is known to be delivered; what comes meanwhile is noted later."""
    last = max(undelivered(edge), default=0)
    wait_until(
        "the backlog to drain", lambda: min(undelivered(edge), default=last + 1) > last, timeout_s=PATIENCE_S
    )


def stop_when_delivered(edge: Edge) -> None:
    """Stop the edge with nothing left to deliver: what it took last may need one more start."""
    while True:
        await_delivery(edge)
        assert edge.child.stop(60), "the edge did not end by itself when told to"
        if not undelivered(edge):
            return
        edge.restart()


def undelivered(edge: Edge) -> list[int]:
    """Number what waits, but for the other edge's readings, which this one's token does not cover."""
    is_settled = {SpoolState.DELIVERED, SpoolState.REJECTED, SpoolState.CONFLICT}
    return [
        r.entry.seq
        for r in records(edge)
        if not r.entry.device_id.startswith("shed") and r.entry.state not in is_settled
    ]


def records(edge: Edge) -> list[SpoolRecord]:
    found = SpoolStore(edge.spool, SpoolOptions(check=False), SystemClock())
    try:
        return found.records(0, 100_000)
    finally:
        found.close()
