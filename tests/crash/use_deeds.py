"""What is done to a spool while a process has it open: damaged, removed, replaced. And its disk fails."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sungrow_lib.demo.processes import wait_until
from tests.crash.card_deeds import TRIES, to_edge, to_fed
from tests.crash.damage import DAMAGES_IN_USE, OF_FILE, PAGE, fold
from tests.crash.either import AnyEdge, await_accepted, down, edge_of, held, keep_undelivered
from tests.crash.failing import ERRORS, READS, WRITES, FailingDisk
from tests.crash.polls import POLLED
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from tests.crash.run import Run

BACK: Final = b"while in use; it is back in its place, with all it holds"
"""What a log says of a spool that was removed or replaced."""
_FEW_PAGES: Final = 10
TRYING: Final = b"once more: "
"""What a fed edge says when it cannot open its spool."""
REFUSING: Final = b"the spool takes no reading"
"""What the log of `sungrow-edge` says when its disk takes nothing."""


def damage_in_use(run: Run, edge: AnyEdge, name: str) -> None:
    """Damage a spool in one way while it is in use, and see that the edge goes on."""
    damage = DAMAGES_IN_USE[name]
    for _ in range(TRIES):
        keep_undelivered(run, edge)
        if damage in OF_FILE and edge.card.path.stat().st_size < _FEW_PAGES * PAGE:
            fold(edge.card.path)  # as the spool's commands do: else there is hardly a page in it yet
        with held(edge.child):
            has_struck = edge.card.damage_in_use(damage, run.draw)
        await_accepted(edge, 1, f"to go on after: {name}")
        if edge.card.wants_resend:
            with down(edge):
                pass
        if has_struck:
            run.faults[f"{edge.label}{name}"] += 1
            return


def damage_edge_in_use(run: Run) -> None:
    """Do it to `sungrow-edge`: each time in the next way."""
    edge = edge_of(run)
    damage_in_use(run, edge, run.next_of(f"{edge.label}in use", DAMAGES_IN_USE))


# --- what harms nothing: the process has it open ---------------------------------------------------------


def _remove(path: Path) -> None:
    path.unlink()


def _remove_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def _remove_all(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink(missing_ok=True)  # whoever has it open may be faster


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


def take_away(run: Run, edge: AnyEdge) -> None:
    """Take an edge's files away, in the next way; wait for them: a kill would end those it has open."""
    name = run.next_of(f"{edge.label}away", AWAY)
    keep_undelivered(run, edge)
    before = edge.log.read_bytes().count(BACK)
    AWAY[name](edge.card.path)
    is_back = partial(_is_back, edge.log, before)
    what = f"the spool of {edge.child.name} to be back after: {name}"
    wait_until(what, is_back, timeout_s=PATIENCE_S, watched=[edge.child])
    run.faults[f"{edge.label}{name}"] += 1


def _is_back(log: Path, before: int) -> bool:
    return log.read_bytes().count(BACK) > before


# --- a disk that fails -----------------------------------------------------------------------------------

FAILING: Final = {f"disk fails in use: {name}": error for name, error in ERRORS.items()}
"""Every way in which a disk fails, for writing alone or for reading too."""


def fail_disk(run: Run) -> None:
    """Let a fed edge's disk fail for a while, in the next way."""
    edge, name = run.named("damaged"), run.next_of("failing", FAILING)
    assert edge.failing is not None
    keep_undelivered(run, edge)
    ledger = edge.folder / "ledger"
    enough = ledger.read_bytes().count(b"\nno ") + 1
    _fail(run, edge.failing, name)
    what = f"edge {edge.order.name} to be refused readings: {name}"
    wait_until(what, lambda: ledger.read_bytes().count(b"\nno ") >= enough, timeout_s=PATIENCE_S)
    time.sleep(run.draw.uniform(0, 3))
    is_killed = run.draw.random() < 0.5
    if is_killed:
        run.kill(edge)
        time.sleep(1)
    edge.failing.works()
    if is_killed and edge.child.exit_status is not None:  # it may end then; a supervisor would start it again
        edge.start()
    await_accepted(edge, 1, f"to go on after: {name}")
    run.faults[name] += 1


