"""One run: start everything, let faults rain by the seed's order, let the rest drain, and judge."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import psycopg

from sungrow_lib.demo.live import EdgeStatus
from sungrow_lib.demo.processes import Child, python, wait_until
from sungrow_lib.demo.setup import ServerAddress, clean_environment
from sungrow_lib.demo.site import DEVICES, DemoSite
from sungrow_lib.spool import DurableSpool, SpoolState
from tests.crash.account import Account, Fed, judge_fed, keys_in, rows_kept_aside
from tests.crash.chain import Backend, Edge, Inverters, kill
from tests.crash.edge import FINISH, EdgeOrder
from tests.crash.gate import STORMS, FaultLoop, Line, Stage
from tests.crash.polled import judge_polled
from tests.crash.readings import Key, Tally, keys_of, read_ledger

FROM_SPOOL: Final = "taken from a spool: on pages it damaged, or newer than the copy it put back"
FULL_AND_RESTORED: Final = "delivered, let go by a full spool, then gone with an older backup of the server"
"""Why a reading can be nowhere although nothing of the product failed."""
_PAGE: Final = 1024
_DRAIN_S: Final = 150.0


@dataclass(frozen=True, slots=True)
class EdgeKind:
    """One fed edge: its devices, the pace of its readings, and a deliberate fault of the product, if any."""

    name: str
    devices: tuple[str, ...]
    pause_s: float
    grid_ms: int = 1
    fault: str = ""
    max_bytes: int | None = None
    step_ms: int = 0


EDGES: Final = (
    EdgeKind("plain", ("crash-a", "crash-b"), 0.02),
    EdgeKind("damaged", ("crash-c",), 0.04),
    EdgeKind("twin-1", ("crash-d",), 0.2, 100),
    EdgeKind("twin-2", ("crash-d",), 0.2, 100),
    EdgeKind("clock", ("crash-e",), 0.05),
    EdgeKind("small", ("crash-f",), 0.01, max_bytes=260_000, step_ms=5000),
)
"""One with two devices, one whose spool is damaged, two twins of one device, one with a bad clock, one with a
small disk."""


FAULTS: Final = (
    *("kill_fed",) * 5,
    *("cut", "cut", "mute", "kill_server", "kill_database", "cut_database", "replace_token", "bend_clock"),
    *("fill_disk", "damage_spool", "restore_spool", "restore_server", "cut_modbus", "kill_edge"),
)
"""Every kind of fault beside the storms, as often as it comes in a deck."""
_OF_INVERTERS: Final = frozenset({"cut_modbus", "kill_edge"})


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
        only: which of `FAULTS` there are beside; none for all.
    """

    seed: int
    decks: int = 1
    for_s: float = 0.0
    inverters: bool = True
    edges: tuple[EdgeKind, ...] = EDGES
    storms: tuple[tuple[str, ...], ...] = STORMS
    only: frozenset[str] = frozenset()


