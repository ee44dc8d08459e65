"""One run: start everything, let faults rain by the seed's order, let the rest drain, and judge."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg

from sungrow_lib.demo.live import EdgeStatus
from sungrow_lib.demo.processes import ChildError, wait_until
from sungrow_lib.demo.setup import ServerAddress
from sungrow_lib.demo.site import DEVICES, DemoSite
from tests.crash.account import Account, Fed, judge_fed, rows_kept_aside
from tests.crash.chain import Backend, Edge, Inverters, kill
from tests.crash.damage import DAMAGES
from tests.crash.deeds import COUNTED, DEEDS, damage_spool
from tests.crash.edge import FINISH, EdgeOrder
from tests.crash.fed import EDGES, EdgeKind, FedEdge
from tests.crash.gate import STORMS, FaultLoop, Line, Stage
from tests.crash.machine import BentClock, SmallDisk, compiler
from tests.crash.polled import judge_polled
from tests.crash.readings import Key, Tally, keys_of

_DRAIN_S: Final = 400.0
"""A backlog that is not delivered so long after the last fault is stuck: the run fails, and says where."""
_SLOW_S: Final = 180.0
"""What takes seconds is given so long, for a busy machine."""
_STRIKES: Final = 15
_LONGEST_STORM_S: Final = 10.0
"""A storm goes on until it has struck so often, for on a busy machine little happens in a second."""
_CORES: Final = 2
_MANY_REFUSED: Final = 200
"""A spool that refuses so many readings is full, and has nothing to merge."""

FAULTS: Final = (
    *("kill_fed",) * 5,
    *("cut", "cut", "mute", "kill_server", "kill_database", "cut_database", "replace_token", "bend_clock"),
    *("limit_spool", "fill_disk", "restore_spool", "back_up_server", "restore_server"),
    *DEEDS,
    *("cut_modbus", "kill_edge", "bend_edge_clock"),
)
"""Every kind of fault beside storms and damages, as often as it comes in a deck."""
_OF_INVERTERS: Final = frozenset({"cut_modbus", "kill_edge", "bend_edge_clock"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run.

    Attributes:
        seed: decides the order of faults and where they strike.
        decks: how often every kind of fault comes at least.
        for_s: go on for so many seconds.
        inverters: whether simulated inverters are polled by `sungrow-edge` too.
        edges: the fed edges.
        storms: which storms of lies there are.
        damages: which damages of spools there are.
        only: which of `FAULTS` there are beside; none for all.
    """

    seed: int
    decks: int = 1
    for_s: float = 0.0
    inverters: bool = True
    edges: tuple[EdgeKind, ...] = EDGES
    storms: tuple[tuple[str, ...], ...] = STORMS
    damages: tuple[str, ...] = tuple(DAMAGES)
    only: frozenset[str] = frozenset()


