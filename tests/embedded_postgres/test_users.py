"""PostgreSQL refuses root; root gets one all the same, wherever the machine leaves a way."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sungrow_lib.demo.postgres import EmbeddedPostgres
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user needs none of this")

NOBODY = pwd.getpwnam("nobody").pw_uid

ALL_USERS = "0 0 65536"
ONLY_ROOT = "0 0 1"
ORDINARY_USER = f"{NOBODY} 0 1"
WITHOUT_A_NAME = "54321 0 1"
"""User ids inside, outside, and how many."""

CONTAINER = """
import ctypes, os, sys
entered, tell_entered = os.pipe()
mapped, tell_mapped = os.pipe()
child = os.fork()
if child == 0:
    assert ctypes.CDLL(None).unshare(0x10000000) == 0  # a new user namespace
    os.write(tell_entered, b".")
    os.read(mapped, 1)
    with open("/proc/sys/user/max_user_namespaces", "w") as limit:
        limit.write(sys.argv[2])  # holds inside this namespace only
    os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
os.read(entered, 1)
for kind in ("uid", "gid"):
    with open(f"/proc/{child}/{kind}_map", "w") as file:
        file.write(sys.argv[1])
os.write(tell_mapped, b".")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""What many containers are like: some user ids, and no (or few) further namespaces."""

SESSION = """
import os, sys
import psycopg
from sungrow_lib.demo.postgres import EmbeddedPostgres
with EmbeddedPostgres(sys.argv[1], throw_away=True) as postgres:
    with psycopg.connect(postgres.dsn) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS starts (at timestamptz DEFAULT now())")
        connection.execute("INSERT INTO starts DEFAULT VALUES")
        starts = connection.execute("SELECT count(*) FROM starts").fetchone()[0]
    uid = os.stat(f"/proc/{postgres.pid}").st_uid
    print(starts, uid, postgres.socket_dir)
"""

HOLD = """
import os, signal, sys, time
from sungrow_lib.demo.postgres import EmbeddedPostgres
postgres = EmbeddedPostgres(sys.argv[1], throw_away=True).start()
supervisor = open(f"/proc/{postgres.pid}/stat").read().rsplit(")", 1)[1].split()[1]
print(postgres.pid, flush=True)
os.kill({"owner": os.getpid(), "supervisor": int(supervisor)}["KILLED"], signal.SIGKILL)
sys.stdin.read()  # until the test lets it go on
"""


def session(folder: Path, user_ids: str, namespaces: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CONTAINER, user_ids, str(namespaces), "-c", SESSION, str(folder)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def succeed(answer: subprocess.CompletedProcess[str]) -> list[str]:
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.split()


def test_root_runs_it_in_a_namespace_and_its_files_stay_roots(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "data", throw_away=True) as postgres:
        uid_map = Path(f"/proc/{postgres.pid}/uid_map").read_text().split()
        assert uid_map == [str(NOBODY), "0", "1"]
    assert {path.stat().st_uid for path in (tmp_path / "data").rglob("*")} == {0}


def test_an_ordinary_user_runs_it_directly(tmp_path: Path) -> None:
    assert succeed(session(tmp_path / "data", ORDINARY_USER))[0] == "1"
    assert succeed(session(tmp_path / "data", ORDINARY_USER))[0] == "2"


def test_a_user_id_without_a_name_is_one_clear_line_where_namespaces_are_forbidden(tmp_path: Path) -> None:
    answer = session(tmp_path / "data", WITHOUT_A_NAME)
    assert "ConfigurationError: PostgreSQL refuses to run as user id 54321" in answer.stderr.splitlines()[-1]


def test_a_user_id_without_a_name_runs_it_in_a_namespace(tmp_path: Path) -> None:
    assert succeed(session(tmp_path / "data", WITHOUT_A_NAME, namespaces=2))[0] == "1"


def test_without_namespaces_root_runs_it_as_nobody(tmp_path: Path) -> None:
    accounts = pwd.getpwall()
    tmp_path.chmod(0o700)  # as /root is: the other user cannot come in through the door
    starts, uid, socket_dir = succeed(session(tmp_path / "data", ALL_USERS))
    assert starts == "1"
    assert int(uid) == NOBODY
    assert (tmp_path / "data" / "cluster").stat().st_uid == int(uid)
    assert (tmp_path / "data").stat().st_uid == 0
    assert not Path(socket_dir).exists()  # nor the copy of the programs in it
    assert succeed(session(tmp_path / "data", ALL_USERS))[:2] == ["2", uid]
    assert pwd.getpwall() == accounts


def test_such_a_cluster_keeps_its_user_where_namespaces_are_allowed(tmp_path: Path) -> None:
    _, uid, _ = succeed(session(tmp_path / "data", ALL_USERS))
    with EmbeddedPostgres(tmp_path / "data", throw_away=True) as postgres:
        assert Path(f"/proc/{postgres.pid}").stat().st_uid == int(uid)


@pytest.mark.parametrize("killed", ["owner", "supervisor"])
def test_as_nobody_too_it_ends_with_whoever_is_killed(tmp_path: Path, killed: str) -> None:
    starter = HOLD.replace("KILLED", killed)
    owner = subprocess.Popen(
        [sys.executable, "-c", CONTAINER, ALL_USERS, "0", "-c", starter, str(tmp_path / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    process = Path("/proc", owner.stdout.readline().strip())
    deadline = time.monotonic() + PATIENCE_S
    note = tmp_path / "data" / "temporary"
    while process.exists() or (killed == "owner" and note.exists()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    owner.communicate()
    used = note.read_text() if note.exists() else ""
    assert bool(used) == (killed == "supervisor")  # it had no chance to clean up
    succeed(session(tmp_path / "data", ALL_USERS))
    assert not used or not Path(used).exists()
    assert not note.exists()


def test_a_cluster_of_root_without_namespaces_is_one_clear_line(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "data", throw_away=True):
        pass
    answer = session(tmp_path / "data", ALL_USERS)
    assert "ConfigurationError: the database in" in answer.stderr.splitlines()[-1]
    assert "belongs to root" in answer.stderr.splitlines()[-1]


def test_where_there_is_no_way_at_all_it_says_so(tmp_path: Path) -> None:
    answer = session(tmp_path / "data", ONLY_ROOT)
    assert "ConfigurationError: PostgreSQL refuses to run as root" in answer.stderr.splitlines()[-1]
    assert "run this as an ordinary user" in answer.stderr.splitlines()[-1]


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir(0o700)
    os.chown(foreign, 65_534, 65_534)
    answer = session(foreign / "data", ORDINARY_USER)
    assert "ConfigurationError: cannot" in answer.stderr.splitlines()[-1]
    assert "Permission denied" in answer.stderr.splitlines()[-1]
    answer = session(foreign, ORDINARY_USER)
    assert "ConfigurationError: " in answer.stderr.splitlines()[-1]
    assert "Permission denied" in answer.stderr.splitlines()[-1]
