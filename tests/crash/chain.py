"""The parts of a chain as real processes that can be killed, cut off and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sungrow_lib.demo.certificates import make_certificates
from sungrow_lib.demo.postgres import EmbeddedPostgres
from sungrow_lib.demo.processes import Child, python, wait_until
from sungrow_lib.demo.setup import (
    EDGE,
    ServerAddress,
    ServerCommands,
    await_simulators,
    clean_environment,
    free_ports,
    start_simulator,
    write_edge_settings,
)
from sungrow_lib.demo.site import DEVICES, DemoSite
from sungrow_lib.quantities import Family
from tests.crash.card import Card
from tests.crash.failing import FailingDisk
from tests.crash.machine import BentClock, SmallDisk, preloaded
from tests.crash.polls import POLLED, Numbered
from tests.crash.readings import Key, key_of
from tests.mortal import Mortal
from tests.patience import PATIENCE_S

KILLED: Final = "killed"
"""What is said for a spool command that was."""


def kill(child: Child, ended: list[str] | None = None) -> None:
    """Kill a process without warning, and wait for its end; note if it had ended by itself."""
    if ended is not None and child.exit_status not in {None, -signal.SIGKILL}:
        ended.append(f"{child.name}: exit status {child.exit_status}; the end of its log:\n{child.tail()}")
    if child.exit_status is None:
        os.kill(child.pid, signal.SIGKILL)
        wait_until(f"the end of {child.name}", lambda: child.exit_status is not None, timeout_s=PATIENCE_S)


def spool_command(*words: str, environment: dict[str, str] | None = None) -> str | None:
    """Run a command of `sungrow-edge spool`; return what it printed, or None when it failed.

    Args:
        words: the command.
        environment: what it needs beside the usual one.
    """
    command = python(EDGE, "spool", *words)
    variables = clean_environment() | (environment or {})
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    return KILLED if done.returncode == -signal.SIGKILL else None if done.returncode else done.stdout


class Backend:
    """Server and database.

    Args:
        site: whose folder everything goes into.
        stack: stops what was started.
        extra_devices: devices beside the demo's that tokens cover.
        database: that of the server; by default one in the site's folder.
        through: puts something before that one's socket; returns the folder to connect to instead.
    """

    def __init__(
        self,
        site: DemoSite,
        stack: ExitStack,
        extra_devices: tuple[str, ...] = (),
        *,
        database: Mortal | None = None,
        through: Callable[[Path], Path] | None = None,
    ) -> None:
        self._stack = stack
        self.ended = list[str]()
        self.devices = (*(device.device_id for device in DEVICES), *extra_devices)
        self.certificates = make_certificates(site.folder / "tls")
        self.postgres = EmbeddedPostgres(site.database)
        self._database = database or stack.enter_context(self.postgres)
        [port] = free_ports(1)
        dsn = self._database.dsn
        if through is not None:
            folder = self.postgres.socket_dir
            before = through(folder / ".s.PGSQL.5432")
            dsn = dsn.replace(quote(str(folder), safe=""), quote(str(before), safe=""))
        self.commands = ServerCommands(site, dsn, self.certificates, port)
        self.commands.migrate()
        self.token = self.make_token("first")
        reader = self.commands.run("token", "create", "--label", "reader", "--scope", "read").strip()
        self.address = ServerAddress(port, self.certificates.ca, reader)
        self.start_server()

    def start_server(self) -> None:
        """Start the server; it need not answer yet."""
        self.server = self.commands.start()
        self._stack.callback(self.server.stop, 15.0)

    def make_token(self, label: str) -> str:
        """Make a token to ingest readings of all devices."""
        devices = [word for device in self.devices for word in ("--device", device)]
        arguments = ("token", "create", "--label", label, "--scope", "ingest", *devices)
        return self.commands.run(*arguments).strip()

    def kill_server(self, away_s: float) -> None:
        """Kill the server, and start it again after so many seconds."""
        self.end_server()
        time.sleep(away_s)
        self.start_server()

    def end_server(self) -> None:
        """Kill the server."""
        kill(self.server, self.ended)

    def kill_database(self, away_s: float) -> None:
        """Kill the database, and start it again after so many seconds."""
        self._database.kill()
        time.sleep(away_s)
        self._database.start()

    def await_health(self) -> None:
        """Wait until the server answers and reaches its database."""
        wait_until("the server", self.address.is_healthy, timeout_s=PATIENCE_S, watched=[self.server])


class Inverters:
    """The demo's simulated inverters, each with a journal of what it answered."""

    def __init__(self, site: DemoSite, stack: ExitStack) -> None:
        self.ports = free_ports(len(DEVICES))
        children = [start_simulator(site, *pair, days=1) for pair in zip(DEVICES, self.ports, strict=True)]
        for child in children:
            stack.callback(child.stop, 15.0)
        await_simulators(children, self.ports)


