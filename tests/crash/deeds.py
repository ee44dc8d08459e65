"""Faults that take several steps: disks that get full, a server that goes back twice, clocks and delays."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import psycopg

from sungrow_lib.demo.processes import ChildError, wait_until
from tests.crash.damage import header_overwritten, one_frame_flipped
from tests.crash.either import await_accepted, down, keep_undelivered, server_away
from tests.crash.fed import NARROWED
from tests.crash.gate import ABOUT_ONE
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from tests.crash.fed import FedEdge
    from tests.crash.run import Run

DELAYS: Final = ("request late", "answer late")
_UNDELIVERED: Final = 10
"""So many readings of each device that the backup lacks are called delivered before the server goes back."""
_MANY_REFUSED: Final = 200
"""A spool that refuses so many readings is full, and has nothing to merge."""
MERGED: Final = b"not yet offered were merged"
"""What a spool's log says then."""
NARROW_KBIT_S: Final = (24.0, 28.0, 32.0)
"""A whole batch of the edge in question has 35 kB, and it waits eight seconds for an answer."""
_LONG_ENOUGH_S: Final = 180.0
"""What need not come is waited for so long."""
_RESEND_S: Final = 20.0


def damage_waiting(run: Run) -> None:
    """Damage one frame of a log in which readings wait for a clock, or have just been dated."""
    edge = run.named("clock")
    edge.steer_clock(run.draw.choice((-3600, 7200)) * 1000, synchronised=False)
    keep_undelivered(run, edge)
    if run.draw.random() < 0.5:
        edge.steer_clock(0, synchronised=True)
        keep_undelivered(run, edge)
    with down(edge) as card:
        edge.steer_clock(0, synchronised=True)
        run.faults["spool damaged: log with waiting readings"] += card.damage(one_frame_flipped, run.draw)


def copy_card(run: Run) -> None:
    """Let one of two edges of a device go on with a copy of the other's spool: they have one edge id then."""
    one, other = run.draw.sample([run.named("twin-1"), run.named("twin-2")], 2)
    with down(other), down(one) as card:
        card.take_over(other.card)
    run.faults["spool copied to another edge of the same device"] += 1


def limit_spool(run: Run) -> None:
    """Keep the server away until the spools that may not grow have had to make room."""
    run_out_of_room(run, [edge for edge in run.fed if edge.order.max_bytes])
    run.faults["spool at its limit"] += 1


def fill_disk(run: Run) -> None:
    """Fill a disk to the last byte, keep the server away until its spool has had to make room."""
    edge = run.named("full")
    edge.no_room_until = math.inf
    edge.small_disk.fill()
    run_out_of_room(run, [edge])
    if _is_merging(run, edge):
        run.faults["disk full until readings are merged"] += 1
    time.sleep(run.draw.uniform(0, 2))  # the server is back, the disk is still full
    if run.draw.random() < 0.5:
        run.kill(edge)
        time.sleep(0.5)
    edge.small_disk.free()
    run.kill(edge)  # it makes its reserve anew when it starts; else it would in an hour
    edge.no_room_until = time.time()
    run.faults["disk full"] += 1


def run_out_of_room(run: Run, edges: list[FedEdge]) -> None:
    """Keep the server away until these edges have had to make room, or to refuse readings."""
    run.stage.storm, run.stage.force = ("request lost",), 1.0
    wanted = [(edge, _room_wanted(edge)) for edge in edges]
    with ExitStack() as hurry:
        for edge in edges:
            hurry.enter_context(edge.hurrying())
        for edge, before in wanted:
            wait_until(
                f"{edge.child.name} to run out of room",
                partial(_has_no_room, edge, before),
                timeout_s=PATIENCE_S,
                watched=[edge.child],
            )
    run.stage.storm = ()


def _is_merging(run: Run, edge: FedEdge) -> bool:
    """Keep the server away until what was delivered is gone, and readings are merged; not for ever."""
    merged = edge.child.log.read_bytes().count(MERGED)
    run.stage.storm, run.stage.force = ("request lost",), 1.0
    with suppress(ChildError), edge.hurrying():
        wait_until(
            "readings to be merged",
            lambda: edge.child.log.read_bytes().count(MERGED) > merged,
            timeout_s=_LONG_ENOUGH_S,
        )
    run.stage.storm = ()
    return edge.child.log.read_bytes().count(MERGED) > merged


def _room_wanted(edge: FedEdge) -> tuple[int, int]:
    """How often a spool made room, and how many readings it refused."""
    log, ledger = edge.folder / "log", edge.folder / "ledger"
    return log.read_bytes().count(b"disk full: "), ledger.read_bytes().count(b"\nno ")


def _has_no_room(edge: FedEdge, before: tuple[int, int]) -> bool:
    relieved, refused = _room_wanted(edge)
    return relieved > before[0] or refused > before[1] + _MANY_REFUSED


def fill_disk_at_recovery(run: Run) -> None:
    """Let there be no room for the new file when a damaged spool is opened."""
    edge = run.named("full")
    edge.kill()
    edge.card.damage(header_overwritten, run.draw)
    edge.no_room_until = math.inf
    edge.small_disk.fill()
    said = edge.child.log.stat().st_size
    edge.start()
    with suppress(ChildError):  # it says that there is no room, and ends; a supervisor would start it again
        wait_until("a recovery without room", lambda: edge.child.exit_status is not None, timeout_s=10)
    if b"No room" in edge.child.log.read_bytes()[said:]:
        run.faults["disk full during a recovery"] += 1
    edge.kill(may_have_ended=True)
    edge.small_disk.free()
    edge.start()
    await_accepted(edge, 1, "to recover its spool")  # a disk that is full again before that would end it
    edge.no_room_until = time.time()


