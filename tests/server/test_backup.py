"""Backup and restore on every engine: a rehearsal, and everything that can be wrong with the files."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from reference_server.cli import main
from reference_server.storage import dumps
from tests.patience import PATIENCE_S
from tests.server.conftest import NOW, Api, StartServer, sample

pytestmark = pytest.mark.anyio

COUNTED = (
    "samples",
    "rollup_15m",
    "rollup_day",
    "plant_sets",
    "plant_kept",
    "raw_dropped",
    "devices",
    "schema_history",
)


@pytest.fixture
def empty(any_engine: str) -> Iterator[str]:
    """A second, empty database beside `any_database`."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(any_engine, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'".encode())
    yield make_conninfo(any_engine, dbname=name)
    with psycopg.connect(any_engine, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "ERROR")


def _run(monkeypatch: pytest.MonkeyPatch, dsn: str, *words: str) -> int:
    monkeypatch.setenv("DATABASE_URL", dsn)
    return main(list(words))


def _contents(dsn: str) -> dict[str, list[str]]:
    with psycopg.connect(dsn) as connection:
        return {
            name: sorted(map(str, connection.execute(f"SELECT * FROM {name}".encode()).fetchall()))
            for name in COUNTED
        }


async def _filled(api: Api) -> None:
    """Store readings, some of which TimescaleDB has compressed already, with their rollups."""
    readings = [sample(-86_400 * day - 5 * n, pv_power_w=100 * n) for day in range(4) for n in range(20)]
    assert (await api.ingest(*readings))["inserted"] == len(readings)
    assert (await api.get("/v1/series", device_id="sh-1", frame="day", at=f"{NOW:%Y-%m-%d}"))[0] == 200
    with psycopg.connect(api.dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO plant_sets (devices) VALUES ('{1,2}')")
        connection.execute("INSERT INTO plant_kept VALUES (1, true, now(), 'digest', 1, 2)")
        connection.execute("INSERT INTO raw_dropped (until) VALUES ('2026-01-31')")
    if api.rows("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"):
        with psycopg.connect(api.dsn, autocommit=True) as connection:
            connection.execute("SELECT compress_chunk(c) FROM show_chunks('samples', older_than => now()) c")


async def test_a_rehearsed_restore_has_everything_and_goes_on(
    api: Api, start_server: StartServer, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _filled(api)
    before = _contents(api.dsn)
    file = tmp_path / "backup"
    assert _run(monkeypatch, api.dsn, "backup", str(file)) == 0
    later = sample(30, pv_power_w=4242)
    await api.ingest(later)
    assert _run(monkeypatch, empty, "restore", str(file)) == 0
    assert _contents(empty) == before
    async with start_server(dsn=empty) as restored:
        # The edge believes the later reading delivered; the restored server says that it lacks it.
        answer = await restored.ingest(sample(-5), last_delivered=[later["ts"]])
        assert (answer["duplicates"], answer["resend"]) == (1, True)
        assert (await restored.ingest(later))["inserted"] == 1
        assert (await restored.get("/v1/realtime", device_id="sh-1"))[1]["pv_power_w"] == 4242


def test_files_that_cannot_be_used(
    migrated: str,
    empty: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "backup"
    assert _run(monkeypatch, migrated, "backup", str(file)) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"backup", "backup.json"}
    assert file.stat().st_mode & 0o077 == 0

    def refused(dsn: str, command: str, path: Path) -> str:
        assert _run(monkeypatch, dsn, command, str(path)) == 2
        return capsys.readouterr().err

    assert "exists and is left alone" in refused(migrated, "backup", file)
    assert "cannot write" in refused(migrated, "backup", tmp_path / "missing" / "backup")
    assert "is not empty; make a new one" in refused(migrated, "restore", file)
    assert "No such file" in refused(empty, "restore", tmp_path / "other")
    (tmp_path / "alone").write_bytes(b"?")
    assert "alone.json is not beside it" in refused(empty, "restore", tmp_path / "alone")
    note = tmp_path / "backup.json"
    told = json.loads(note.read_text())
    note.write_text(json.dumps(told | {"timescaledb": "1.2.3"}))
    assert "was made with TimescaleDB 1.2.3" in refused(empty, "restore", file)
    note.write_text(json.dumps(told | {"postgresql": 99}))
    assert "needs PostgreSQL 99 or later" in refused(empty, "restore", file)
    note.write_text("{}")
    assert "is not the note of a backup" in refused(empty, "restore", file)
    note.write_text(json.dumps(told))
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    assert "is damaged" in refused(empty, "restore", file)


def test_a_failed_backup_leaves_nothing_behind(
    migrated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "pg_dump").write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo 'pg_dump (PostgreSQL) 99.1' && exit\necho some\n"
        "echo 'pg_dump: error: no space left' >&2; exit 1\n"
    )
    monkeypatch.setenv("PG_BIN_DIR", str(tools))
    assert _run(monkeypatch, migrated, "backup", str(tmp_path / "backup")) == 2
    assert "found: none" in capsys.readouterr().err
    (tools / "pg_dump").chmod(0o755)
    assert _run(monkeypatch, migrated, "backup", str(tmp_path / "backup")) == 1
    assert "pg_dump failed: pg_dump: error: no space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_a_password_is_not_in_the_list_of_processes(
    migrated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    program = tmp_path / "pg_dump"
    program.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo 'pg_dump (PostgreSQL) 99.1' && exit\n"
        f'echo "$@" >{seen}; echo "$PGPASSWORD" >>{seen}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PG_BIN_DIR", str(tmp_path))
    dsn = make_conninfo(migrated, password="geheim")
    assert _run(monkeypatch, dsn, "backup", str(tmp_path / "backup")) == 0
    options, password = seen.read_text().splitlines()
    assert "geheim" not in options
    assert password == "geheim"


def test_a_backup_that_was_killed_is_in_nobodys_way_and_a_running_one_is_left_alone(
    migrated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, draft = tmp_path / "backup", tmp_path / "backup.part"
    draft.write_bytes(b"what another was writing" * 10_000)
    with draft.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert _run(monkeypatch, migrated, "backup", str(file)) == 2
        assert "another backup" in capsys.readouterr().err
        assert draft.stat().st_size == 240_000
    assert _run(monkeypatch, migrated, "backup", str(file)) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"backup", "backup.json"}
    assert json.loads((tmp_path / "backup.json").read_text())["size"] == file.stat().st_size


@pytest.fixture
def breaking_off(migrated: str, tmp_path: Path) -> Path:
    """A folder with a `pg_restore` that brings all in, says so in a file and then never ends."""
    with psycopg.connect(migrated) as connection:
        real, _ = dumps._program("pg_restore", connection.info.server_version // 10_000, None)
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "pg_restore"
    program.write_text(
        f'#!/bin/sh\n[ $1 = --version ] && exec {real} --version\n{real} "$@"\necho >{tmp_path}/done\n'
        "exec sleep 600\n"
    )
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
async def test_nothing_works_with_what_a_broken_off_restore_left(
    api: Api,
    start_server: StartServer,
    empty: str,
    breaking_off: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    """Everything seems to be there; but TimescaleDB would put what comes now where nobody finds it."""
    await api.ingest(sample(pv_power_w=1))
    file = breaking_off.parent / "backup"
    assert _run(monkeypatch, api.dsn, "backup", str(file)) == 0
    environment = os.environ | {"DATABASE_URL": empty, "PG_BIN_DIR": str(breaking_off)}
    command = [sys.executable, "-m", "reference_server", "restore", str(file)]
    async with start_server(dsn=empty) as waiting:  # it has connections from before the restore
        assert (await waiting.send(sample()))[0] == 503
        async with await anyio.open_process(command, env=environment, start_new_session=True) as restoring:
            with anyio.fail_after(PATIENCE_S):
                while not (breaking_off.parent / "done").exists():
                    assert restoring.returncode is None
                    await anyio.sleep(0.05)
            restoring.send_signal(number)
            status = await restoring.wait()
            if number is signal.SIGKILL:
                os.killpg(restoring.pid, signal.SIGKILL)  # what it has started goes on
            assert restoring.stderr is not None
            said = b"".join([part async for part in restoring.stderr]).decode()
        if number is not signal.SIGKILL:
            assert status == 1
            assert said.startswith("sungrow-server: interrupted; ")
            assert "drop the database" in said
        assert (await waiting.send(sample()))[0] == 503
    capsys.readouterr()
    for words in (["migrate"], ["backup", str(file) + "2"]):
        assert _run(monkeypatch, empty, *words) == 1
        assert "a restore into this database goes on or broke off" in capsys.readouterr().err
