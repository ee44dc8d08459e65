"""The `sungrow-server` command: run it, migrate it, and manage tokens, devices and history."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from reference_server import administration as admin
from reference_server.arguments import interval, moment, overlap, words
from reference_server.config import ServerSettings
from reference_server.storage import dumps
from reference_server.storage.address import require_address
from reference_server.storage.migrations import is_timescaledb_unused, migrate
from reference_server.tokens import Scope
from sungrow_lib._version import __version__
from sungrow_lib.cli.guard import EXIT_OK, guarded
from sungrow_lib.cli.parser import CommandParser
from sungrow_lib.errors import UsageError
from sungrow_lib.logs import configure_logging
from sungrow_lib.sample import format_ts
from sungrow_lib.settings import load_settings
from sungrow_lib.wording import shown

_Job = Callable[[argparse.Namespace], int]
_EPILOG: Final = """\
examples:
  export DATABASE_URL=postgresql://sungrow@localhost/sungrow
  sungrow-server migrate                                  make or update the tables
  sungrow-server token create --label roof --scope ingest --device roof-1
  sungrow-server run                                      serve on 127.0.0.1:8080

settings come from the environment or from --config FILE (TOML, the same names in lower case)

exit status: 0 done, 1 the job failed, 2 wrong use
"""

_RUN: Final = """\
It answers on LISTEN_HOST:LISTEN_PORT, over HTTPS with TLS_CERT_FILE and TLS_KEY_FILE, else on this machine
only or behind the proxies named in TRUSTED_PROXIES. It may start before its database; until that answers,
clients are told to try again. SIGTERM finishes what was taken and ends. WORKERS says how many processes share
the address; one that dies is replaced.

examples:
  TLS_CERT_FILE=cert.pem TLS_KEY_FILE=key.pem LISTEN_HOST=0.0.0.0 \\
    LISTEN_PORT=8443 sungrow-server run
  WORKERS=4 sungrow-server run

exit status: 0 stopped, 1 it failed, 2 wrong settings
"""
_MIGRATE: Final = """\
Run it after every upgrade, as often as you like: what is there already is left alone. On TimescaleDB it makes
hypertables and continuous aggregates, on plain PostgreSQL views of the same names.

example:
  DATABASE_URL=postgresql://sungrow@localhost/sungrow sungrow-server migrate

exit status: 0 up to date, 1 it failed, 2 wrong settings
"""
_UNUSED: Final = (
    "TimescaleDB is installed, but not used: CREATE EXTENSION timescaledb in this database, as a "
    "superuser, and migrate again converts it"
)
_BACKUP: Final = """\
Writes FILE, an archive of pg_dump, and FILE.json, which says what restoring it takes. The server may run on;
what edges send while it works is not in it, and comes again by itself after a restore.

examples:
  sungrow-server backup /var/backups/sungrow-2026-01-31
  sungrow-server restore /var/backups/sungrow-2026-01-31     into an empty database

exit status: 0 done, 1 it failed, 2 wrong use
"""
_RESTORE: Final = """\
Puts a backup into the database of DATABASE_URL, which has to exist and be empty, and brings it to the present
schema. A damaged file is refused before anything is written. Edges then offer again, by themselves, what the
restored database lacks. Until all of it is in, no server works with the database; drop one in which a restore
broke off, and make it anew.

example:
  createdb sungrow_new
  export DATABASE_URL=postgresql://sungrow@localhost/sungrow_new
  sungrow-server restore sungrow-2026-01-31

exit status: 0 done, 1 it failed, 2 wrong use
"""
_TOKENS: Final = """\
A token lets a program in. It is shown once; the database keeps only its hash.

examples:
  sungrow-server token create --scope ingest --device roof     for an edge box
  sungrow-server token create --scope read --device roof       for the page, programs and notebooks
  sungrow-server token rotate 3 --overlap 86400                a successor; the old one works for another day
  sungrow-server token revoke 3                                refused within a second

exit status: 0 done, 1 it failed, 2 wrong use
"""
_DEVICES: Final = """\
A device makes itself known with its first reading. What is set here wins over what its edge says.

Delete an inverter that was replaced: it stays in the history of its plant up to its last reading, and is not
waited for any more. One that is kept counts as silent. What is erased is gone from the plant's history, too.

examples:
  sungrow-server device list
  sungrow-server device set roof --timezone Europe/Berlin --plant home
  sungrow-server device delete roof                            its readings stay, new ones are not taken
  sungrow-server device restore roof                           they are taken again
  sungrow-server device erase roof --yes                       nothing of it is left

