"""What is done to the machine of `sungrow-edge` alone: its disk is full, its clock wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sungrow_lib.demo.processes import wait_until
from tests.crash.either import await_accepted, edge_of
from tests.crash.polls import POLLED
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from tests.crash.run import Run

_NO_ROOM: Final = (b"disk full: ", b"the spool takes no reading")
"""What its log says on a full disk: delivered readings went, or readings wait in memory."""


def fill_edge_disk(run: Run) -> None:
    """Fill its disk to the last byte, with the server away until it has to make room; maybe kill it then."""
    edge = edge_of(run)
    assert edge.disk is not None
    log, since = edge.log, time.time()
    before = _told(log.read_bytes())
    edge.disk.fill()
    run.stage.storm, run.stage.force = ("request lost",), 1.0
    what = "sungrow-edge to run out of room"
    wait_until(what, lambda: _told(log.read_bytes()) > before, timeout_s=PATIENCE_S, watched=[edge.child])
    run.stage.storm = ()
    time.sleep(run.draw.uniform(0, 6))  # the server is back, the disk is still full
    if run.draw.random() < 0.5:
        edge.restart()
        time.sleep(1)
    edge.disk.free()
    edge.no_room.append((since, time.time()))
    await_accepted(edge, 1, "to accept readings again")
    run.faults[f"{POLLED}: disk full"] += 1


def bend_edge_clock(run: Run) -> None:
    """Let the clock of `sungrow-edge` jump, with nobody to vouch for it; or set it right again."""
    assert run.clock is not None
    if run.clock.offset_s:
        run.clock.set(0.0, synchronised=run.draw.random() < 0.5)
        return
    run.faults["clock jump: sungrow-edge"] += 1
    run.clock.set(run.draw.choice((-3600, -600, 900, 7200, 86_400)), synchronised=False)


def _told(log: bytes) -> int:
    return sum(log.count(said) for said in _NO_ROOM)


EDGE_DEEDS: Final[dict[str, Callable[[Run], None]]] = {
    "fill_edge_disk": fill_edge_disk,
    "bend_edge_clock": bend_edge_clock,
}
"""By the names a plan chooses them with."""
