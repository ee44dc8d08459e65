"""One run: start everything, let faults rain by the seed's order, let the rest drain, and judge."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import psycopg

from sungrow_lib.demo.setup import ServerAddress
from sungrow_lib.demo.site import DEVICES, DemoSite
from tests.crash.account import Account, Fed, count_meetings, judge_fed, rows_kept_aside, rows_stored
from tests.crash.card_deeds import CARD_DEEDS, copy_spool, damage_spool
from tests.crash.chain import Backend, Edge, Inverters, Machine
from tests.crash.damage import DAMAGES, DAMAGES_IN_USE
from tests.crash.deeds import DEEDS, await_deliveries, count_delivered, count_rows
from tests.crash.disk import build_recorder, recorded
from tests.crash.draining import drain
from tests.crash.edge import EdgeOrder
from tests.crash.edge_deeds import EDGE_DEEDS
from tests.crash.either import edge_of
from tests.crash.faults import COUNTED, TWINS_MET, absent_kinds, kinds_in_deck
from tests.crash.fed import EDGES, NARROWED, EdgeKind, FedEdge
from tests.crash.gate import STORMS, FaultLoop, Line, Stage, await_use
from tests.crash.machine import BentClock, ServerDisk, SmallDisk, compiler, failing_disks
from tests.crash.polled import judge_polled
from tests.crash.polls import POLLED
from tests.crash.readings import Key, Tally, keys_of
from tests.crash.server_deeds import SERVER_DEEDS
from tests.crash.use_deeds import USE_DEEDS, damage_in_use

_STRIKES: Final = 3
_LONGEST_STORM_S: Final = 10.0
"""A storm goes on until it has struck each edge about so often, for on a busy machine little happens in a
second."""
_LONGEST_FIRST_S: Final = 60.0
"""... and so long, as long as a kind of it has never struck."""
_TRIES: Final = 5


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
        damages_in_use: which damages of spools that a process has open.
        server_fault: a deliberate fault of the server, as SQL for its database.
        only: which of `faults.COUNTED` there are beside; none for all.
        tell: told what is done, as it is begun.
    """

    seed: int
    decks: int = 1
    for_s: float = 0.0
    inverters: bool = True
    edges: tuple[EdgeKind, ...] = EDGES
    storms: tuple[tuple[str, ...], ...] = STORMS
    damages: tuple[str, ...] = tuple(DAMAGES)
    damages_in_use: tuple[str, ...] = tuple(DAMAGES_IN_USE)
    server_fault: str = ""
    only: frozenset[str] = frozenset()
    tell: Callable[[str], object] = str


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
        self.server_disk = ServerDisk(self.site.database, stack)
        self.backend = Backend(self.site, stack, devices, through=self._database_line)
        if plan.server_fault:
            with psycopg.connect(self.backend.postgres.dsn) as connection:
                connection.execute(plan.server_fault.encode())
        stage_draw = random.Random(f"{plan.seed}/stage")
        self.stage = Stage(self.backend.address.url, self.backend.certificates, self.faults, stage_draw)
        self._loop.run(self.stage.start())
        stack.callback(lambda: self._loop.run(self.stage.stop()))
        self.uplink = self._line(self.stage.port, "edge-server")
        self.own_line = self._line(self.uplink.port, "one edge-server")
        self.token_file = folder / "fed.token"
        self.token_file.write_text(self.backend.token)
        self._tokens, self._token_label = 0, "first"
        self._backup = folder / "backup"
        self._edge_folder = folder / "sungrow-edge"
        self._failing = failing_disks(folder / "failing", (folder / "damaged" / "disk", self._edge_folder))
        self.fed = list(self._feed(stack))
        self.lines: list[Line] = []
        self.edge: Edge | None = None
        self.clock: BentClock | None = None
        self._to_come: dict[str, list[str]] = {}
        self.mistaken: list[str] = []
        """Readings whose device's name was believed and could not be, each with by whom."""
        if plan.inverters:
            self._start_inverters(stack)
        self.faults.update(dict.fromkeys(self._fault_names(), 0))

    def _database_line(self, socket: Path) -> Path:
        """Put an unreliable line before the database's socket; return the folder of its own."""
        folder = self._folder / "line"
        folder.mkdir()
        line = Line(str(socket), self.faults, "server-database", random.Random(f"{self.plan.seed}/database"))
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
            disk = self._folder / kind.name / "disk"
            line = self.own_line if kind.name == NARROWED else self.uplink
            order = EdgeOrder(
                **asdict(kind),
                disk_may_fail=disk in self._failing,
                folder=str(self._folder / kind.name),
                disk=str(disk),
                url=f"https://localhost:{line.port}",
                ca=str(self.backend.certificates.ca),
                token_file=str(self.token_file),
                seed=self.plan.seed,
                begin_ms=int(time.time() - 20 * 86_400) * 1000,
            )
            yield FedEdge(order, stack, self._failing.get(disk))

    def _start_inverters(self, stack: ExitStack) -> None:
        inverters = Inverters(self.site, stack)
        self.lines = [self._line(port, "dongle-edge") for port in inverters.ports]
        for line in self.lines:
            line.doubling, line.losing = 0.02, 0.02
        address = ServerAddress(self.uplink.port, self.backend.address.ca, self.backend.address.token)
        ports = [line.port for line in self.lines]
        cc = compiler()
        if cc is not None:
            folder = self._folder / "bent-clock"
            folder.mkdir()
            self.clock = BentClock(folder, cc)
        folder = self._edge_folder
        disk = SmallDisk(folder, self._folder / "edge-shim", stack) if SmallDisk.can_be_made() else None
        machine = Machine(self.clock, folder, disk, self._failing.get(folder))
        self.edge = Edge(self.site, stack, address, self.backend.token, ports, machine)

    @property
    def left_out(self) -> dict[str, str]:
        """Faults that cannot be made in this run, and why."""
        return absent_kinds(
            inverters=self.edge is not None,
            clock=self.clock is not None,
            compiler=compiler() is not None,
            server_disk=self.server_disk.is_there,
            small_disk=SmallDisk.can_be_made(),
        )

    def _fault_names(self) -> Iterator[str]:
        """What this run is to do, by the names it is counted under."""
        yield from (f"answer: {name}" for storm in self.plan.storms for name in storm)
        yield from (*self.plan.damages, *self.plan.damages_in_use)
        for kind, names in COUNTED.items():
            if not self.plan.only or kind in self.plan.only:
                yield from names
        if self._shared:
            yield TWINS_MET

    @property
    def _shared(self) -> set[str]:
        """Devices that two edges have."""
        counts = Counter(device for edge in self.fed for device in edge.order.devices)
        return {device for device, count in counts.items() if count > 1}

    # --- faults ------------------------------------------------------------------------------------------

    def deck(self) -> list[tuple[str, Callable[[], None]]]:
        """Every kind of fault by its name, as often as it deserves."""
        chosen = [kind for kind in kinds_in_deck(self.plan.only) if kind not in self.left_out]
        deeds = DEEDS | CARD_DEEDS | EDGE_DEEDS | SERVER_DEEDS | USE_DEEDS
        return [
            *((f"answers: {', '.join(storm)}", partial(self.storm, storm)) for storm in self.plan.storms),
            *((damage, partial(self._suffer, damage_spool, damage)) for damage in self.plan.damages),
            *((damage, partial(self._suffer, damage_in_use, damage)) for damage in self.plan.damages_in_use),
            *((n, partial(deeds[n], self) if n in deeds else getattr(self, n)) for n in chosen),
        ]

    def _suffer(self, deed: Callable[[Run, FedEdge, str], None], name: str) -> None:
        deed(self, self.named("damaged"), name)

    def rain(self) -> None:
        """Let faults come in shuffled decks: as many whole ones as planned, then until the time is over."""
        kinds = kinds_in_deck(self.plan.only)
        if "restore_spool" in kinds:
            copy_spool(self, self.named("damaged"))
        if "restore_edge_spool" in kinds and "restore_edge_spool" not in self.left_out:
            copy_spool(self, edge_of(self))
        if "restore_server" in kinds:
            self.back_up_server()
        end, decks = time.monotonic() + self.plan.for_s, 0
        while (is_due := decks < self.plan.decks) or time.monotonic() < end:
            deck = self.deck()
            self.draw.shuffle(deck)
            decks += 1
            for number, (name, deed) in enumerate(deck, 1):
                if is_due or time.monotonic() < end:
                    self.plan.tell(f"{number} of {len(deck)}: {name.replace('_', ' ')}")
                    deed()
                    time.sleep(self.draw.uniform(0.1, 0.6))

    def storm(self, tricks: tuple[str, ...], *, force: float | None = None) -> None:
        """Let the stage lie for a while, about a part of the requests."""
        names = [f"answer: {name}" for name in tricks]
        enough = sum(self.faults[name] for name in names) + _STRIKES * len(self.all_edges)
        self.stage.storm, self.stage.force = tricks, force or self.draw.uniform(0.4, 1.0)
        time.sleep(self.draw.uniform(0.8, 2.0))
        begun = time.monotonic()
        while self._storms_on(names, enough, time.monotonic() - begun):
            time.sleep(0.1)
        self.stage.storm = ()
        if "401" in tricks:  # a refused token is not tried again for minutes: with a new one they go on
            self.replace_token()

    def _storms_on(self, names: list[str], enough: int, lasted_s: float) -> bool:
        if not all(self.faults[name] for name in names):
            return lasted_s < _LONGEST_FIRST_S
        return sum(self.faults[name] for name in names) < enough and lasted_s < _LONGEST_STORM_S

    def kill_fed(self) -> None:
        """Kill an edge, and start it again."""
        self.kill(self.draw.choice(self.fed))

    def kill(self, edge: FedEdge) -> None:
        """Kill a certain edge, and start it again."""
        self.faults["SIGKILL: fed edge"] += 1
        edge.kill()
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
        """Cut the server's connections to the database."""
        self._cut(self.backend_line)

    def mute_database(self) -> None:
        """Leave the server's connections to the database half open."""
        self._mute(self.backend_line, 1.0)

    def cut(self) -> None:
        """Cut the edges' connections to the server."""
        self._cut(self.uplink)

    def mute(self) -> None:
        """Leave the edges' connections half open, now and then for longer than an edge waits."""
        self._mute(self.uplink, self.draw.choice((0.5, 2.0, 6.0)))

    def cut_modbus(self) -> None:
        """Cut the connections to the inverters."""
        for line in self.lines:
            self._cut(line)

    def mute_modbus(self) -> None:
        """Leave the connections to the inverters half open."""
        for line in self.lines:
            self._mute(line, 1.0)

    def _cut(self, line: Line) -> None:
        self._strike(line, line.cut)

    def _mute(self, line: Line, seconds: float) -> None:
        self._strike(line, partial(line.mute, seconds))

    def _strike(self, line: Line, fault: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        """Spoil a line when it carries something: what was there a moment ago may be gone."""
        for _ in range(_TRIES):
            await_use(line)
            if self._loop.run(fault()):
                return

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

    def next_of(self, whose: str, kinds: Iterable[str]) -> str:
        """Return the next of the kinds that take turns: each comes before any comes again."""
        left = self._to_come.get(whose) or sorted(kinds)
        name = left.pop(self.draw.randrange(len(left)))
        self._to_come[whose] = left
        return name

    @cached_property
    def _recorder(self) -> Path:
        cc, folder = compiler(), self._folder / "recorder"
        assert cc is not None, "see left_out"
        folder.mkdir()
        return build_recorder(cc, folder)

    def killing(self, folder: Path, *, after: int) -> dict[str, str]:
        """Return what makes a process kill itself after so many changes on the disk under a folder."""
        return recorded(self._recorder, folder, self._folder / "changes", killed_after=after)

    def named(self, name: str) -> FedEdge:
        """Return the fed edge of a name."""
        return next(edge for edge in self.fed if edge.order.name == name)

    def back_up_server(self) -> None:
        """Make a backup of the database: the one that comes back from now on."""
        with self._database_stopped() as data:
            shutil.rmtree(self._backup, ignore_errors=True)
            shutil.copytree(data, self._backup)
        self.faults["server backed up"] += 1
        self.backed_up, self.delivered_then = count_rows(self), count_delivered(self)

    def restore_server(self, *, at_once: bool = False) -> None:
        """Restore the database from the backup: many times from the same one."""
        if not at_once:
            await_deliveries(self)
        self.backend.end_server()  # what is delivered from now on is sent again
        self.faults["server restored from an older backup"] += 1
        edges = self.all_edges
        letting_go = [edge for edge in edges.values() if edge.card.lets_go]
        for edge in letting_go:  # what they have not kept is to be known
            edge.kill()
        before = self._stored_keys()
        with self._database_stopped() as data:
            for entry in data.iterdir():  # it may be a disk of its own
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            shutil.copytree(self._backup, data, dirs_exist_ok=True)
        gone = before - self._stored_keys()
        for name, edge in edges.items():
            others = edge.card.others
            edge.card.note_server_restored({key for key in gone if key.edge == name or key in others})
        for edge in letting_go:
            edge.start()
        self._hand_out(self._new_token())  # the backup may know earlier ones only

    @contextmanager
    def _database_stopped(self) -> Iterator[Path]:
        postgres = self.backend.postgres
        self.backend.end_server()
        postgres.stop()
        yield postgres.data_dir
        postgres.start()
        self.backend.start_server()
        self.backend.await_health()

    # --- the end -----------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let nothing be spoiled any more, and nothing be under way."""
        self.stage.storm = ()
        self._loop.run(self.stage.settle())
        for line in self.lines:
            line.doubling = line.losing = 0.0
        self.backend.await_health()

    def judge(self) -> Account:
        """Compare what was taken and what is stored."""
        account = Account()
        rows = self._rows([device for edge in self.fed for device in edge.order.devices])
        fed = Fed(Tally(), shared=self._shared, seed=self.plan.seed)
        for edge in self.fed:
            fed.tally.add(edge.ledger())
            fed.no_room_until[edge.order.name] = edge.no_room_until
            fed.misled.update({edge.order.name} if edge.is_misled else ())
            fed.starts[edge.order.name] = edge.starts
            account.ended += edge.ended
        for either in self.all_edges.values():  # a fed edge's readings may have got into `sungrow-edge`
            fed.destroyed.update(either.card.destroyed())
            fed.set_apart.update(either.card.set_apart())
            fed.touched.update(either.card.touched)
        account.ended += [*self.backend.ended, *(self.edge.ended if self.edge else ())]
        account.altered += self.mistaken
        judge_fed(account, fed, rows, rows_kept_aside(self.backend.postgres.dsn))
        if self._shared:
            self.faults[TWINS_MET] += count_meetings(fed)
        planned = self.plan.only or COUNTED.keys()
        account.left_out = {
            name: why for kind, why in self.left_out.items() if kind in planned for name in COUNTED[kind]
        }
        if self.edge is not None:
            stored = self._rows([device.device_id for device in DEVICES])
            judge_polled(account, self.site, self.edge, stored)
        return account

    @property
    def all_edges(self) -> dict[str, FedEdge | Edge]:
        """All edges, by the name in the keys of their readings."""
        return {edge.order.name: edge for edge in self.fed} | ({POLLED: self.edge} if self.edge else {})

    def _stored_keys(self) -> set[Key]:
        """Keys of all rows in the database, fed and polled."""
        rows = self._rows(self.backend.devices)
        keys = {key for row in rows for key in keys_of(row)}
        if self.edge is not None:
            keys.update(key for row in rows if (key := self.edge.numbered.of_row(row)))
        return keys

    def _rows(self, devices: Collection[str]) -> list[dict[str, Any]]:
        return rows_stored(self.backend.postgres.dsn, devices)


def run(plan: Plan, folder: Path) -> tuple[Account, Counter[str]]:
    """Run a plan in an empty folder; return the account and the faults injected.

    Raises:
        ChildError: a part did not do its job; the message holds the end of its log.
    """
    with ExitStack() as stack:
        under_way = Run(plan, folder, stack)
        under_way.backend.await_health()
        under_way.rain()
        plan.tell("no more faults; what is left is delivered")
        drain(under_way)
        plan.tell("everything is counted")
        return under_way.judge(), under_way.faults
