"""What the edge says of itself: its check, its health file, its lock and its help."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reference_edge.advice import advise
from reference_edge.health import health_lines, read_health
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import Child, python, wait_until
from sungrow_lib.demo.proof import read_events
from sungrow_lib.demo.setup import clean_environment, free_ports
from sungrow_lib.sample import format_ts
from tests.patience import PATIENCE_S

TOKEN = "edge-token-0123456789"


def environment(folder: Path, ca: Path, **more: str) -> dict[str, str]:
    inverter, server = free_ports(2)
    return (
        clean_environment()
        | {
            "SERVER_URL": f"https://localhost:{server}",
            "DEVICE_TOKEN": TOKEN,
            "CA_FILE": str(ca),
            "SUNGROW_HOST": "127.0.0.1",
            "SUNGROW_PORT": str(inverter),
            "DEVICE_ID": "roof",
            "SPOOL_PATH": str(folder / "spool.sqlite"),
            "SUNGROW_LOCK_DIR": str(folder),
        }
        | more
    )


def edge(variables: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        python("reference_edge", *words),
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


@contextmanager
def daemon(folder: Path, variables: dict[str, str]) -> Iterator[Child]:
    child = Child("the edge", python("reference_edge", "run"), folder / "edge.log", environment=variables)
    try:
        yield child
    finally:
        child.stop(60.0)


def said(folder: Path, level: str) -> list[dict[str, Any]]:
    return [entry for entry in read_events(folder / "edge.log") if entry["level"] == level]


def test_a_second_daemon_refuses_and_names_the_first(tmp_path: Path, tls_files: CertificateFiles) -> None:
    variables = environment(tmp_path, tls_files.ca)
    health = tmp_path / "spool.sqlite.health.json"
    with daemon(tmp_path, variables) as first:
        wait_until("the daemon", health.exists, timeout_s=PATIENCE_S, watched=[first])
        pid = json.loads(health.read_text())["pid"]
        second = edge(variables, "run")
        assert second.returncode == 1
        [line] = second.stderr.splitlines()
        assert f"process {pid} works on {tmp_path / 'spool.sqlite'} already" in line
        os.kill(pid, signal.SIGKILL)
        wait_until("its end", lambda: first.exit_status is not None, timeout_s=PATIENCE_S)
    (tmp_path / "edge.log").unlink()
    with daemon(tmp_path, variables) as third:
        wait_until("a poll", lambda: bool(said(tmp_path, "warning")), timeout_s=PATIENCE_S, watched=[third])


def test_status_shows_what_the_daemon_says(tmp_path: Path, tls_files: CertificateFiles) -> None:
    missing = tmp_path / "token"
    health = tmp_path / "health.json"
    variables = environment(
        tmp_path, tls_files.ca, DEVICE_TOKEN="", DEVICE_TOKEN_FILE=str(missing), HEALTH_FILE=str(health)
    )
    with daemon(tmp_path, variables) as child:
        wait_until(
            "a poll",
            lambda: health.exists() and "roof" in json.loads(health.read_text())["polls"],
            timeout_s=PATIENCE_S,
            watched=[child],
        )
        done = edge(variables, "status", "--json")
        lines = edge(variables, "status").stdout
        alive = edge(variables, "status", "--alive")
        spool = Path(variables["SPOOL_PATH"])  # a new one is written whole at once, with nothing in its log
        content = spool.read_bytes()
        os.kill(child.pid, signal.SIGSTOP)  # it would notice, and put it right
        spool.write_bytes(content[:2048] + b"rubbish!" * (len(content[2048:]) // 8))
        damaged = edge(variables, "status")
        as_json = edge(variables, "status", "--json")
        spool.write_bytes(content)
        os.kill(child.pid, signal.SIGCONT)
    assert damaged.returncode == as_json.returncode == 1
    assert damaged.stdout.startswith("the daemon runs")
    assert "is damaged" in damaged.stderr
    assert json.loads(as_json.stdout)["daemon"]["running"]
    assert "is damaged" in json.loads(as_json.stdout)["spool_error"]
    assert alive.returncode == 0
    assert alive.stdout.startswith("the daemon runs")
    assert done.returncode == 0
    status = json.loads(done.stdout)
    assert status["spool"]["accepted"] == 0
    told = status["daemon"]
    assert told["running"]
    assert told["polls"]["roof"]["outcome"] == "silent"
    assert {alarm["code"] for alarm in told["alarms"]} - {"inverters"} == {"token"}
    assert f"127.0.0.1:{variables['SUNGROW_PORT']}" in told["connections"]
    assert "ALARM token since" in lines
    [error] = [entry for entry in said(tmp_path, "error") if "token" in entry["event"]]
    assert f"DEVICE_TOKEN_FILE {missing}" in error["reason"]
    after = edge(variables, "status")
    assert after.returncode == 0
    assert "the daemon is not running" in after.stdout
    dead = edge(variables, "status", "--alive")
    assert dead.returncode == 1
    assert "the daemon is not running" in dead.stdout


def report(**changes: object) -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "version": "1",
        "written_at": format_ts(datetime.now(UTC)),
        "polls": {},
        "connections": {},
        "alarms": [],
        "upload": {"connection": "connected", "last_success": None, "last_error": None},
    } | changes


@pytest.mark.parametrize(
    ("changes", "running"),
    [
        ({}, True),
        ({"written_at": "2020-01-01T00:00:00.000Z"}, False),
        ({"written_at": "2999-01-01T00:00:00.000Z"}, False),
        ({"pid": 2**22 + 1}, False),
        ({"pid": "x"}, False),
    ],
)
def test_a_stale_file_or_a_dead_process_is_no_running_daemon(
    tmp_path: Path,
    changes: dict[str, object],
    running: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    file = tmp_path / "health.json"
    file.write_text(json.dumps(report(**changes)))
    health = read_health(file)
    assert health["running"] is running
    assert ("is not running" in "\n".join(health_lines(health))) is not running


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "null", '{"pid": 1, "written_at": "2026-01-01T00:00:00.000Z"}']
)
def test_a_damaged_health_file_is_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / "health.json"
    file.write_text(content)
    assert read_health(file) == {"running": False, "age_s": None}


@pytest.mark.parametrize("content", [None, ""])
def test_check_offline_fails_for_a_useless_token_file(
    tmp_path: Path, tls_files: CertificateFiles, content: str | None
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    variables = environment(tmp_path, tls_files.ca, DEVICE_TOKEN="", DEVICE_TOKEN_FILE=str(file))
    done = edge(variables, "check", "--offline")
    assert done.returncode == 1
    assert f"FAIL  token: DEVICE_TOKEN_FILE {file}" in done.stdout
    file.write_text(TOKEN)
    assert edge(variables, "check", "--offline").returncode == 0


def test_check_offline_fails_for_a_useless_certificate_file(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    file = tmp_path / "ca.pem"
    variables = environment(tmp_path, file)
    for content in (None, "no certificate"):
        if content is not None:
            file.write_text(content)
        done = edge(variables, "check", "--offline")
        assert done.returncode == 1
        assert f"FAIL  authority: CA_FILE {file}" in done.stdout
    file.write_bytes(tls_files.ca.read_bytes())
    assert edge(variables, "check", "--offline").returncode == 0


def test_check_tries_the_spool(tmp_path: Path, tls_files: CertificateFiles) -> None:
    for path in (Path("/proc/e.sqlite"), tmp_path / "none" / "spool.sqlite"):
        done = edge(environment(tmp_path, tls_files.ca, SPOOL_PATH=str(path)), "check", "--offline")
        assert done.returncode == 1, path
        assert "FAIL  spool: " in done.stdout
        assert done.stderr == ""
    no_spool = tmp_path / "ca.pem"
    no_spool.write_bytes(tls_files.ca.read_bytes())
    done = edge(environment(tmp_path, tls_files.ca, SPOOL_PATH=str(no_spool)), "check", "--offline")
    assert done.returncode == 2
    assert f"{no_spool} is no spool but some other file" in done.stderr
    assert no_spool.read_bytes() == tls_files.ca.read_bytes()
    done = edge(environment(tmp_path, tls_files.ca), "check", "--offline")
    assert done.returncode == 0
    assert not (tmp_path / "spool.sqlite").exists()


@pytest.mark.parametrize(
    ("variable", "what"), [("SUNGROW_LOCK_DIR", "locks"), ("SUNGROW_STATE_DIR", "notes")]
)
def test_check_offline_tries_the_folders_of_locks_and_notes(
    tmp_path: Path, tls_files: CertificateFiles, variable: str, what: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "in-it", Path("/proc/none")):
        done = edge(environment(tmp_path, tls_files.ca, **{variable: str(folder)}), "check", "--offline")
        assert done.returncode == 1, folder
        [line] = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
        assert line.startswith(f"FAIL  {what}: ")
        assert variable in line
        assert done.stderr == ""
    good = tmp_path / "good"
    good.mkdir()
    done = edge(environment(tmp_path, tls_files.ca, **{variable: str(good)}), "check", "--offline")
    assert done.returncode == 0
    assert f"ok    {what}: {good}" in done.stdout
    assert not list(good.iterdir())


def test_check_says_where_notes_will_be_and_makes_nothing(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    done = edge(environment(tmp_path, tls_files.ca), "check", "--offline")
    assert f"ok    notes: {tmp_path / 'sungrow-state'} (the daemon will make it)" in done.stdout
    assert not list(tmp_path.iterdir())
    missing = tmp_path / "none"
    done = edge(environment(tmp_path, tls_files.ca, SUNGROW_LOCK_DIR=str(missing)), "check", "--offline")
    assert done.returncode == 1
    assert f"FAIL  locks: the folder {missing} does not exist; make it (SUNGROW_LOCK_DIR)" in done.stdout


def test_check_tries_where_the_health_file_goes_and_the_port_of_the_metrics(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    [port] = free_ports(1)
    health = tmp_path / "none" / "health.json"
    variables = environment(tmp_path, tls_files.ca, HEALTH_FILE=str(health), METRICS_PORT=str(port))
    with socket.create_server(("127.0.0.1", port)) as taken:
        taken.settimeout(0.1)
        answering = threading.Thread(target=refuse_all, args=[taken])
        answering.start()
        done = edge(variables, "check", "--offline")
    answering.join()
    assert done.returncode == 1
    assert (
        f"FAIL  health file: the folder {health.parent} does not exist; make it (HEALTH_FILE)" in done.stdout
    )
    assert f"FAIL  metrics: METRICS_PORT: port {port} on 127.0.0.1 cannot be used" in done.stdout
    health.parent.mkdir()
    assert edge(variables, "check", "--offline").returncode == 0
    with daemon(tmp_path, variables) as child:
        wait_until("the daemon", health.exists, timeout_s=PATIENCE_S, watched=[child])
        beside = edge(variables, "check", "--offline")
    assert beside.returncode == 0
    assert f"ok    metrics: 127.0.0.1:{port} (the daemon answers there)" in beside.stdout


def refuse_all(listener: socket.socket) -> None:
    """Be some other program: take connections, and end them."""
    with suppress(OSError):  # closed
        while True:
            with suppress(TimeoutError):
                listener.accept()[0].close()


@pytest.mark.parametrize("command", ["run", "check", "status"])
def test_help_teaches(command: str) -> None:
    done = edge(clean_environment(), command, "--help")
    assert done.returncode == 0
    assert f"  sungrow-edge {command}" in done.stdout
    assert "exit status: 0 " in done.stdout


def test_advice_names_settings() -> None:
    assert advise("check --unit and --family") == "check SUNGROW_UNIT_ID/`unit` and SUNGROW_FAMILY/`family`"
