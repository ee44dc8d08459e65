"""What is done to an edge's spool while the edge is down: it is damaged, copied, or put back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.crash.damage import DAMAGES
from tests.crash.either import AnyEdge, down, edge_of, keep_undelivered

if TYPE_CHECKING:
    from tests.crash.run import Run

TRIES: Final = 5
"""So often a damage is tried that finds nothing to strike: a log that has just begun, say."""


def damage_spool(run: Run, edge: AnyEdge, name: str) -> None:
    """Damage a spool in one way, with readings in it that are nowhere else."""
    for _ in range(TRIES):
        keep_undelivered(run, edge)
        with down(edge) as card:
            has_struck = card.damage(DAMAGES[name], run.draw)
        if has_struck:
            run.faults[f"{edge.label}{name}"] += 1
            return


def copy_spool(run: Run, edge: AnyEdge) -> None:
    """Make a copy of its spool: the one that comes back next."""
    with down(edge) as card:
        card.copy()
    run.faults[f"{edge.label}spool copied to be restored"] += 1


def restore_spool(run: Run, edge: AnyEdge) -> None:
    """Restore its spool from the copy made last, maybe long ago, and make a new copy."""
    with down(edge) as card:
        card.restore()
        card.copy()
    run.faults[f"{edge.label}spool restored from an older copy"] += 1


def to_fed(deed: Callable[[Run, AnyEdge], None], run: Run) -> None:
    """Do it to the fed edge whose spool has to suffer."""
    deed(run, run.named("damaged"))


def to_edge(deed: Callable[[Run, AnyEdge], None], run: Run) -> None:
    """Do it to `sungrow-edge`."""
    deed(run, edge_of(run))


def damage_edge(run: Run) -> None:
    """Damage the spool of `sungrow-edge`: each time in the next way."""
    edge = edge_of(run)
    damage_spool(run, edge, run.next_of(f"{edge.label}down", DAMAGES))


CARD_DEEDS: Final[dict[str, Callable[[Run], None]]] = {
    "damage_edge": damage_edge,
    "copy_spool": partial(to_fed, copy_spool),
    "copy_edge_spool": partial(to_edge, copy_spool),
    "restore_spool": partial(to_fed, restore_spool),
    "restore_edge_spool": partial(to_edge, restore_spool),
}
"""By the names a plan chooses them with."""
