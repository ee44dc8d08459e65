"""What is done alike to a fed edge and to `sungrow-edge`: wait for readings, have it down, hold it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from sungrow_lib.demo.processes import Child, wait_until
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from tests.crash.card import Card
    from tests.crash.chain import Edge
    from tests.crash.fed import FedEdge
    from tests.crash.run import Run

AnyEdge: TypeAlias = "FedEdge | Edge"


def edge_of(run: Run) -> Edge:
    """Return `sungrow-edge`."""
    assert run.edge is not None
    return run.edge


def keep_undelivered(run: Run, edge: AnyEdge) -> None:
    """Keep the server away until the edge has taken some readings more."""
    with server_away(run):
        await_accepted(edge, edge.few, "to take some readings")


@contextmanager
def server_away(run: Run) -> Iterator[None]:
    """Let nothing reach the server meanwhile."""
    run.stage.storm, run.stage.force = ("request lost",), 1.0
    yield
    run.stage.storm = ()


def await_accepted(edge: AnyEdge, count: int, what: str) -> None:
    """Wait until the edge has accepted so many readings more."""
    enough = edge.accepted() + count
    wait_until(
        f"{edge.child.name} {what}",
        lambda: edge.accepted() >= enough,
        timeout_s=PATIENCE_S,
        watched=[edge.child],
    )


@contextmanager
def down(edge: AnyEdge) -> Iterator[Card]:
    """Kill an edge, and start it again: in between its card may be taken out."""
    edge.kill()
    yield edge.card
    edge.start()


@contextmanager
def held(child: Child) -> Iterator[None]:
    """Hold a process: what happens meanwhile happens at one moment of its."""
    os.kill(child.pid, signal.SIGSTOP)
    try:
        time.sleep(0.05)  # it stops on its way back from the system
        yield
    finally:
        os.kill(child.pid, signal.SIGCONT)