class Run:
    """A run under way.

    Args:
        plan: what to run.
        folder: an empty folder for everything.
        stack: ends everything.
    """

    def __init__(self, plan: Plan, folder: Path, stack: ExitStack) -> None:
        self.plan, self._folder, self._stack = plan, folder, stack
        self.draw = random.Random(plan.seed)
        self.faults = Counter[str]()
        counted = [f"answer: {name}" for storm in plan.storms for name in storm] + list(plan.damages)
        self.faults.update(dict.fromkeys([*counted, *(() if plan.only else COUNTED)], 0))
        self.site = DemoSite.in_folder(folder, datetime.now(UTC))
        self._loop = stack.enter_context(FaultLoop())
        devices = tuple(dict.fromkeys(device for kind in plan.edges for device in kind.devices))
        self.backend = Backend(self.site, stack, devices, through=self._database_line)
        stage_draw = random.Random(f"{plan.seed}/stage")
        self.stage = Stage(self.backend.address.url, self.backend.certificates, self.faults, stage_draw)
        self._loop.run(self.stage.start())
        stack.callback(lambda: self._loop.run(self.stage.stop()))
        self.uplink = self._line(self.stage.port, "HTTPS")
        self.token_file = folder / "fed.token"
        self.token_file.write_text(self.backend.token)
        self._tokens, self._token_label = 0, "first"
        self._backup = folder / "backup"
        self.fed = list(self._feed(stack))
        self.lines: list[Line] = []
        self.edge: Edge | None = None
        self.clock: BentClock | None = None
        if plan.inverters:
            self._start_inverters(stack)

    def _database_line(self, socket: Path) -> Path:
        """Put an unreliable line before the database's socket; return the folder of its own."""
        folder = self._folder / "line"
        folder.mkdir()
        line = Line(str(socket), self.faults, "PostgreSQL", random.Random(f"{self.plan.seed}/database"))
        self._loop.run(line.start(str(folder / socket.name)))
        self._stack.callback(lambda: self._loop.run(line.stop()))
        self.backend_line = line
        return folder

    def _line(self, target: int, name: str) -> Line:
        line = Line(target, self.faults, name, random.Random(f"{self.plan.seed}/{name}"))
        self._loop.run(line.start())
        self._stack.callback(lambda: self._loop.run(line.stop()))
        return line

    def _feed(self, stack: ExitStack) -> Iterator[FedEdge]:
        for kind in self.plan.edges:
            if kind.has_small_disk and not SmallDisk.can_be_made():
                continue
            order = EdgeOrder(
                **asdict(kind),
                folder=str(self._folder / kind.name),
                disk=str(self._folder / kind.name / "disk"),
                url=f"https://localhost:{self.uplink.port}",
                ca=str(self.backend.certificates.ca),
                token_file=str(self.token_file),
                seed=self.plan.seed,
                begin_ms=int(time.time() - 20 * 86_400) * 1000,
            )
            yield FedEdge(order, stack)

    def _start_inverters(self, stack: ExitStack) -> None:
        inverters = Inverters(self.site, stack)
        self.lines = [self._line(port, "Modbus TCP") for port in inverters.ports]
        for line in self.lines:
            line.doubling, line.losing = 0.02, 0.02
        address = ServerAddress(self.uplink.port, self.backend.address.ca, self.backend.address.token)
        ports = [line.port for line in self.lines]
        cc = compiler()
        if cc is not None:
            folder = self._folder / "bent-clock"
            folder.mkdir()
            self.clock = BentClock(folder, cc)
        self.edge = Edge(self.site, stack, address, self.backend.token, ports, self.clock)

    @property
    def left_out(self) -> dict[str, str]:
        """Faults that cannot be made in this run, and why."""
        absent = {} if self.edge else dict.fromkeys(_OF_INVERTERS, "there are no inverters")
        if self.edge and not self.clock:
            absent["bend_edge_clock"] = "it takes a C compiler"
        if not any(edge.order.has_small_disk for edge in self.fed):
            why = "no disk may be mounted here, and there is no C compiler"
            absent |= dict.fromkeys(("fill_disk", "fill_disk_at_recovery"), why)
        return absent

    # --- faults ------------------------------------------------------------------------------------------

    def deck(self) -> list[Callable[[], None]]:
        """Every kind of fault, as often as it deserves."""
        chosen = [n for n in FAULTS if (not self.plan.only or n in self.plan.only) and n not in self.left_out]
        return [
            *(partial(self.storm, storm) for storm in self.plan.storms),
            *(partial(damage_spool, self, damage) for damage in self.plan.damages),
            *(partial(DEEDS[n], self) if n in DEEDS else getattr(self, n) for n in chosen),
        ]

    def rain(self) -> None:
        """Let faults come in shuffled decks, whole ones, until the plan is fulfilled."""
        self.restore_spool()  # nothing to restore yet: it makes the first copy
        if self.restore_server in self.deck():
            self.back_up_server()
        began, decks = time.monotonic(), 0
        while decks < self.plan.decks or time.monotonic() - began < self.plan.for_s:
            deck = self.deck()
            self.draw.shuffle(deck)
            decks += 1
            for fault in deck:
                fault()
                time.sleep(self.draw.uniform(0.1, 0.6))

    def storm(self, tricks: tuple[str, ...]) -> None:
        """Let the stage lie for a while."""
        names = [f"answer: {name}" for name in tricks]
        enough = sum(self.faults[name] for name in names) + _STRIKES
        self.stage.storm, self.stage.force = tricks, self.draw.uniform(0.4, 1.0)
        time.sleep(self.draw.uniform(0.8, 2.0))
        deadline = time.monotonic() + _LONGEST_STORM_S
        while sum(self.faults[name] for name in names) < enough and time.monotonic() < deadline:
            time.sleep(0.1)
        self.stage.storm = ()
        if "401" in tricks:  # a refused token is not tried again for minutes: with a new one they go on
            self.replace_token()

    def kill_fed(self) -> None:
        """Kill an edge, and start it again."""
        self._kill(self.draw.choice(self.fed))

    def _kill(self, edge: FedEdge) -> None:
        self.faults["SIGKILL: fed edge"] += 1
        kill(edge.child)
        edge.start()

    def kill_edge(self) -> None:
        """Kill `sungrow-edge`, and start it again."""
        assert self.edge is not None
        self.faults["SIGKILL: sungrow-edge"] += 1
        self.edge.restart()

    def kill_server(self) -> None:
        """Kill the server."""
        self.faults["SIGKILL: sungrow-server"] += 1
        self.backend.kill_server(self.draw.uniform(0, 1))

    def kill_database(self) -> None:
        """Kill the database."""
        self.faults["SIGKILL: PostgreSQL"] += 1
        self.backend.kill_database(self.draw.uniform(0, 1))

    def cut_database(self) -> None:
        """Cut the server's connections to the database, or leave them half open."""
        wire = self.backend_line
        self._loop.run(wire.cut() if self.draw.random() < 0.5 else wire.mute(1.0))

    def cut(self) -> None:
        """Cut the edges' connections to the server."""
        self._loop.run(self.uplink.cut())

    def mute(self) -> None:
        """Leave the edges' connections half open."""
        self._loop.run(self.uplink.mute(self.draw.uniform(0.5, 2.0)))

    def cut_modbus(self) -> None:
        """Cut, or leave half open, the connections to the inverters."""
        for line in self.lines:
            self._loop.run(line.cut() if self.draw.random() < 0.5 else line.mute(1.0))

    def replace_token(self) -> None:
        """Revoke the edges' token; then a new one is put in place, half of it first."""
        self.backend.await_health()
        with psycopg.connect(self.backend.postgres.dsn) as connection:
            query = "SELECT token FROM tokens WHERE label = %s"
            [(number,)] = connection.execute(query, (self._token_label,)).fetchall()
        self.backend.commands.run("token", "revoke", str(number))
        self.faults["token revoked and replaced"] += 1
        new = self._new_token()
        self._hand_out(new[: len(new) // 2])
        time.sleep(0.2)
        self._hand_out(new)

    def _new_token(self) -> str:
        self._tokens += 1
        self._token_label = f"token {self._tokens}"
        return self.backend.make_token(self._token_label)

    def _hand_out(self, token: str) -> None:
        for file in (self.token_file, self.site.folder / "edge.token"):
            file.write_text(token)

    def bend_clock(self) -> None:
        """Let a clock that nobody vouches for jump, stay wrong for a while, and come right again."""
        edge = self.named("clock")
        offset_s = self.draw.choice((-3600, -600, 900, 7200, 86_400))
        self.faults["clock jump"] += 1
        edge.steer_clock(offset_s * 1000, synchronised=False)
        time.sleep(self.draw.uniform(0.5, 1.5))
        if self.draw.random() < 0.5:
            self._kill(edge)
            time.sleep(0.5)
        edge.steer_clock(0, synchronised=self.draw.random() < 0.5)

    def bend_edge_clock(self) -> None:
        """Let the clock of `sungrow-edge` jump, with nobody to vouch for it; or set it right again."""
        assert self.clock is not None
        if self.clock.offset_s:
            self.clock.set(0.0, synchronised=self.draw.random() < 0.5)
            return
        self.faults["clock jump: sungrow-edge"] += 1
        self.clock.set(self.draw.choice((-3600, -600, 900, 7200, 86_400)), synchronised=False)

    def limit_spool(self) -> None:
        """Keep the server away until the spool that may not grow has had to make room."""
        self._run_out_of_room("small")
        self.faults["spool at its limit"] += 1

    def fill_disk(self) -> None:
        """Fill a disk to the last byte, keep the server away until its spool has had to make room."""
        edge = self.named("full")
        edge.small_disk.fill()
        self._run_out_of_room("full")
        time.sleep(self.draw.uniform(0, 2))  # the server is back, the disk is still full
        if self.draw.random() < 0.5:
            self._kill(edge)
            time.sleep(0.5)
        edge.small_disk.free()
        self._kill(edge)  # it makes its reserve anew when it starts; else it would in an hour
        self.faults["disk full"] += 1

    def _run_out_of_room(self, name: str) -> None:
        edge = self.named(name)
        log, ledger = edge.folder / "log", edge.folder / "ledger"
        self.stage.storm, self.stage.force = ("request lost",), 1.0

        def count() -> tuple[int, int]:
            return log.read_bytes().count(b"disk full: "), ledger.read_bytes().count(b"\nno ")

        relieved, refused = count()

        def is_full() -> bool:
            now = count()
            return now[0] > relieved or now[1] > refused + _MANY_REFUSED

        wait_until(f"edge {name} to run out of room", is_full, timeout_s=_SLOW_S, watched=[edge.child])
        self.stage.storm = ()

    def named(self, name: str) -> FedEdge:
        """Return the fed edge of a name."""
        return next(edge for edge in self.fed if edge.order.name == name)

    def restore_spool(self) -> None:
        """Restore a spool from the copy made last time, and make a new copy."""
        edge = self.named("damaged")
        kill(edge.child)
        if edge.copied is not None:
            self.faults["spool restored from an older copy"] += 1
            edge.restore_spool()
        edge.copy_spool()
        edge.start()

    def back_up_server(self) -> None:
        """Make a backup of the database: the one that comes back from now on."""
        with self._database_stopped() as data:
            shutil.rmtree(self._backup, ignore_errors=True)
            shutil.copytree(data, self._backup)

    def restore_server(self) -> None:
        """Restore the database from the backup: many times from the same one."""
        kill(self.backend.server)  # what is delivered from now on is sent again
        self.faults["server restored from an older backup"] += 1
        devices = [device for edge in self.fed for device in edge.order.devices]
        before = self._stored_keys(devices)
        with self._database_stopped() as data:
            shutil.rmtree(data)
            shutil.copytree(self._backup, data)
        gone = before - self._stored_keys(devices)
        for edge in self.fed:
            edge.note_server_restored({key for key in gone if key.edge == edge.order.name})
        self._hand_out(self._new_token())  # the backup may know earlier ones only

    @contextmanager
    def _database_stopped(self) -> Iterator[Path]:
        postgres = self.backend.postgres
        kill(self.backend.server)
        postgres.stop()
        yield postgres.data_dir
        postgres.start()
        self.backend.start_server()
        self.backend.await_health()

    # --- the end -----------------------------------------------------------------------------------------

    def drain(self) -> None:
        """End all faults and wait until everything is delivered."""
        self._end_faults()
        for edge in self.fed:
            kill(edge.child)  # what it still waits for after all those faults takes minutes
            edge.start()
        if self.edge is not None:
            self.edge.requeue()
            self.edge.restart()
        for edge in self.fed:
            (edge.folder / FINISH).touch()
        self._await_drained()
        for edge in self.fed:
            if edge.child.exit_status != 0:
                edge.child.require_running()
        if self.edge is not None:
            self._drain_edge(self.edge)

    def _end_faults(self) -> None:
        self.stage.storm = ()
        self._loop.run(self.stage.settle())
        for line in self.lines:
            line.doubling = line.losing = 0.0
        self.backend.await_health()
        for edge in self.fed:
            if edge.order.name == "clock":
                edge.steer_clock(0, synchronised=True)
            if edge.order.has_small_disk:
                edge.small_disk.free()
        if self.clock is not None:
            self.clock.set(0.0, synchronised=True)

    def _await_drained(self) -> None:
        """Wait until the fed edges have delivered all they have, and ended."""
        deadline = time.monotonic() + _DRAIN_S
        while left := [edge for edge in self.fed if edge.child.exit_status is None]:
            if time.monotonic() > deadline:
                server = self.backend.server
                said = [*(edge.stuck() for edge in left), f"the end of {server.log}:\n{server.tail()}"]
                what = f"stuck: {len(left)} fed edges had a backlog {_DRAIN_S:.0f} s after the last fault"
                raise ChildError("\n".join([what, *said]))
            time.sleep(0.2)

    def _drain_edge(self, edge: Edge) -> None:
        status = EdgeStatus(self.site.edge_config)

        def is_empty() -> bool:
            counts = status.ask()
            return counts["pending"] + counts["waiting"] + counts["deferred"] == 0

        what = "sungrow-edge to deliver its backlog"
        wait_until(what, is_empty, timeout_s=_DRAIN_S, watched=[edge.child, self.backend.server])
        edge.child.stop(20)
        wait_until("sungrow-edge's last readings", is_empty, timeout_s=1)

    def judge(self) -> Account:
        """Compare what was taken and what is stored."""
        account = Account()
        rows = self._rows([device for edge in self.fed for device in edge.order.devices])
        tally, destroyed, set_apart = Tally(), dict[Key, str](), set[Key]()
        for edge in self.fed:
            ledger = edge.ledger()
            tally.tried |= ledger.tried
            tally.accepted |= ledger.accepted
            tally.refused |= ledger.refused
            destroyed |= edge.destroyed()
            set_apart |= edge.set_apart()
        fed = Fed(tally, destroyed, set_apart, self.plan.seed)
        judge_fed(account, fed, rows, rows_kept_aside(self.backend.postgres.dsn))
        if self.edge is not None:
            stored = self._rows([device.device_id for device in DEVICES])
            judge_polled(account, self.site, self.edge, stored)
        return account

    def _stored_keys(self, devices: Iterable[str]) -> set[Key]:
        return {key for row in self._rows(devices) for key in keys_of(row)}

    def _rows(self, devices: Iterable[str]) -> list[dict[str, Any]]:
        with psycopg.connect(self.backend.postgres.dsn) as connection:
            known = {name for (name,) in connection.execute("SELECT device_id FROM devices").fetchall()}
        with ThreadPoolExecutor(_CORES) as pool:
            outputs = pool.map(partial(self.backend.commands.run, "export", "--device"), known & set(devices))
            return [json.loads(line) for output in outputs for line in output.splitlines()]


def run(plan: Plan, folder: Path) -> tuple[Account, Counter[str]]:
    """Run a plan in an empty folder; return the account and the faults injected.

    Raises:
        ChildError: a part did not do its job; the message holds the end of its log.
    """
    with ExitStack() as stack:
        under_way = Run(plan, folder, stack)
        under_way.backend.await_health()
        under_way.rain()
        under_way.drain()
        return under_way.judge(), under_way.faults