class FedEdge:
    """A process of `edge.py`, and what the harness did to its spool."""

    def __init__(self, order: EdgeOrder, stack: ExitStack) -> None:
        self.order, self._stack = order, stack
        self.folder = Path(order.folder)
        self.folder.mkdir()
        self.taken: dict[Key, bool] = {}
        """Readings the harness took from the spool; whether the server has had them ever since."""
        self.undone = set[Key]()
        """Readings the server had before an older backup came back, where a full disk lets go of them."""
        self.copied: Path | None = None
        self._server_went_back = False
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.child = Child(
            f"edge {self.order.name}",
            python("tests.crash.edge", json.dumps(asdict(self.order))),
            self.folder / "log",
            environment=clean_environment(),
        )
        self._stack.callback(kill, self.child)

    def ledger(self) -> Tally:
        """What became of its readings."""
        return read_ledger(self.folder / "ledger")

    def steer_clock(self, offset_ms: int, *, synchronised: bool) -> None:
        """Set its clock wrong, or right again."""
        draft = self.folder / "clock.new"
        draft.write_text(json.dumps({"offset_ms": offset_ms, "synchronised": synchronised}))
        draft.replace(self.folder / "clock.json")

    def copy_spool(self) -> None:
        """Keep a copy of the spool to restore later; the process must not run."""
        self.copied = self.folder.with_name(f"{self.folder.name}-copy")
        self._server_went_back = False
        shutil.rmtree(self.copied, ignore_errors=True)
        self.copied.mkdir()
        for file in self.folder.glob("spool.sqlite*"):
            shutil.copy(file, self.copied)

    def restore_spool(self) -> None:
        """Put the copy in the place of the spool, and note what that takes away."""
        assert self.copied is not None
        before, kept = keys_in(self.folder), keys_in(self.copied)
        self._note_taken({key: state for key, state in before.items() if key not in kept})
        for file in self.folder.glob("spool.sqlite*"):
            file.unlink()
        for file in self.copied.iterdir():
            shutil.copy(file, self.folder)
        if self._server_went_back:  # the copy cannot know; the runbook says what to do
            anyio.run(self._offer_all_again)

    async def _offer_all_again(self) -> None:
        """Do what `sungrow-edge spool resend` does."""
        async with DurableSpool.open(self.folder / "spool.sqlite") as spool:
            for device_id in self.order.devices:
                await spool.reoffer(device_id)

    def damage_spool(self, draw: random.Random) -> None:
        """Overwrite some pages, and note which readings stood on them."""
        before = keys_in(self.folder)
        file = self.folder / "spool.sqlite"
        content = bytearray(file.read_bytes())
        pages = len(content) // _PAGE
        chosen = draw.sample(range(1, pages), min(3, max(0, pages - 1)))
        hit = b"".join(bytes(content[page * _PAGE : (page + 1) * _PAGE]) for page in chosen)
        for page in chosen:
            content[page * _PAGE : (page + 1) * _PAGE] = draw.randbytes(_PAGE)
        file.write_bytes(content)
        self._note_taken({key: state for key, state in before.items() if f'"{key}"'.encode() in hit})

    def note_server_restored(self, stored: set[Key]) -> None:
        """Note what goes with the server's newer readings: what the spool has not, or lets go too soon."""
        self._server_went_back = True
        self.taken = dict.fromkeys(self.taken, False)
        if self.order.max_bytes:
            self.undone |= stored

    def destroyed(self) -> dict[Key, str]:
        """Readings that were nowhere any more once the harness was done, and why; the process has ended."""
        undone = self.undone - keys_in(self.folder).keys() if self.undone else set[Key]()
        taken = {key for key, delivered in self.taken.items() if not delivered}
        return dict.fromkeys(undone, FULL_AND_RESTORED) | dict.fromkeys(taken, FROM_SPOOL)

    def _note_taken(self, gone: dict[Key, SpoolState]) -> None:
        self.taken |= {key: state is SpoolState.DELIVERED for key, state in gone.items()}


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
        self._backup: Path | None = None
        self.fed = list(self._feed(stack))
        self.lines: list[Line] = []
        self.edge: Edge | None = None
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
            order = EdgeOrder(
                **asdict(kind),
                folder=str(self._folder / kind.name),
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
        self.edge = Edge(self.site, stack, address, self.backend.token, ports)

    # --- faults ------------------------------------------------------------------------------------------

    def deck(self) -> list[Callable[[], None]]:
        """Every kind of fault, as often as it deserves."""
        chosen = [name for name in FAULTS if not self.plan.only or name in self.plan.only]
        if self.edge is None:
            chosen = [name for name in chosen if name not in _OF_INVERTERS]
        return [
            *(partial(self.storm, storm) for storm in self.plan.storms),
            *(getattr(self, n) for n in chosen),
        ]

    def rain(self) -> None:
        """Let faults come in shuffled decks, whole ones, until the plan is fulfilled."""
        self.restore_spool()  # nothing to restore yet: both make the first copy
        self.restore_server()
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
        self.stage.storm, self.stage.force = tricks, self.draw.uniform(0.4, 1.0)
        time.sleep(self.draw.uniform(0.8, 2.0))
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
        edge = next(edge for edge in self.fed if edge.order.name == "clock")
        offset_s = self.draw.choice((-3600, -600, 900, 7200, 86_400))
        self.faults["clock jump"] += 1
        edge.steer_clock(offset_s * 1000, synchronised=False)
        time.sleep(self.draw.uniform(0.5, 1.5))
        if self.draw.random() < 0.5:
            self._kill(edge)
            time.sleep(0.5)
        edge.steer_clock(0, synchronised=self.draw.random() < 0.5)

    def fill_disk(self) -> None:
        """Keep the server away until the edge with the small disk has had to make room."""
        edge = next(edge for edge in self.fed if edge.order.name == "small")
        log, ledger = edge.folder / "log", edge.folder / "ledger"
        before, taken = log.read_bytes().count(b"were merged"), len(edge.ledger().tried)
        self.stage.storm, self.stage.force = ("request lost",), 1.0

        def is_full() -> bool:
            return log.read_bytes().count(b"were merged") > before or _lines(ledger) > 2 * taken + 6000

        wait_until("the small disk to fill", is_full, timeout_s=60, watched=[edge.child])
        self.stage.storm = ()
        self.faults["disk full"] += 1

    def _damaged(self) -> FedEdge:
        return next(edge for edge in self.fed if edge.order.name == "damaged")

    def damage_spool(self) -> None:
        """Damage pages of a spool while its edge is down."""
        edge = self._damaged()
        kill(edge.child)
        edge.damage_spool(self.draw)
        self.faults["damaged file"] += 1
        edge.start()

    def restore_spool(self) -> None:
        """Restore a spool from the copy made last time, and make a new copy."""
        edge = self._damaged()
        kill(edge.child)
        if edge.copied is not None:
            self.faults["spool restored from an older copy"] += 1
            edge.restore_spool()
        edge.copy_spool()
        edge.start()

    def restore_server(self) -> None:
        """Restore the database from the backup made last time, and make a new backup."""
        postgres = self.backend.postgres
        kill(self.backend.server)  # what is delivered from now on is sent again
        if self._backup is not None:
            self.faults["server restored from an older backup"] += 1
            for edge in self.fed:
                edge.note_server_restored(self._stored_keys(edge.order.devices))
        postgres.stop()
        if self._backup is not None:
            shutil.rmtree(postgres.data_dir)
            shutil.copytree(self._backup, postgres.data_dir)
        self._backup = self._folder / "backup"
        shutil.rmtree(self._backup, ignore_errors=True)
        shutil.copytree(postgres.data_dir, self._backup)
        postgres.start()
        self.backend.start_server()
        self.backend.await_health()
        self._hand_out(self._new_token())  # the backup may know earlier ones only

    # --- the end -----------------------------------------------------------------------------------------

    def drain(self) -> None:
        """End all faults and wait until everything is delivered."""
        self.stage.storm = ()
        for line in self.lines:
            line.doubling = line.losing = 0.0
        self.backend.await_health()
        for edge in self.fed:
            if edge.order.name == "clock":
                edge.steer_clock(0, synchronised=True)
            kill(edge.child)  # what it still waits for after all those faults takes minutes
            edge.start()
        if self.edge is not None:
            self.edge.requeue()
            self.edge.restart()
        for edge in self.fed:
            (edge.folder / FINISH).touch()
        watched = [edge.child for edge in self.fed]
        wait_until(
            "the fed edges to deliver all they have",
            lambda: all(child.exit_status is not None for child in watched),
            timeout_s=_DRAIN_S,
        )
        for child in watched:
            if child.exit_status != 0:
                child.require_running()
        if self.edge is not None:
            self._drain_edge(self.edge)

    def _drain_edge(self, edge: Edge) -> None:
        status = EdgeStatus(self.site.edge_config)

        def is_empty() -> bool:
            counts = status.ask()
            return counts["pending"] + counts["waiting"] + counts["deferred"] == 0

        wait_until("sungrow-edge's backlog", is_empty, timeout_s=_DRAIN_S, watched=[edge.child])
        edge.child.stop(20)
        wait_until("sungrow-edge's last readings", is_empty, timeout_s=1)

    def judge(self) -> Account:
        """Compare what was taken and what is stored."""
        account = Account()
        rows = self._rows([device for edge in self.fed for device in edge.order.devices])
        tally, destroyed = Tally(), dict[Key, str]()
        for edge in self.fed:
            ledger = edge.ledger()
            tally.tried |= ledger.tried
            tally.accepted |= ledger.accepted
            tally.refused |= ledger.refused
            destroyed |= edge.destroyed()
        judge_fed(
            account, Fed(tally, destroyed, self.plan.seed), rows, rows_kept_aside(self.backend.postgres.dsn)
        )
        if self.edge is not None:
            stored = self._rows([device.device_id for device in DEVICES])
            judge_polled(account, self.site, self.edge, stored)
        return account

    def _stored_keys(self, devices: Iterable[str]) -> set[Key]:
        return {key for row in self._rows(devices) for key in keys_of(row)}

    def _rows(self, devices: Iterable[str]) -> list[dict[str, Any]]:
        lines = [
            line
            for device in dict.fromkeys(devices)
            for line in self.backend.commands.run("export", "--device", device).splitlines()
        ]
        return [json.loads(line) for line in lines]


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n")


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
