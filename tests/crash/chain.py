"""The parts of a chain as real processes that can be killed, cut off and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
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
    start_edge,
    start_simulator,
)
from sungrow_lib.demo.site import DEVICES, DemoSite
from tests.crash.machine import BentClock


def kill(child: Child, ended: list[str] | None = None) -> None:
    """Kill a process without warning, and wait for its end; note if it had ended by itself."""
    if ended is not None and child.exit_status not in {None, -signal.SIGKILL}:
        ended.append(f"{child.name}: exit status {child.exit_status}; the end of its log:\n{child.tail()}")
    if child.exit_status is None:
        os.kill(child.pid, signal.SIGKILL)
        wait_until(f"the end of {child.name}", lambda: child.exit_status is not None, timeout_s=60)


class Backend:
    """Server and database.

    Args:
        site: whose folder everything goes into.
        stack: stops what was started.
        extra_devices: devices beside the demo's that tokens cover.
        through: puts something before the database's socket; returns the folder to connect to instead.
    """

    def __init__(
        self,
        site: DemoSite,
        stack: ExitStack,
        extra_devices: tuple[str, ...] = (),
        *,
        through: Callable[[Path], Path] | None = None,
    ) -> None:
        self._stack = stack
        self.ended = list[str]()
        self.devices = (*(device.device_id for device in DEVICES), *extra_devices)
        self.certificates = make_certificates(site.folder / "tls")
        self.postgres = EmbeddedPostgres(site.database)
        stack.callback(self.postgres.stop)
        self.postgres.start()
        [port] = free_ports(1)
        dsn, folder = self.postgres.dsn, self.postgres.socket_dir
        if through is not None:
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
        """Kill PostgreSQL, and start it again after so many seconds."""
        self.postgres.kill()
        time.sleep(away_s)
        self.postgres.start()

    def await_health(self) -> None:
        """Wait until the server answers and reaches its database."""
        wait_until("the server", self.address.is_healthy, timeout_s=240, watched=[self.server])


class Inverters:
    """The demo's simulated inverters, each with a journal of what it answered."""

    def __init__(self, site: DemoSite, stack: ExitStack) -> None:
        self.ports = free_ports(len(DEVICES))
        children = [start_simulator(site, *pair) for pair in zip(DEVICES, self.ports, strict=True)]
        for child in children:
            stack.callback(child.stop, 15.0)
        await_simulators(children, self.ports)


class Edge:
    """`sungrow-edge` on the demo's inverters.

    Args:
        site: where its settings, log and spool are.
        stack: stops it.
        address: of the server, or of what stands before it.
        token: to ingest with.
        ports: of the inverters, or of what stands before them.
        clock: the wall clock it sees; the machine's by default.
    """

    def __init__(
        self,
        site: DemoSite,
        stack: ExitStack,
        address: ServerAddress,
        token: str,
        ports: list[int],
        clock: BentClock | None = None,
    ) -> None:
        self._site, self._stack, self._clock = site, stack, clock
        self.child = start_edge(site, address, token, ports)
        stack.callback(self.child.stop, 15.0)
        self.killed_at: list[float] = []
        self.ended = list[str]()
        self.restart()  # at once: before, in or after the first poll; and it now says what it accepts

    def restart(self) -> None:
        """Kill it and start it again."""
        kill(self.child, self.ended)
        self.killed_at.append(time.time())
        self.child = Child(
            "the edge",
            python(EDGE, "run", "--config", str(self._site.edge_config)),
            self._site.log("edge"),
            environment=clean_environment()
            | {"LOG_LEVEL": "DEBUG"}
            | (self._clock.environment if self._clock else {}),
        )
        self._stack.callback(self.child.stop, 15.0)

    def true_times(self, shown: Iterable[float]) -> Iterator[float]:
        """Yield the time it was each time its clock showed this, in the order of its log."""
        return self._clock.history.true_times(shown) if self._clock else iter(shown)

    def requeue(self) -> None:
        """Kill it, and offer again what it set aside for a day because the stage refused it alone."""
        kill(self.child, self.ended)
        self.killed_at.append(time.time())
        command = python(EDGE, "spool", "requeue", "--all", "--config", str(self._site.edge_config))
        subprocess.run(command, env=clean_environment(), check=True, stdout=subprocess.DEVNULL)

    @property
    def spool(self) -> Path:
        """Its spool."""
        return self._site.folder / "spool.sqlite"
