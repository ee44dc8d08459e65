"""What is done to an edge's spool while the edge is down: damaged, copied, put back, replaced, deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sungrow_lib.demo.processes import wait_until
from sungrow_lib.spool import HeldWhy
from tests.crash.chain import KILLED
from tests.crash.damage import DAMAGES, names_overwritten
from tests.crash.either import AnyEdge, await_accepted, down, edge_of, keep_undelivered, server_away
from tests.crash.readings import keys_of
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from tests.crash.run import Run

OTHERS: Final = "another edge's spool in its place"
OWN_AGAIN: Final = "its own spool put back"
ANEW: Final = "spool begun anew"
EARLIER_LIFE: Final = "spool of an earlier life put back"
NAMELESS: Final = "names of a spool lost, and given back with the command"
RENAMING_KILLED: Final = "SIGKILL: spool rename"
_MOST_CHANGES: Final = 30
"""A renaming makes some more of them on the disk."""
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


def put_in_other_spool(run: Run, edge: AnyEdge) -> None:
    """Put the spool of another edge in the place of this one's; that edge begins anew.

    It has readings that are nowhere else. The edge may not send them until its owner names their device.
    """
    if edge.card.is_lent:
        put_back_own_spool(run, edge)
    guest, owner_file = run.named("guest"), Path(f"{edge.card.path}.owner.json")
    with server_away(run):
        await_accepted(guest, guest.few, "to take some readings")
        await_accepted(edge, 1, "to have a spool of its own")  # who remembers none believes any
        wait_until("that to be remembered", owner_file.exists, timeout_s=PATIENCE_S, watched=[edge.child])
        with down(guest), down(edge) as card:
            card.take_in(guest.card)
        await_accepted(edge, edge.few, "to go on with another edge's spool")
    if not _held_now(edge):
        [device_id] = guest.order.devices
        run.mistaken.append(f"{guest.order.name}/{device_id}: not held back by {edge.child.name}")
    if run.draw.random() < 0.5:
        name_devices(edge)
    run.faults[f"{edge.label}{OTHERS}"] += 1


def put_back_own_spool(run: Run, edge: AnyEdge) -> None:
    """Put its own spool back in the place of another edge's, maybe before all of that is delivered."""
    if not edge.card.is_lent:
        put_in_other_spool(run, edge)
    if run.draw.random() < 0.5:
        deliver_others(run, edge)
    with down(edge) as card:
        card.give_back()
    run.faults[f"{edge.label}{OWN_AGAIN}"] += 1


def deliver_others(run: Run, edge: AnyEdge) -> None:
    """Name the devices of another edge's spool, and wait until all is delivered, as its owner would."""
    name_devices(edge)
    wait_until(
        f"{edge.child.name} to deliver another edge's readings",
        partial(_is_delivered, edge, run.named("guest").order.name),
        timeout_s=PATIENCE_S,
        watched=[edge.child],
    )


def name_devices(edge: AnyEdge) -> None:
    """Name the devices that are held back as their readings tell, with the command for it."""
    for held, device_id in _held(edge).items():
        if edge.said(*_renaming(held, device_id)) is None:  # there are some of the same times
            edge.said("set-aside", held)


def _renaming(held: str, device_id: str) -> tuple[str, ...]:
    return "rename", held, device_id, "--into-existing", "--force"


def lose_names(run: Run, edge: AnyEdge) -> None:
    """Damage the pages that name an edge's devices, and give the names back; the command is killed first."""
    for _ in range(TRIES):
        keep_undelivered(run, edge)
        with down(edge) as card:
            card.damage(names_overwritten, run.draw)
        await_accepted(edge, 1, "to go on without its devices' names")  # which are known from then on, too
        if held := _held(edge):
            break
    for pair in held.items():
        killing = run.killing(edge.card.folder, after=run.draw.randint(1, _MOST_CHANGES))
        if edge.said(*_renaming(*pair), environment=killing) == KILLED:
            run.faults[f"{edge.label}{RENAMING_KILLED}"] += 1
    name_devices(edge)
    run.faults[f"{edge.label}{NAMELESS}"] += bool(held)


def _held(edge: AnyEdge) -> dict[str, str]:
    """Return the devices whose readings are held back, each with the one it is by its readings."""
    said = edge.said("list", "--json", "--limit", str(10**9)) or ""
    contents: dict[str, list[dict[str, Any]]] = {}
    for record in map(json.loads, said.splitlines()):
        if record.get("held") not in {None, HeldWhy.ASIDE}:
            contents.setdefault(record["device_id"], []).append(record["content"])
    return {held: edge.device_of(found) for held, found in contents.items()}


def _held_now(edge: AnyEdge) -> set[str]:
    """Return the devices whose readings are held back by an edge that has opened its spool."""
    answers: list[dict[str, Any]] = []

    def has_answered() -> bool:
        said = edge.said("stats", "--json")
        answers.extend([] if said is None else [json.loads(said)])
        return bool(answers)

    wait_until("`spool stats`", has_answered, timeout_s=PATIENCE_S, watched=[edge.child])
    return {name for name, held in answers[-1]["held"].items() if held["why"] != HeldWhy.ASIDE}


def _is_delivered(edge: AnyEdge, other: str) -> bool:
    """Whether nothing of another edge is left to be delivered, whatever the device is called here."""
    for state in ("pending", "waiting"):
        said = edge.said("list", "--json", "--limit", str(10**9), "--state", state)
        if said is None:
            return False
        contents = [json.loads(line)["content"] for line in said.splitlines()]
        if any(key.edge == other for content in contents for key in keys_of(content)):
            return False
    return True


def begin_anew(run: Run, edge: AnyEdge) -> None:
    """Delete its spool, as somebody does who wants a new one."""
    keep_undelivered(run, edge)
    with down(edge) as card:
        card.begin_anew()
    await_accepted(edge, 1, "to begin anew")
    run.faults[f"{edge.label}{ANEW}"] += 1


def return_to_earlier_life(run: Run, edge: AnyEdge) -> None:
    """Put back a copy of the spool from before it was begun anew."""
    with down(edge) as card:
        card.copy()
    begin_anew(run, edge)
    keep_undelivered(run, edge)
    with down(edge) as card:
        card.restore()
    await_accepted(edge, 1, "to go on as it was before")
    run.faults[f"{edge.label}{EARLIER_LIFE}"] += 1


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
    "lose_names": partial(to_fed, lose_names),
    "lose_edge_names": partial(to_edge, lose_names),
    "copy_spool": partial(to_fed, copy_spool),
    "copy_edge_spool": partial(to_edge, copy_spool),
    "lend_spool": partial(to_fed, put_in_other_spool),
    "lend_edge_spool": partial(to_edge, put_in_other_spool),
    "return_spool": partial(to_fed, put_back_own_spool),
    "return_edge_spool": partial(to_edge, put_back_own_spool),
    "begin_anew": partial(to_fed, begin_anew),
    "begin_edge_anew": partial(to_edge, begin_anew),
    "return_to_earlier_life": partial(to_fed, return_to_earlier_life),
    "return_edge_to_earlier_life": partial(to_edge, return_to_earlier_life),
    "restore_spool": partial(to_fed, restore_spool),
    "restore_edge_spool": partial(to_edge, restore_spool),
}
"""By the names a plan chooses them with."""