@dataclass(frozen=True)
class Machine:
    """What an edge runs on.

    Attributes:
        clock: the wall clock it sees; the machine's own by default.
        folder: where its spool is to be; by default where its settings are.
        disk: what that folder is on, where it may get full.
        failing: the same, where it may fail.
    """

    clock: BentClock | None = None
    folder: Path | None = None
    disk: SmallDisk | None = None
    failing: FailingDisk | None = None


class Edge:
    """`sungrow-edge` on the demo's inverters.

    Args:
        site: where its settings, log and spool are.
        stack: stops it.
        address: of the server, or of what stands before it.
        token: to ingest with.
        ports: of the inverters, or of what stands before them.
        machine: what it runs on.
    """

    label: Final = f"{POLLED}: "
    """What stands before the names of what is done to it."""
    few: Final = 3
    """So many readings more wait in its spool before something happens to that; a poll is five seconds."""

    def __init__(
        self,
        site: DemoSite,
        stack: ExitStack,
        address: ServerAddress,
        token: str,
        ports: list[int],
        machine: Machine | None = None,
    ) -> None:
        machine = machine or Machine()
        self._site, self._stack, self._clock = site, stack, machine.clock
        self.disk, self.failing = machine.disk, machine.failing
        self.spool = (machine.folder or site.folder) / "spool.sqlite"
        """Its spool."""
        self.spool.parent.mkdir(exist_ok=True)
        write_edge_settings(site, address, token, ports, self.spool)
        self.numbered = Numbered(site)
        self.card = Card(self.spool.parent, self.numbered, lets_go=machine.disk is not None)
        self._environment = (
            clean_environment()
            | {"LOG_LEVEL": "DEBUG"}  # it says what it accepts
            | preloaded(
                *(
                    part.environment
                    for part in (machine.clock, machine.disk, machine.failing)
                    if part is not None
                )
            )
        )
        self.killed_at: list[float] = []
        self.no_room: list[tuple[float, float]] = []
        """Spans in which the harness kept it without room, or without a disk, s since 1970."""
        self.ended = list[str]()
        self.start()
        self.restart()  # at once: before, in or after the first poll

    def start(self) -> None:
        """Start it."""
        self.child = Child(
            "the edge",
            python(EDGE, "run", "--config", str(self._site.edge_config)),
            self._site.log("edge"),
            environment=self._environment,
        )
        self._stack.callback(self.child.stop, 15.0)
        if self.card.wants_resend:
            self.card.wants_resend = False
            # It may have a damaged spool to recover first, as whoever follows the runbook would see.
            wait_until("`spool resend`", lambda: self.said("resend") is not None, timeout_s=PATIENCE_S)

    def kill(self, *, may_have_ended: bool = False) -> None:
        """Kill it, and look what it leaves."""
        kill(self.child, None if may_have_ended else self.ended)
        self.killed_at.append(time.time())
        self.card.look()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def true_times(self, shown: Iterable[float]) -> Iterator[float]:
        """Yield the time it was each time its clock showed this, in the order of its log."""
        return self._clock.history.true_times(shown) if self._clock else iter(shown)

    def requeue(self) -> None:
        """Kill it, and offer again what it set aside for a day because the stage refused it alone.

        What a recovery doubts stays apart: it may have been sent already.
        """
        self.kill()
        stats = self.said("stats", "--json")
        assert stats is not None, f"`spool stats` fails; the end of {self.child.log}:\n{self.child.tail()}"
        for code in {apart["code"] for apart in json.loads(stats)["set_apart"]} - {"doubtful"}:
            assert self.said("requeue", "--all", "--code", code) is not None, f"code {code} is not requeued"

    @cached_property
    def destroyed(self) -> dict[Key, str]:
        """Readings that were nowhere any more once the harness was done, and why; it has ended."""
        return self.card.destroyed()

    @cached_property
    def set_apart(self) -> set[Key]:
        """Readings a recovery kept and did not send; it has ended."""
        return self.card.set_apart()

    @property
    def log(self) -> Path:
        """What it says."""
        return self.child.log

    def accepted(self) -> int:
        """How many readings it said it has accepted."""
        return self._site.log("edge").read_bytes().count(b'"outcome": "accepted"')

    @staticmethod
    def device_of(contents: Sequence[dict[str, Any]]) -> str:
        """Return whose readings these are, for what they hold: only a hybrid has a battery."""
        if (key := key_of(contents[0])) is not None:  # of a fed edge, whose spool is in its place
            return key.device_id
        has_battery = any(content.get("battery_soc_pct") is not None for content in contents)
        family = Family.SH if has_battery else Family.SG
        return next(device.device_id for device in DEVICES if device.family is family)

    def said(self, *command: str, environment: dict[str, str] | None = None) -> str | None:
        """Run one of its spool commands; return what it printed, or None when it failed."""
        return spool_command(*command, "--config", str(self._site.edge_config), environment=environment)
