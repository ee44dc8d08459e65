"""The `sungrow-edge` command: run the daemon, check its settings, look at its health and its spool."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio
import anyio._backends._asyncio  # loaded now: in the midst of a job, Ctrl-C would find it half loaded

from reference_edge.app import run_edge
from reference_edge.config import EdgeSettings
from reference_edge.health import health_lines
from reference_edge.lock import SpoolLock, sole_user
from reference_edge.memory import stay_small
from reference_edge.spool_commands import add_parser as add_spool_parser
from sungrow_lib._version import __version__
from sungrow_lib.cli.guard import EXIT_FAILED, EXIT_OK, guarded
from sungrow_lib.cli.parser import CommandParser
from sungrow_lib.logs import configure_logging
from sungrow_lib.settings import load_settings
from sungrow_lib.spool.foreign import require_spool

_LEAVE_S: Final = 0.5
CONFIG_VARIABLE: Final = "SUNGROW_EDGE_CONFIG"
_EPILOG = """\
settings come from a TOML file (--config, or SUNGROW_EDGE_CONFIG) and the environment, which wins:

  server_url = "https://solar.example.org"
  device_token_file = "/etc/sungrow-edge/token"
  spool_path = "/var/lib/sungrow-edge/spool.sqlite"

  [[devices]]
  device_id = "roof"
  host = "192.168.1.20"
  timezone = "Europe/Berlin"

exit status: 0 done, 1 the job failed, 2 wrong use or wrong settings
"""
_RUN = """\
Polls every inverter, keeps every reading in the spool, uploads what the spool holds. SIGTERM or Ctrl-C
ends it: the poll under way is finished, what is left stays in the spool. A missing server, inverter or
token never ends it. Logs are JSON lines on stderr.
"""
_RUN_EPILOG = """\
example:
  sungrow-edge run --config /etc/sungrow-edge/edge.toml

exit status: 0 told to stop, 1 the spool cannot be used (a disk that fails is waited for) or another daemon
works on it, 2 wrong settings
"""
_CHECK = """\
Tries everything the daemon needs and prints a line for each: settings, spool, room on its disk, folders of
locks and notes, health file, port of the metrics, token, the server for every device, every inverter. No
reading is stored anywhere. Inverters are polled once.
"""
_CHECK_EPILOG = """\
examples:
  sungrow-edge check --config edge.toml
  sungrow-edge check --config edge.toml --offline      while installing, without a network

exit status: 0 everything is well, 1 something failed, 2 wrong settings
"""
_STATUS = """\
Says how the daemon does (last polls, connections, last upload, alarms) and what the spool holds.
Works beside a running daemon, and without one.
"""
_STATUS_EPILOG = """\
examples:
  sungrow-edge status
  sungrow-edge status --json | jq '.daemon.alarms'
  sungrow-edge status --alive       for a container's health check: exit status 1 unless the daemon runs;
                                    0 too where it does and cannot say how it is

exit status: 0 the status was read, whatever it says; 1 the spool cannot be read (what the daemon
says of itself is shown then, too), 2 wrong settings
"""


def main(argv: list[str] | None = None) -> int:
    """Run the `sungrow-edge` command line inside a program that has its own mind about signals."""
    return prepare(argv)()


def prepare(argv: list[str] | None = None) -> Callable[[], int]:
    """Read the `sungrow-edge` command line and return its job, which returns the exit status."""
    parser: argparse.ArgumentParser = CommandParser(
        prog="sungrow-edge",
        description="Poll Sungrow inverters, keep every reading, upload it exactly once.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"sungrow-edge {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, summary: str, description: str, epilog: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=epilog,
        )

    run = add("run", "run the daemon until SIGTERM or SIGINT", _RUN, _RUN_EPILOG)
    run.set_defaults(job=_run)
    check_parser = add("check", "check settings, spool, server and inverters", _CHECK, _CHECK_EPILOG)
    check_parser.add_argument("--offline", action="store_true", help="contact neither inverter nor server")
    check_parser.set_defaults(job=_check)
    status = add("status", "health of the daemon, backlog and quarantine", _STATUS, _STATUS_EPILOG)
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.add_argument("--alive", action="store_true", help="say only whether the daemon runs")
    status.set_defaults(job=_status)
    spool = add_spool_parser(commands, _settings)
    for command in (run, check_parser, status, *spool):
        command.add_argument("--config", type=Path, help=f"the TOML file (default: ${CONFIG_VARIABLE})")
    args = parser.parse_args(argv)
    prog = parser.prog  # the parser itself is let go: the daemon needs no memory for it
    return lambda: guarded(prog, lambda: int(args.job(args)), until_stopped=args.job is _run)


def _settings(args: argparse.Namespace) -> EdgeSettings:
    file = args.config or os.environ.get(CONFIG_VARIABLE)
    return load_settings(EdgeSettings, Path(file) if file else None)


def _run(args: argparse.Namespace) -> int:
    settings = _settings(args)
    configure_logging(settings.log_level)
    stay_small()
    require_spool(settings.spool_path)
    with sole_user(settings.spool_path) as lock:
        anyio.run(_run_to_the_end, settings, lock)
    return EXIT_OK


async def _run_to_the_end(settings: EdgeSettings, lock: SpoolLock) -> None:
    await run_edge(settings, lock)
    # All is on disk. A thread that still asks a name server that does not answer would hold up the end.
    leaving = threading.Timer(_LEAVE_S, os._exit, [EXIT_OK])
    leaving.daemon = True
    leaving.start()


def _check(args: argparse.Namespace) -> int:
    from reference_edge.check import check  # noqa: PLC0415 - the daemon needs no memory for it

    settings = _settings(args)
    require_spool(settings.spool_path)
    return anyio.run(check, settings, args.offline)


def _status(args: argparse.Namespace) -> int:
    from reference_edge.status import read_status, status_lines  # noqa: PLC0415 - as above

    settings = _settings(args)
    if args.alive:
        return _say_alive(settings)
    status = anyio.run(read_status, settings)
    if args.json:
        print(json.dumps(status))
    else:
        print("\n".join(status_lines(status)))
    if status["spool_error"]:
        sys.stderr.write(f"sungrow-edge: {status['spool_error']}\n")
        return EXIT_FAILED
    return EXIT_OK


def _say_alive(settings: EdgeSettings) -> int:
    """Look at no reading: a check that comes every few seconds leaves the spool in peace."""
    from reference_edge.liveness import daemon_health  # noqa: PLC0415 - as above

    health = daemon_health(settings.health_path, settings.spool_path)
    print(next(health_lines(health)))
    return EXIT_OK if health["running"] else EXIT_FAILED