exit status: 0 done, 1 the job failed, 2 wrong use
"""
_IMPORT: Final = """\
What is known already is left alone, so a file may be imported again. Rollups are made of it, also of what is
older than raw readings are kept.

A row stands for the time since the row before, for three intervals at most. Where a CSV file has no column
interval_s, how far apart its rows usually lie is the interval, up to an hour. The end says what was taken.

examples:
  sungrow-server import history.csv --device roof
  sungrow-server import year.csv --device roof --interval 300      a row every 5 minutes
  sungrow-server import input.json holding.json --device roof
  sungrow-server export --device roof | sungrow-server import - --device attic

exit status: 0 done, 1 the job failed, 2 wrong use
"""
_EXPORT: Final = """\
The oldest comes first; import takes what it writes.

examples:
  sungrow-server export --device roof > roof.jsonl
  sungrow-server export --device roof --from 2026-01-01T00:00:00Z > roof-2026.jsonl

exit status: 0 done, 1 the job failed, 2 wrong use
"""
_OPENAPI: Final = """\
It needs no database, and is what a running server answers at /openapi.json.

example:
  sungrow-server openapi > openapi.json

exit status: 0 done, 2 wrong use
"""


def main(argv: list[str] | None = None) -> int:
    """Run the `sungrow-server` command line inside a program that has its own mind about signals."""
    return prepare(argv)()


def prepare(argv: list[str] | None = None) -> Callable[[], int]:
    """Read the `sungrow-server` command line and return its job, which returns the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    job: _Job = args.load() if "load" in args else args.run
    return lambda: guarded(parser.prog, lambda: job(args), until_stopped=args.command == "run")


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = CommandParser(
        prog="sungrow-server",
        description="Take readings from edges, keep them in PostgreSQL, and answer dashboards.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"sungrow-server {__version__}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    run = _command(commands, "run", "serve until stopped by SIGTERM or Ctrl-C", _RUN)
    run.set_defaults(load=_serving)
    migration = _command(commands, "migrate", "bring the database to the present schema", _MIGRATE)
    migration.set_defaults(run=_migrate)
    for parser_of_command in (run, migration):  # where people write it, too
        parser_of_command.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS)
    _add_token(_command(commands, "token", "make, list and end tokens", _TOKENS))
    _add_device(_command(commands, "device", "a device's name, plant, time zone and end", _DEVICES))
    _add_history(commands)
    for name, summary, epilog, job in (
        ("backup", "write everything the database holds to a file", _BACKUP, _backup),
        ("restore", "put a backup into an empty database", _RESTORE, _restore),
    ):
        safety = _command(commands, name, summary, epilog)
        safety.add_argument("file", type=Path, metavar="FILE")
        safety.set_defaults(run=job)
    openapi = _command(commands, "openapi", "print the OpenAPI document", _OPENAPI)
    openapi.set_defaults(load=_telling)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, epilog: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
    )


