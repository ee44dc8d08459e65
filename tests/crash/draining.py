"""The end of a run: all faults end, and everything is delivered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from sungrow_lib.demo.live import EdgeStatus
from sungrow_lib.demo.processes import ChildError, wait_until
from sungrow_lib.demo.site import DEVICES
from tests.crash.card_deeds import deliver_others, name_devices
from tests.crash.edge import FINISH
from tests.crash.either import down

if TYPE_CHECKING:
    from tests.crash.chain import Edge
    from tests.crash.run import Run

_DRAIN_S: Final = 400.0
"""A backlog that is not delivered so long after the last fault is stuck: the run fails, and says where."""
_FRESH: Final = 2 * len(DEVICES)
"""So many readings may wait for the next upload at any moment: those of two polls."""


def drain(run: Run) -> None:
    """End all faults and wait until everything is delivered."""
    _end_faults(run)
    for edge in run.fed:
        edge.kill()  # what it still waits for after all those faults takes minutes
        edge.start()
    if run.edge is not None:
        run.edge.requeue()
        run.edge.restart()
    for either in run.all_edges.values():
        if either.card.is_lent:
            deliver_others(run, either)
            with down(either) as card:
                card.give_back()
        if either.card.may_hold:
            name_devices(either)
    for edge in run.fed:
        (edge.folder / FINISH).touch()
    _await_drained(run)
    for edge in run.fed:
        if edge.child.exit_status != 0:
            edge.child.require_running()
    if run.edge is not None:
        _drain_edge(run, run.edge)


def _end_faults(run: Run) -> None:
    run.settle()
    for edge in run.fed:
        if edge.order.name == "clock":
            edge.steer_clock(0, synchronised=True)
        if edge.order.has_small_disk:
            edge.small_disk.free()
    if run.edge is not None and run.edge.disk is not None:
        run.edge.disk.free()
    if run.clock is not None:
        run.clock.set(0.0, synchronised=True)


def _await_drained(run: Run) -> None:
    """Wait until the fed edges have delivered all they have, and ended."""
    deadline = time.monotonic() + _DRAIN_S
    while left := [edge for edge in run.fed if edge.child.exit_status is None]:
        if time.monotonic() > deadline:
            server = run.backend.server
            said = [*(edge.stuck() for edge in left), f"the end of {server.log}:\n{server.tail()}"]
            what = f"stuck: {len(left)} fed edges had a backlog {_DRAIN_S:.0f} s after the last fault"
            raise ChildError("\n".join([what, *said]))
        time.sleep(0.2)


def _drain_edge(run: Run, edge: Edge) -> None:
    """Wait until `sungrow-edge` has hardly anything left, and end it: it goes on polling till then."""
    status, deadline = EdgeStatus(run.site.edge_config), time.monotonic() + _DRAIN_S

    def left() -> int:
        counts = status.ask()
        return counts["pending"] + counts["waiting"] + counts["deferred"]

    while True:
        what = "sungrow-edge to deliver its backlog"
        watched = [edge.child, run.backend.server]
        wait_until(what, lambda: left() <= _FRESH, timeout_s=_DRAIN_S, watched=watched)
        edge.child.stop(20)  # which delivers what is fresh, within seconds
        if not left():
            return
        if time.monotonic() > deadline:
            raise ChildError(
                f"sungrow-edge has {left()} readings left; the end of its log:\n{edge.child.tail()}"
            )
        edge.start()
