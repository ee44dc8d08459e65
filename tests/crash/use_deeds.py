"""What is done to a spool while a process has it open: its files are damaged, removed and replaced."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sungrow_lib.demo.processes import Child, wait_until
from tests.crash import edge_deeds
from tests.crash.damage import DAMAGES_IN_USE, PAGE, fold
from tests.crash.deeds import keep_undelivered, taken
from tests.crash.failing import ERRORS, READS, WRITES, FailingDisk
from tests.crash.polls import POLLED

if TYPE_CHECKING:
    from tests.crash.chain import Edge
    from tests.crash.fed import FedEdge
    from tests.crash.run import Run

BACK: Final = b"while in use; it is back in its place, with all it holds"
"""What a log says of a spool that was removed or replaced."""
_SLOW_S: Final = 180.0
_BACK_S: Final = 60.0
_FEW_PAGES: Final = 10
REFUSING: Final = b"the spool takes no reading"
"""What the log of `sungrow-edge` says when its disk takes nothing."""


def damage_in_use(run: Run, name: str) -> None:
    """Damage a fed edge's spool in one way while it is in use, and see that the edge goes on."""
    edge = run.named("damaged")
    keep_undelivered(run, edge)
    _see_to_pages(edge)
    with held(edge.child):
        is_damaged = edge.card.damage_in_use(DAMAGES_IN_USE[name], run.draw)
    enough = taken(edge) + 1
    what = f"edge {edge.order.name} to go on after: {name}"
    wait_until(what, lambda: taken(edge) >= enough, timeout_s=_SLOW_S, watched=[edge.child])
    run.faults[name] += is_damaged
    _offer_again(edge)


def damage_edge_in_use(run: Run) -> None:
    """Do the same to `sungrow-edge`: each time in the next way."""
    edge, name = edge_deeds.edge_of(run), run.next_of(f"{POLLED}, in use", DAMAGES_IN_USE)
    edge_deeds.keep_undelivered(run, edge)
    _see_to_pages(edge)
    with held(edge.child):
        is_damaged = edge.card.damage_in_use(DAMAGES_IN_USE[name], run.draw)
    enough = edge.accepted() + 1
    what = f"sungrow-edge to go on after: {name}"
    wait_until(what, lambda: edge.accepted() >= enough, timeout_s=_SLOW_S, watched=[edge.child])
    run.faults[f"{POLLED}: {name}"] += is_damaged
    _offer_again(edge)


def _see_to_pages(edge: FedEdge | Edge) -> None:
    """Fold the log into a file that has hardly any pages to damage yet, as the spool's commands do."""
    if edge.card.path.stat().st_size < _FEW_PAGES * PAGE:
        fold(edge.card.path)


def _offer_again(edge: FedEdge | Edge) -> None:
    if edge.card.wants_resend:
        edge.kill()
        edge.start()


# --- what harms nothing: the process has it open ---------------------------------------------------------


def _remove(path: Path) -> None:
    path.unlink()


