"""`sungrow demo`: inverters, edge, server and database on this machine, for real, as processes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sungrow_lib.demo.account import prove_run
from sungrow_lib.demo.certificates import make_certificates
from sungrow_lib.demo.live import EdgeStatus, LiveView
from sungrow_lib.demo.postgres import EmbeddedPostgres
from sungrow_lib.demo.processes import Child, ending_on_signals, undisturbed, wait_until
from sungrow_lib.demo.progress import Progress
from sungrow_lib.demo.setup import (
    ServerAddress,
    ServerCommands,
    await_simulators,
    finish,
    free_ports,
    require_free,
    start_edge,
    start_simulator,
    write_histories,
)
from sungrow_lib.demo.site import DEVICES, DemoSite, prepare_folder, remove_folder
from sungrow_lib.sample import SungrowSample

_LOOK_S: Final = 0.5
_SET_UP_S: Final = 120.0
_DRAIN_S: Final = 30.0
_STOP_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the user asked for.

    Attributes:
        seconds: how long to run before the account; None until stopped.
        port: the server's and the dashboard's; None for a free one.
        data_dir: an empty folder for everything; None for a temporary one.
        keep: whether a temporary folder stays.
        history_days: how long the houses have stood: so much history is filled in.
    """

    seconds: float | None = None
    port: int | None = None
    data_dir: Path | None = None
    keep: bool = False
    history_days: int = 365


@dataclass(frozen=True, slots=True)
class _Running:
    """The parts of a demo that runs."""

    commands: ServerCommands
    server: ServerAddress
    processes: Sequence[Child]
    edge: Child
    status: EdgeStatus


def run_demo(options: DemoOptions) -> bool:
    """Run the demo until it is stopped, or for the time asked and then prove that nothing was lost.

    Returns:
        Whether all is well: it was stopped, or nothing was lost, doubled or altered.

    Raises:
        ConfigurationError: it cannot run here; the message says what to do.
        ChildError: a part of it ended early or did not start; the message holds the end of its log.
        KeyboardInterrupt: it was to run for a time and was stopped before.
    """
    port = options.port or free_ports(1)[0]
    require_free(port)
    folder = prepare_folder(options.data_dir)
    progress = Progress(sys.stdout)
    try:
        site = DemoSite.in_folder(folder, datetime.now(UTC))
        with ending_on_signals():
            return _Demo(site, port, options.history_days, progress).run(options.seconds)
    finally:
        if options.data_dir is None and not options.keep:
            remove_folder(folder)


class _Demo:
    """One run of the demo."""

    def __init__(self, site: DemoSite, port: int, history_days: int, progress: Progress) -> None:
        self._site = site
        self._port = port
        self._history_days = history_days
        self._progress = progress
        self._to_stop = contextlib.ExitStack()

    def run(self, seconds: float | None) -> bool:
        try:
            running = self._start()
            self._welcome(running.server)
            self._watch(running, seconds)
            with undisturbed("counting; a moment, please"):
                return self._account(running)
        except KeyboardInterrupt:
            self._progress.say("\n  stopping; the edge first, to deliver what it holds")
            if seconds is not None:
                raise
            return True
        finally:
            with undisturbed("stopping already; a moment, please"):
                self._progress.end_live()
                self._to_stop.close()

    # --- setting up --------------------------------------------------------------------------------------

    def _start(self) -> _Running:
        site, step = self._site, self._progress.step
        histories = write_histories(site, self._history_days)
        for child in histories:
            self._to_stop.callback(child.stop, _STOP_S)
        with step("certificates"):
            certificates = make_certificates(site.folder / "tls")
        with step("PostgreSQL"):
            postgres = EmbeddedPostgres(site.database)
            self._to_stop.callback(postgres.stop)
            postgres.start()
        commands = ServerCommands(site, postgres.dsn, certificates, self._port)
        with step("tables, devices, tokens"):
            commands.migrate()
            token, reader = commands.make_tokens()
            server = ServerAddress(self._port, certificates.ca, reader)
        ports = free_ports(len(DEVICES))
        simulators = [
            self._started(start_simulator(site, *pair, self._history_days))
            for pair in zip(DEVICES, ports, strict=True)
        ]
        with step("a modelled year of history"):
            finish(histories, _SET_UP_S, self._progress.working)
        with step("filling it in, marked as simulated"):
            commands.import_histories()
        with step("inverters: " + ", ".join(device.model for device in DEVICES)):
            await_simulators(simulators, ports)
        with step("server"):
            process = self._started(commands.start())
            wait_until("the server", server.is_healthy, timeout_s=_SET_UP_S, watched=[process])
        with step("edge"):
            edge = self._started(start_edge(site, server, token, ports), patience_s=_DRAIN_S)
            status = EdgeStatus(site.edge_config)
            self._to_stop.callback(status.close)
        return _Running(commands, server, [edge, process, *simulators], edge, status)

    def _started(self, child: Child, *, patience_s: float = _STOP_S) -> Child:
        """Have the process stopped at the end: what was started last is stopped first."""
        self._to_stop.callback(child.stop, patience_s)
        return child

    def _welcome(self, server: ServerAddress) -> None:
        self._progress.say(
            f"""
  dashboard   {server.url}
  sign in     {server.token}
              (certificate of the demo's own authority, {server.ca}: the browser will ask)
  site        {self._site.zone}, where it is {datetime.now(self._site.zone):%H:%M}
  files       {self._site.folder}

  Ctrl-C stops everything.
"""
        )

    # --- running -----------------------------------------------------------------------------------------

    def _watch(self, running: _Running, seconds: float | None) -> None:
        view = LiveView(self._site, running.server, running.status)
        end = None if seconds is None else time.monotonic() + seconds
        while end is None or time.monotonic() < end:
            for process in running.processes:
                process.require_running()
            self._progress.live(f"  {view.refresh()}")
            time.sleep(_LOOK_S)

    # --- the account -------------------------------------------------------------------------------------

    def _account(self, running: _Running) -> bool:
        """Stop the edge, which drains, and hold what is stored against what was served."""
        self._progress.end_live()
        running.edge.stop(_DRAIN_S)
        spool = running.status.ask()
        stored = [SungrowSample.model_validate_json(line) for line in running.commands.export()]
        proof = prove_run(self._site, stored, spool)
        for finding in proof.findings:
            print(finding, file=sys.stderr)
        self._progress.say(proof.to_json())
        return proof.holds