def narrow_line(run: Run) -> None:
    """Let a line carry too little for a whole batch in the time of a request, until as many have passed."""
    edge = run.named(NARROWED)
    [device_id] = edge.order.devices
    with run.own_line.narrow(run.draw.choice(NARROW_KBIT_S)):
        with server_away(run), edge.hurrying():
            await_accepted(edge, edge.order.batch_size * 3 // 2, "to take more than a batch")
        enough = edge.delivered(device_id) + edge.order.batch_size
        wait_until(
            f"{edge.child.name} to deliver through a narrow line",
            lambda: edge.delivered(device_id) >= enough,
            timeout_s=PATIENCE_S,
            watched=[edge.child],
        )


def count_rows(run: Run) -> Counter[str]:
    """Count the rows of each device in the database."""
    query = "SELECT device_id, count(*) FROM samples JOIN devices USING (device) GROUP BY device_id"
    with psycopg.connect(run.backend.postgres.dsn) as connection:
        return Counter(dict(connection.execute(query).fetchall()))


def count_delivered(run: Run) -> Counter[str]:
    """Count the readings of each device that edges have called delivered, those sent again each time."""
    devices = {device for edge in run.fed for device in edge.order.devices}
    return Counter({name: sum(edge.delivered(name) for edge in run.fed) for name in devices})


def await_deliveries(run: Run) -> None:
    """Wait until of each device some readings are called delivered that the backup lacks; not for ever.

    It is not enough that they are in the database: an edge that got no answer sends them again by itself.
    Where more are called delivered than the backup has, some are not in it.
    """
    enough = {
        device: _UNDELIVERED + max(before, run.backed_up[device])
        for device, before in run.delivered_then.items()
    }
    deadline = time.monotonic() + _LONG_ENOUGH_S
    while time.monotonic() < deadline:
        delivered = count_delivered(run)
        if all(delivered[device] >= count for device, count in enough.items()):
            return
        time.sleep(0.5)


def restore_server_twice(run: Run) -> None:
    """Restore the server; revoke the token while all is being sent again; then restore it once more."""
    asked = run.stage.resends
    run.restore_server()
    if not _is_resending(run, asked):
        return
    run.replace_token()
    run.faults["token revoked during a resend"] += 1
    time.sleep(run.draw.uniform(0.2, 2))
    run.stage.storm, run.stage.force = (ABOUT_ONE,), 1.0  # those would tell what it lost
    run.restore_server(at_once=True)
    run.faults["server restored again during a resend"] += 1
    run.storm((ABOUT_ONE,), force=1.0)


def _is_resending(run: Run, asked: int) -> bool:
    """Wait until the server has asked an edge for everything; return whether it did."""
    deadline = time.monotonic() + _RESEND_S
    while run.stage.resends == asked and time.monotonic() < deadline:
        time.sleep(0.02)
    return run.stage.resends > asked


def delay_across_restarts(run: Run) -> None:
    """Delay requests and answers, so that they come in another order, and kill both ends meanwhile."""
    run.stage.storm, run.stage.force = DELAYS, 0.7
    time.sleep(run.draw.uniform(0.5, 1.5))
    for _ in range(2):
        run.kill_fed()
    run.kill_server()
    run.backend.await_health()
    run.faults["restart amid delayed requests and answers"] += 1
    run.storm(DELAYS)


def bend_clock(run: Run) -> None:
    """Let a clock that nobody vouches for jump, stay wrong for a while, and come right again."""
    edge = run.named("clock")
    offset_s = run.draw.choice((-3600, -600, 900, 7200, 86_400))
    run.faults["clock jump: fed edge"] += 1
    edge.steer_clock(offset_s * 1000, synchronised=False)
    time.sleep(run.draw.uniform(0.5, 1.5))
    if run.draw.random() < 0.5:
        run.kill(edge)
        time.sleep(0.5)
    edge.steer_clock(0, synchronised=run.draw.random() < 0.5)


def step_clock(run: Run) -> None:
    """Let a clock that is a little wrong be put right in steps, as NTP does, while a backlog drains."""
    edge = run.named("clock")
    edge.steer_clock(run.draw.choice((-90, -5, 5, 90)) * 1000, synchronised=False)
    keep_undelivered(run, edge)
    for offset_ms in (run.draw.choice((-1500, 1500)), run.draw.choice((-40, 40)), 0):
        edge.steer_clock(offset_ms, synchronised=True)
        run.faults["clock stepped while a backlog drains"] += 1
        time.sleep(run.draw.uniform(0.1, 0.5))


DEEDS: Final[dict[str, Callable[[Run], None]]] = {
    "copy_card": copy_card,
    "limit_spool": limit_spool,
    "fill_disk": fill_disk,
    "damage_waiting": damage_waiting,
    "fill_disk_at_recovery": fill_disk_at_recovery,
    "narrow_line": narrow_line,
    "restore_server_twice": restore_server_twice,
    "delay_across_restarts": delay_across_restarts,
    "step_clock": step_clock,
    "bend_clock": bend_clock,
}
"""By the names a plan chooses them with."""