def _remove_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def _remove_all(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def _replace_by_text(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("no spool")
    other.replace(path)


def _replace_by_copy(path: Path) -> None:
    """The file without its log: an earlier state of itself."""
    other = path.with_name("other")
    shutil.copyfile(path, other)
    other.replace(path)


AWAY: Final[dict[str, Callable[[Path], None]]] = {
    "spool away in use: file deleted": _remove,
    "spool away in use: log deleted": _remove_log,
    "spool away in use: all files deleted": _remove_all,
    "spool away in use: file replaced by another": _replace_by_text,
    "spool away in use: file replaced by a copy": _replace_by_copy,
}
"""Every way to take a spool's files away from the process that has them open. It brings them back."""


def take_away(run: Run) -> None:
    """Take a fed edge's files away, in the next way; wait for them: a kill would end those it has open."""
    edge, name = run.named("damaged"), run.next_of("fed, away", AWAY)
    keep_undelivered(run, edge)
    _take_away(edge.child, edge.card.path, edge.child.log, name)
    run.faults[name] += 1


def take_away_from_edge(run: Run) -> None:
    """Do the same to `sungrow-edge`."""
    edge, name = edge_deeds.edge_of(run), run.next_of(f"{POLLED}, away", AWAY)
    edge_deeds.keep_undelivered(run, edge)
    _take_away(edge.child, edge.card.path, run.site.log("edge"), name)
    run.faults[f"{POLLED}: {name}"] += 1


def _take_away(child: Child, path: Path, log: Path, name: str) -> None:
    before = log.read_bytes().count(BACK)
    AWAY[name](path)
    is_back = partial(_is_back, log, before)
    wait_until(f"the spool to be back after: {name}", is_back, timeout_s=_BACK_S, watched=[child])


def _is_back(log: Path, before: int) -> bool:
    return log.read_bytes().count(BACK) > before


# --- a disk that fails -----------------------------------------------------------------------------------

FAILING: Final = {f"disk fails in use: {name}": error for name, error in ERRORS.items()}
"""Every way in which a disk fails, for writing alone or for reading too."""


def fail_disk(run: Run) -> None:
    """Let a fed edge's disk fail for a while, in the next way."""
    edge, name = run.named("damaged"), run.next_of("fed, failing", FAILING)
    assert edge.failing is not None
    keep_undelivered(run, edge)
    ledger = edge.folder / "ledger"
    enough = ledger.read_bytes().count(b"\nno ") + 1
    _fail(run, edge.failing, name)
    what = f"edge {edge.order.name} to be refused readings: {name}"
    wait_until(what, lambda: ledger.read_bytes().count(b"\nno ") >= enough, timeout_s=_SLOW_S)
    time.sleep(run.draw.uniform(0, 3))
    is_killed = run.draw.random() < 0.5
    if is_killed:
        run.kill(edge)
        time.sleep(1)
    edge.failing.works()
    if is_killed and edge.child.exit_status is not None:  # it may end then; a supervisor would start it again
        edge.start()
    again = taken(edge) + 1
    what = f"edge {edge.order.name} to go on after: {name}"
    wait_until(what, lambda: taken(edge) >= again, timeout_s=_SLOW_S, watched=[edge.child])
    run.faults[name] += 1


def fail_edge_disk(run: Run) -> None:
    """Do the same to `sungrow-edge`: it keeps readings in memory meanwhile."""
    edge, name = edge_deeds.edge_of(run), run.next_of(f"{POLLED}, failing", FAILING)
    assert edge.failing is not None
    edge_deeds.keep_undelivered(run, edge)
    log, since = run.site.log("edge"), time.time()
    refusals = log.read_bytes().count(REFUSING)
    _fail(run, edge.failing, name)
    what = f"sungrow-edge to be refused readings: {name}"
    wait_until(what, lambda: log.read_bytes().count(REFUSING) > refusals, timeout_s=_SLOW_S)
    time.sleep(run.draw.uniform(0, 6))
    is_killed = run.draw.random() < 0.5
    if is_killed:
        edge.restart()
        time.sleep(3)
    edge.failing.works()
    if is_killed and edge.child.exit_status is not None:  # as above
        edge.start()
    edge.no_room.append((since, time.time()))
    again = edge.accepted() + 1
    what = f"sungrow-edge to go on after: {name}"
    wait_until(what, lambda: edge.accepted() >= again, timeout_s=_SLOW_S, watched=[edge.child])
    run.faults[f"{POLLED}: {name}"] += 1


def _fail(run: Run, disk: FailingDisk, name: str) -> None:
    disk.fails(FAILING[name], run.draw.choice((WRITES, WRITES | READS)) if name.endswith("EIO") else WRITES)


@contextmanager
def held(child: Child) -> Iterator[None]:
    """Hold a process: what happens meanwhile happens at one moment of its."""
    os.kill(child.pid, signal.SIGSTOP)
    try:
        time.sleep(0.05)  # it stops on its way back from the system
        yield
    finally:
        os.kill(child.pid, signal.SIGCONT)


USE_DEEDS: Final[dict[str, Callable[[Run], None]]] = {
    "damage_edge_in_use": damage_edge_in_use,
    "take_away": take_away,
    "take_away_from_edge": take_away_from_edge,
    "fail_disk": fail_disk,
    "fail_edge_disk": fail_edge_disk,
}
"""By the names a plan chooses them with."""
