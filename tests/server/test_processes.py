"""The server as a process: killed, stopped, without a database, with a wrong configuration."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from reference_server.storage.migrations import migrate
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.postgres import EmbeddedPostgres
from sungrow_lib.demo.setup import free_ports
from tests.patience import PATIENCE_S
from tests.server.conftest import TOKEN
from tests.server.load import Load, client, recent, stored

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1200)]

COMMAND = [sys.executable, "-m", "reference_server"]


def _free_port() -> int:
    [port] = free_ports(1)
    return port


def _environment(dsn: str, port: int, **more: str) -> dict[str, str]:
    settings = {"DATABASE_URL": dsn, "DEVICE_TOKENS": f"{TOKEN}:sh-1", "LISTEN_PORT": str(port)}
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | settings | more


@contextmanager
def running(dsn: str, port: int, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([*COMMAND, "run"], env=_environment(dsn, port, **more)) as process:
        try:
            yield process
        finally:
            process.kill()


async def until_healthy(session: aiohttp.ClientSession) -> None:
    while True:
        try:
            async with session.get("/health") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.05)


async def test_killed_again_and_again_every_reading_is_stored_once(migrated: str) -> None:
    load = Load(port := _free_port())
    with ExitStack() as last:
        async with load.flowing():
            for _ in range(3):
                with running(migrated, port) as process:
                    await load.until_answered(10)
                    process.kill()
                    process.wait()
            last.enter_context(running(migrated, port))
            await load.until_answered()
    load.check(migrated)


async def test_postgresql_killed_in_the_middle(tmp_path: Path) -> None:
    load = Load(port := _free_port(), size=50)
    with EmbeddedPostgres(tmp_path / "data") as cluster:
        migrate(cluster.dsn)
        with running(cluster.dsn, port):
            async with load.flowing():
                for _ in range(2):
                    await load.until_answered()
                    cluster.kill()
                    cluster.start()
                await load.until_answered()
            async with client(port) as session:
                await until_healthy(session)
        load.check(cluster.dsn)


async def test_it_starts_before_its_database(tmp_path: Path) -> None:
    port = _free_port()
    cluster = EmbeddedPostgres(tmp_path / "data")
    cluster.start()
    migrate(cluster.dsn)
    cluster.stop()
    with running(cluster.dsn, port) as process:
        async with client(port) as session:
            await _until_listening(port)
            async with session.get("/health") as answer:
                assert answer.status == 503
            assert process.poll() is None
            with cluster:
                await asyncio.wait_for(until_healthy(session), PATIENCE_S)


async def _until_listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            await writer.wait_closed()
            return


async def test_sigterm_finishes_what_was_taken_and_exits_0(migrated: str) -> None:
    port = _free_port()
    with running(migrated, port) as process:
        async with client(port) as session:
            await until_healthy(session)
            with psycopg.connect(migrated) as blocker:  # holds the batch up until after the signal
                blocker.execute("LOCK TABLE samples IN ACCESS EXCLUSIVE MODE")
                posting = asyncio.create_task(_posted(session, recent()))
                await _until_blocked(migrated)
                process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.3)
                assert not posting.done()
            answer, connection = await posting
            assert (answer["inserted"], connection) == (1, "close")  # the next one goes to another server
        assert await asyncio.to_thread(process.wait, 60) == 0
    assert stored(migrated)[0] == 1


async def _posted(session: aiohttp.ClientSession, *batch: dict[str, Any]) -> tuple[Any, str | None]:
    async with session.post("/v1/ingest", json={"samples": batch}) as answer:
        return await answer.json(), answer.headers.get("Connection")


async def _until_blocked(dsn: str) -> None:
    """Wait until a session waits for another one's lock."""
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as monitor:
        while not await (await monitor.execute(waiting)).fetchone():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.02)


@pytest.mark.one_engine
async def test_https_and_a_unix_socket(migrated: str, tls_files: CertificateFiles, tmp_path: Path) -> None:
    port = _free_port()
    tls = {"TLS_CERT_FILE": str(tls_files.cert), "TLS_KEY_FILE": str(tls_files.key)}
    with running(migrated, port, LISTEN_HOST="0.0.0.0", **tls):
        await _until_listening(port)
        context = ssl.create_default_context(cafile=tls_files.ca)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"https://127.0.0.1:{port}/openapi.json", ssl=context) as answer,
        ):
            assert answer.status == 200
    path = tmp_path / "http.sock"
    for _ in range(2):  # the second finds the socket of the first, which was killed
        with running(migrated, 0, LISTEN_HOST=f"unix:{path}"):
            connector = aiohttp.UnixConnector(str(path))
            async with aiohttp.ClientSession("http://server", connector=connector) as session:
                await asyncio.wait_for(until_healthy(session), PATIENCE_S)


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({"LISTEN_HOST": "0.0.0.0"}, "LISTEN_HOST"),
        ({"LISTEN_PORT": "many"}, "LISTEN_PORT"),
        ({"TLS_CERT_FILE": "/nonexistent"}, "TLS_KEY_FILE"),
        ({"TLS_CERT_FILE": "/nonexistent", "TLS_KEY_FILE": "/nonexistent"}, "TLS_CERT_FILE"),
        ({"DEVICE_TOKENS": "secret-without-device-0123"}, "DEVICE_TOKENS"),
        ({"DEVICE_TOKENS": ":sh-1"}, "DEVICE_TOKENS"),
        ({"DATABASE_URL": "mysql://a:b@c/d"}, "DATABASE_URL"),
        ({"TRUSTED_PROXIES": "caddy"}, "TRUSTED_PROXIES"),
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"RAW_RETENTION_DAYS": "0"}, "RAW_RETENTION_DAYS"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(settings: dict[str, str], variable: str) -> None:
    env = _environment("host=/nonexistent", 0) | settings
    done = subprocess.run(
        [*COMMAND, "run"], env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 2, done.stderr
    assert variable in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "secret-without-device" not in done.stderr


def test_an_address_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        env = _environment("host=/nonexistent", taken.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "run"], env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