def _add_token(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a token; it is shown once")
    create.add_argument("--label", type=words, default="", help="what it is for; shown in the list")
    create.add_argument(
        "--scope",
        action="append",
        required=True,
        choices=[scope.value for scope in Scope],
        dest="scopes",
        help="what it may do; once for each",
    )
    create.add_argument(
        "--device", action="append", dest="devices", metavar="ID", help="a device it may touch; default all"
    )
    create.add_argument("--expires", type=moment, metavar="TIME", help="RFC 3339; default never")
    create.set_defaults(run=_token_create)
    listing = actions.add_parser("list", help="show all tokens, never their secrets")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(run=_token_list)
    _add_log(actions, "tokens", admin.token_log)
    revoke = actions.add_parser("revoke", help="end a token now")
    revoke.add_argument("token", type=int, metavar="NUMBER", help="of the token, as token list shows it")
    revoke.set_defaults(run=_token_revoke)
    rotate = actions.add_parser("rotate", help="make a successor; the old one goes on for a while")
    rotate.add_argument("token", type=int, metavar="NUMBER", help="of the token, as token list shows it")
    rotate.add_argument(
        "--overlap",
        type=overlap,
        default=7 * 86_400,
        metavar="SECONDS",
        help="how long the old one stays good; default a week",
    )
    rotate.set_defaults(run=_token_rotate)


def _add_device(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="show all devices")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(run=_device_list)
    change = actions.add_parser("set", help="set what wins over what the edge says")
    change.add_argument("device", metavar="ID")
    change.add_argument("--name", type=words, help="what you call it")
    change.add_argument("--plant", type=words, help="the plant it belongs to")
    change.add_argument("--timezone", metavar="ZONE", help="the site's zone, such as Europe/Berlin")
    text = "time between polls; readings that say no interval stand for at most three, stored ones as well"
    change.add_argument("--poll-interval", type=float, metavar="SECONDS", help=text)
    change.set_defaults(run=_device_set)
    for action, summary, deleted in (
        ("delete", "take no more readings of it; its plant keeps those it has", True),
        ("restore", "take its readings again", False),
    ):
        end = actions.add_parser(action, help=summary)
        end.add_argument("device", metavar="ID")
        end.set_defaults(run=_device_delete, deleted=deleted)
    erase = actions.add_parser("erase", help="delete it and forget all its readings, for ever")
    erase.add_argument("device", metavar="ID")
    erase.add_argument("--yes", action="store_true", help="really; there is no way back but a backup")
    erase.set_defaults(run=_device_erase)
    _add_log(actions, "devices", admin.device_log)


def _add_log(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    of: str,
    entries: Callable[[str], Coroutine[Any, Any, list[dict[str, Any]]]],
) -> None:
    log = actions.add_parser("log", help=f"show what was done with {of}, newest first")
    log.add_argument("--json", action="store_true", help="as JSON")
    log.set_defaults(run=_log, entries=entries)


def _add_history(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    load = _command(commands, "import", "add history from a CSV file, an export, or captures", _IMPORT)
    text = (
        "CSV with the header ts,FIELD,... of a sample's fields, or what export wrote, - for stdin; or "
        "captures (.json) that say when they were read, several of one moment make one reading"
    )
    load.add_argument("files", type=Path, nargs="+", metavar="FILE", help=text)
    load.add_argument("--device", required=True, metavar="ID", help="whose readings they are")
    load.add_argument("--source", type=words, help="where it comes from, such as simulated")
    text = (
        "time between readings that do not say what they stand for; wins over what the file's own rows tell"
    )
    load.add_argument("--interval", type=interval, metavar="SECONDS", help=text)
    load.set_defaults(load=_importing)
    dump = _command(commands, "export", "write stored samples, one JSON object a line", _EXPORT)
    dump.add_argument("--device", required=True, metavar="ID", help="whose readings")
    dump.add_argument("--from", dest="begin", type=moment, metavar="TIME", help="RFC 3339, included")
    dump.add_argument("--to", dest="end", type=moment, metavar="TIME", help="RFC 3339, not included")
    dump.set_defaults(load=_exporting)


def _settings(args: argparse.Namespace) -> ServerSettings:
    settings = load_settings(ServerSettings, args.config)
    require_address(settings.database_url.get_secret_value())
    configure_logging(settings.log_level)
    return settings


def _url(args: argparse.Namespace) -> str:
    return _settings(args).database_url.get_secret_value()


def _serving() -> _Job:
    from reference_server.workers import serve  # noqa: PLC0415 - what most commands need not wait for

    def run(args: argparse.Namespace) -> int:
        serve(_settings(args))
        return EXIT_OK

    return run


def _migrate(args: argparse.Namespace) -> int:
    settings = _settings(args)
    url = settings.database_url.get_secret_value()
    applied = migrate(url, retention_days=settings.raw_retention_days)
    print("applied: " + ", ".join(applied) if applied else "the schema is up to date")
    if is_timescaledb_unused(url):
        print(_UNUSED, file=sys.stderr)
    return EXIT_OK


def _telling() -> _Job:
    from reference_server.openapi import document  # noqa: PLC0415 - as above
    from reference_server.operations import OPERATIONS  # noqa: PLC0415 - as above

    def tell(_args: argparse.Namespace) -> int:
        print(json.dumps(document(OPERATIONS), indent=2))
        return EXIT_OK

    return tell


def _token_create(args: argparse.Namespace) -> int:
    if args.expires is not None and args.expires <= datetime.now(UTC):
        raise UsageError("--expires lies in the past: the token would never be good")
    print(asyncio.run(admin.create_token(_url(args), args.label, args.scopes, args.devices, args.expires)))
    print("keep it safe: it is not shown again", file=sys.stderr)
    if not args.devices:
        print("it may touch all devices, later ones too; --device ID limits it", file=sys.stderr)
    return EXIT_OK


def _token_list(args: argparse.Namespace) -> int:
    tokens = asyncio.run(admin.list_tokens(_url(args)))
    if not args.json:
        tokens = [token | {"devices": token["devices"] or "all"} for token in tokens]
    _table(tokens, as_json=args.json)
    return EXIT_OK


def _token_revoke(args: argparse.Namespace) -> int:
    asyncio.run(admin.revoke_token(_url(args), args.token))
    print(f"token {args.token} is revoked")
    return EXIT_OK


def _token_rotate(args: argparse.Namespace) -> int:
    secret, end = asyncio.run(admin.rotate_token(_url(args), args.token, args.overlap))
    print(secret)
    ends = "ends" if end > datetime.now(UTC) else "has ended"
    print(f"token {args.token} {ends} at {format_ts(end)}; the new one is not shown again", file=sys.stderr)
    return EXIT_OK


def _device_list(args: argparse.Namespace) -> int:
    _table(asyncio.run(admin.list_devices(_url(args))), as_json=args.json)
    return EXIT_OK


def _device_set(args: argparse.Namespace) -> int:
    if (args.name, args.plant, args.timezone, args.poll_interval) == (None, None, None, None):
        raise UsageError("say what to set: --name, --plant, --timezone or --poll-interval")
    change = admin.set_device(
        _url(args),
        args.device,
        name=args.name,
        plant=args.plant,
        timezone=args.timezone,
        poll_interval_s=args.poll_interval,
    )
    before = asyncio.run(change)
    print(f"{args.device} is set")
    if before is None:
        print(f"{args.device} was not known until now; is that its name? See device list", file=sys.stderr)
    elif before.deleted:
        print(f"{args.device} is deleted; device restore takes its readings again", file=sys.stderr)
    return EXIT_OK


def _device_delete(args: argparse.Namespace) -> int:
    if asyncio.run(admin.delete_device(_url(args), args.device, deleted=args.deleted)):
        print(f"{args.device} is {'deleted; its readings stay stored' if args.deleted else 'back'}")
    else:
        print(f"{args.device} is {'deleted already' if args.deleted else 'not deleted'}; nothing is changed")
    return EXIT_OK


def _device_erase(args: argparse.Namespace) -> int:
    if not args.yes:
        raise UsageError(f"this forgets every reading of {args.device} for ever; add --yes if that is meant")
    count = asyncio.run(admin.erase_device(_url(args), args.device))
    print(f"{args.device} and its {count} readings are erased; what its edge still holds is not taken")
    return EXIT_OK


def _log(args: argparse.Namespace) -> int:
    _table(asyncio.run(args.entries(_url(args))), as_json=args.json)
    return EXIT_OK


def _importing() -> _Job:
    from reference_server.imports import import_files  # noqa: PLC0415 - as above

    def load(args: argparse.Namespace) -> int:
        admin.require_device_id(args.device)
        settings = _settings(args)
        url = settings.database_url.get_secret_value()
        retention = timedelta(days=settings.raw_retention_days)
        more = {"source": args.source, "retention": retention, "interval": args.interval}
        print(import_files(url, args.files, args.device, **more))
        return EXIT_OK

    return load


def _exporting() -> _Job:
    from reference_server.history import export_samples  # noqa: PLC0415 - as above

    def dump(args: argparse.Namespace) -> int:
        if args.begin and args.end and args.begin > args.end:
            raise UsageError("--from is later than --to")
        asyncio.run(export_samples(_url(args), args.device, args.begin, args.end, sys.stdout))
        return EXIT_OK

    return dump


def _backup(args: argparse.Namespace) -> int:
    settings = _settings(args)
    url = settings.database_url.get_secret_value()
    note = dumps.back_up(url, args.file, bin_dir=settings.pg_bin_dir)
    print(f"{args.file}: {note.size} bytes")
    return EXIT_OK


def _restore(args: argparse.Namespace) -> int:
    settings = _settings(args)
    url = settings.database_url.get_secret_value()
    note = dumps.restore(url, args.file, bin_dir=settings.pg_bin_dir)
    migrate(url, retention_days=settings.raw_retention_days)
    print(f"restored what was stored at {note.made_at}")
    return EXIT_OK


def _table(rows: Sequence[dict[str, object]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, default=format_ts))
        return
    if not rows:
        print("none")
        return
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return format_ts(value)
    if isinstance(value, list):
        return ",".join(map(str, value))
    text = str(value)
    return shown(text, len(text))  # an edge may have called its device anything
