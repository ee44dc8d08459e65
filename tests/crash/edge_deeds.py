"""What is done to `sungrow-edge` itself: its spool damaged or put back, its disk full, its clock wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sungrow_lib.demo.processes import wait_until
from tests.crash.damage import DAMAGES
from tests.crash.polls import POLLED

if TYPE_CHECKING:
    from tests.crash.chain import Edge
    from tests.crash.run import Run

_UNDELIVERED: Final = 3
"""So many readings more wait in its spool before something happens to it; a poll is five seconds."""
_SLOW_S: Final = 180.0
_NO_ROOM: Final = (b"disk full: ", b"the spool takes no reading")
"""What its log says on a full disk: delivered readings went, or readings wait in memory."""


def damage_edge(run: Run) -> None:
    """Damage its spool, with readings in it that are nowhere else: each time in the next way."""
    edge = edge_of(run)
    name = run.next_of(POLLED, DAMAGES)
    keep_undelivered(run, edge)
    edge.kill()
    if edge.card.damage(DAMAGES[name], run.draw):
        run.faults[f"{POLLED}: {name}"] += 1
    edge.start()


def copy_edge_spool(run: Run) -> None:
    """Make a copy of its spool: the one that comes back next."""
    edge = edge_of(run)
    edge.kill()
    edge.card.copy()
    run.faults[f"{POLLED}: spool copied to be restored"] += 1
    edge.start()


def restore_edge_spool(run: Run) -> None:
    """Restore its spool from the copy made last, and make a new copy."""
    edge = edge_of(run)
    edge.kill()
    edge.card.restore()
    run.faults[f"{POLLED}: spool restored from an older copy"] += 1
    edge.card.copy()
    edge.start()


def fill_edge_disk(run: Run) -> None:
    """Fill its disk to the last byte, with the server away until it has to make room; maybe kill it then."""
    edge = edge_of(run)
    assert edge.disk is not None
    log, since = run.site.log("edge"), time.time()
    before = _told(log.read_bytes())
    edge.disk.fill()
    run.stage.storm, run.stage.force = ("request lost",), 1.0
    what = "sungrow-edge to run out of room"
    wait_until(what, lambda: _told(log.read_bytes()) > before, timeout_s=_SLOW_S, watched=[edge.child])
    run.stage.storm = ()
    time.sleep(run.draw.uniform(0, 6))  # the server is back, the disk is still full
    if run.draw.random() < 0.5:
        edge.restart()
        time.sleep(1)
    edge.disk.free()
    edge.no_room.append((since, time.time()))
    accepted = edge.accepted()
    what = "sungrow-edge to accept readings again"
    wait_until(what, lambda: edge.accepted() > accepted, timeout_s=_SLOW_S, watched=[edge.child])
    run.faults[f"{POLLED}: disk full"] += 1


def bend_edge_clock(run: Run) -> None:
    """Let the clock of `sungrow-edge` jump, with nobody to vouch for it; or set it right again."""
    assert run.clock is not None
    if run.clock.offset_s:
        run.clock.set(0.0, synchronised=run.draw.random() < 0.5)
        return
    run.faults["clock jump: sungrow-edge"] += 1
    run.clock.set(run.draw.choice((-3600, -600, 900, 7200, 86_400)), synchronised=False)


def keep_undelivered(run: Run, edge: Edge) -> None:
    """Keep the server away until it has accepted some readings more."""
    enough = edge.accepted() + _UNDELIVERED
    run.stage.storm, run.stage.force = ("request lost",), 1.0
    what = "sungrow-edge to take some readings"
    wait_until(what, lambda: edge.accepted() >= enough, timeout_s=_SLOW_S, watched=[edge.child])
    run.stage.storm = ()


def edge_of(run: Run) -> Edge:
    """Return `sungrow-edge`."""
    assert run.edge is not None
    return run.edge


def _told(log: bytes) -> int:
    return sum(log.count(said) for said in _NO_ROOM)


EDGE_DEEDS: Final[dict[str, Callable[[Run], None]]] = {
    "damage_edge": damage_edge,
    "copy_edge_spool": copy_edge_spool,
    "restore_edge_spool": restore_edge_spool,
    "fill_edge_disk": fill_edge_disk,
    "bend_edge_clock": bend_edge_clock,
}
"""By the names a plan chooses them with."""