def fail_edge_disk(run: Run) -> None:
    """Do the same to `sungrow-edge`: it keeps readings in memory meanwhile."""
    edge, name = edge_of(run), run.next_of(f"{POLLED}: failing", FAILING)
    assert edge.failing is not None
    keep_undelivered(run, edge)
    log, since = edge.log, time.time()
    refusals = log.read_bytes().count(REFUSING)
    _fail(run, edge.failing, name)
    what = f"sungrow-edge to be refused readings: {name}"
    wait_until(what, lambda: log.read_bytes().count(REFUSING) > refusals, timeout_s=PATIENCE_S)
    time.sleep(run.draw.uniform(0, 6))
    is_killed = run.draw.random() < 0.5
    if is_killed:
        edge.restart()
        time.sleep(3)
    edge.failing.works()
    if is_killed and edge.child.exit_status is not None:  # as above
        edge.start()
    edge.no_room.append((since, time.time()))
    await_accepted(edge, 1, f"to go on after: {name}")
    run.faults[f"{POLLED}: {name}"] += 1


# --- a disk that fails from the start on -----------------------------------------------------------------

STARTS: Final = {f"disk fails at the start: {name}": error for name, error in ERRORS.items()}
"""Every way in which a disk fails already when the process starts. Later it works."""


def start_without_disk(run: Run) -> None:
    """Start a fed edge on a disk that fails, in the next way: it is to go on trying."""
    edge, name = run.named("damaged"), run.next_of("failing at the start", STARTS)
    assert edge.failing is not None
    keep_undelivered(run, edge)
    edge.kill()
    said, ledger = edge.child.log.stat().st_size, edge.folder / "ledger"
    refused = ledger.read_bytes().count(b"\nno ")
    _fail(run, edge.failing, name)
    edge.start()

    def has_noticed() -> bool:
        tells = edge.child.log.read_bytes()[said:]
        return TRYING in tells or ledger.read_bytes().count(b"\nno ") > refused

    wait_until(
        f"edge {edge.order.name} to notice: {name}", has_noticed, timeout_s=PATIENCE_S, watched=[edge.child]
    )
    time.sleep(run.draw.uniform(0, 3))
    if run.draw.random() < 0.5:
        run.kill(edge)
        time.sleep(1)
    edge.failing.works()
    await_accepted(edge, 1, f"to open its spool after: {name}")
    run.faults[name] += 1


def start_edge_without_disk(run: Run) -> None:
    """Start `sungrow-edge` so: it polls into memory until it can open its spool, or is killed before."""
    edge, name = edge_of(run), run.next_of(f"{POLLED}: failing at the start", STARTS)
    assert edge.failing is not None
    keep_undelivered(run, edge)
    edge.kill()
    log, since = edge.log, time.time()
    refusals = log.read_bytes().count(REFUSING)
    _fail(run, edge.failing, name)
    edge.start()
    what = f"sungrow-edge to keep readings in memory: {name}"
    wait_until(
        what, lambda: log.read_bytes().count(REFUSING) > refusals, timeout_s=PATIENCE_S, watched=[edge.child]
    )
    time.sleep(run.draw.uniform(5, 15))
    if run.draw.random() < 0.5:
        edge.restart()
        time.sleep(5)
    edge.failing.works()
    edge.no_room.append((since, time.time()))
    await_accepted(edge, 1, f"to open its spool after: {name}")
    run.faults[f"{POLLED}: {name}"] += 1


def _fail(run: Run, disk: FailingDisk, name: str) -> None:
    disk.fails(
        (FAILING | STARTS)[name],
        run.draw.choice((WRITES, WRITES | READS)) if name.endswith("EIO") else WRITES,
    )


USE_DEEDS: Final[dict[str, Callable[[Run], None]]] = {
    "damage_edge_in_use": damage_edge_in_use,
    "take_away": partial(to_fed, take_away),
    "take_away_from_edge": partial(to_edge, take_away),
    "fail_disk": fail_disk,
    "fail_edge_disk": fail_edge_disk,
    "start_without_disk": start_without_disk,
    "start_edge_without_disk": start_edge_without_disk,
}
"""By the names a plan chooses them with."""
