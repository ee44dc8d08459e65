"""Several worker processes on one address: killed, replaced, counted together, stopped."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from reference_server.storage.migrations import migrate
from sungrow_lib.demo.certificates import CertificateFiles
from tests.mortal import Mortal
from tests.patience import PATIENCE_S
from tests.server.conftest import TOKEN
from tests.server.load import Load, client, post, recent
from tests.server.test_processes import (
    COMMAND,
    _environment,
    _free_port,
    until_healthy,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1200)]


Strike = Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]]


@dataclass
class Fleet:
    """A server with two workers."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    def said(self, event: str) -> list[dict[str, Any]]:
        whole, _, _ = self.log.read_text().rpartition("\n")  # the last line may be on its way
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def workers(self) -> list[int]:
        """Processes that listen now, by number."""
        return list({line["worker"]: line["pid"] for line in self.said("listening")}.values())

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not done():  # noqa: ASYNC110 - what other processes do has no event here
                await asyncio.sleep(0.02)

    async def until_listening(self, starts: int = 2) -> None:
        await self.until(lambda: len(self.said("listening")) >= starts)


@contextmanager
def _process(dsn: str, folder: Path, more: dict[str, str]) -> Iterator[Fleet]:
    port, log = _free_port(), folder / "log"
    env = _environment(dsn, port, WORKERS="2", **more)
    with (
        log.open("wb") as errors,
        subprocess.Popen([*COMMAND, "run"], env=env, stderr=errors) as process,
    ):
        try:
            yield Fleet(process, log, port)
        finally:
            process.kill()


@asynccontextmanager
async def fleet(dsn: str, folder: Path, **more: str) -> AsyncIterator[Fleet]:
    with _process(dsn, folder, more) as running:
        await running.until_listening()
        yield running


@asynccontextmanager
async def fresh(port: int) -> AsyncIterator[aiohttp.ClientSession]:
    """A client on a connection of its own: the kernel chooses the worker."""
    async with client(port) as session:
        yield session


def _is_running(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].strip().startswith("Z")
    except OSError:
        return False


async def test_workers_killed_under_load_store_every_answered_reading_once(
    migrated: str, tmp_path: Path
) -> None:
    kills = 4
    async with fleet(migrated, tmp_path) as running:
        load = Load(running.port)
        async with load.flowing():
            for kill in range(1, kills + 1):
                await load.until_answered(10)
                os.kill(random.choice(running.workers()), signal.SIGKILL)
                await running.until_listening(2 + kill)
        assert len(running.said("a worker ended and is replaced")) == kills
    load.check(migrated)


async def _beset(running: Fleet, dsn: str, strike: Strike) -> None:
    """Send from many sides while ``strike`` hits transactions in the middle of their COPY."""
    async with client(running.port) as session:
        await until_healthy(session)
    load = Load(running.port, size=100, contradicted=True)
    async with load.flowing():
        for _ in range(4):
            await load.until_answered()
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as monitor:
                while not await _copying(monitor):
                    pass
                with suppress(psycopg.OperationalError):  # it may hit the monitor too
                    await strike(monitor)
    assert {200} <= set(load.statuses) <= {200, 503}  # what is lost may be tried again in time
    load.check(dsn)


async def _copying(monitor: psycopg.AsyncConnection[Any]) -> list[int]:
    """Backends that bring rows in now."""
    sql = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY samples%'"
    return [pid for (pid,) in await (await monitor.execute(sql)).fetchall()]


async def test_sessions_ended_in_mid_batch_cost_nothing(migrated: str, tmp_path: Path) -> None:
    async def end_sessions(monitor: psycopg.AsyncConnection[Any]) -> None:
        await monitor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'sungrow-server pool'"
        )

    async with fleet(migrated, tmp_path) as running:
        await _beset(running, migrated, end_sessions)


async def test_a_database_killed_in_mid_batch_costs_nothing(mortal_database: Mortal, tmp_path: Path) -> None:
    migrate(mortal_database.dsn)

    async def kill(_: psycopg.AsyncConnection[Any]) -> None:
        await asyncio.to_thread(mortal_database.kill)
        await asyncio.to_thread(mortal_database.start)

    async with fleet(mortal_database.dsn, tmp_path) as running:
        await _beset(running, mortal_database.dsn, kill)


async def _counted(port: int) -> int:
    async with fresh(port) as session, session.get("/metrics") as answer:
        text = await answer.text()
    [line] = [
        line for line in text.splitlines() if line.startswith('sungrow_samples_total{verdict="inserted"}')
    ]
    return int(float(line.split()[1]))


@pytest.mark.one_engine
async def test_every_worker_counts_what_all_did_also_those_that_died(migrated: str, tmp_path: Path) -> None:
    async with fleet(migrated, tmp_path) as running:
        for number in range(16):
            async with fresh(running.port) as session:
                assert (await post(session, recent(number)))["inserted"] == 1
        assert {await _counted(running.port) for _ in range(8)} == {16}
        for number, worker in enumerate(running.workers()):
            os.kill(worker, signal.SIGKILL)
            await running.until_listening(3 + number)
        assert await _counted(running.port) == 16


@pytest.mark.one_engine
async def test_a_stream_on_any_worker_hears_what_any_other_stored(migrated: str, tmp_path: Path) -> None:
    async def heard(opened: asyncio.Semaphore) -> int:
        async with fresh(running.port) as session, session.get("/v1/stream") as answer:
            assert answer.status == 200
            opened.release()
            async for line in answer.content:
                if line.startswith(b"data:"):
                    return int(json.loads(line[5:])["pv_power_w"])
        raise AssertionError

    async with fleet(migrated, tmp_path) as running:
        async with fresh(running.port) as session:
            await post(session, recent(0))
            opened = asyncio.Semaphore(0)
            listening = [asyncio.create_task(heard(opened)) for _ in range(12)]
            for _ in listening:
                await opened.acquire()
            await post(session, recent(5, pv_power_w=77))
        assert await asyncio.wait_for(asyncio.gather(*listening), PATIENCE_S) == [77] * 12


@pytest.mark.one_engine
async def test_sigterm_ends_all_of_them_and_exits_0(migrated: str, tmp_path: Path) -> None:
    async with fleet(migrated, tmp_path) as running:
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.process.wait, 60) == 0
        assert len(running.said("stopping")) == 2
        assert not any(map(_is_running, running.workers()))
        assert not running.said("a worker ended and is replaced")


@pytest.mark.one_engine
async def test_workers_end_when_their_supervisor_is_killed(migrated: str, tmp_path: Path) -> None:
    async with fleet(migrated, tmp_path) as running:
        running.process.kill()
        await running.until(lambda: not any(map(_is_running, running.workers())))


@pytest.mark.one_engine
async def test_what_a_killed_server_left_behind_is_cleaned_up(migrated: str, tmp_path: Path) -> None:
    """Where its workers counted together; a server that runs keeps its own."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    def folders() -> set[Path]:
        return set(temporary.glob("sungrow-metrics-*"))

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with fleet(migrated, tmp_path, TMPDIR=str(temporary)) as killed:
        killed.process.kill()
        await killed.until(lambda: not any(map(_is_running, killed.workers())))
        left = folders()
        assert len(left) == 1
    async with fleet(migrated, tmp_path / "one", TMPDIR=str(temporary)) as running:
        [own] = folders()
        assert own not in left
        async with fleet(migrated, tmp_path / "two", TMPDIR=str(temporary)) as other:
            assert len(folders()) == 2
            other.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(other.process.wait, 60) == 0
        assert folders() == {own}
        assert running.process.poll() is None


async def test_an_address_that_another_server_has_is_refused(tmp_path: Path) -> None:
    async with fleet("host=/nonexistent", tmp_path) as running:
        env = _environment("host=/nonexistent", running.port, WORKERS="2")
        run = partial(subprocess.run, [*COMMAND, "run"], env=env, capture_output=True, text=True, check=False)
        other = await asyncio.to_thread(run)
        assert other.returncode == 2
        assert "LISTEN_PORT" in other.stderr


@pytest.mark.one_engine
async def test_https(migrated: str, tmp_path: Path, tls_files: CertificateFiles) -> None:
    tls = {"TLS_CERT_FILE": str(tls_files.cert), "TLS_KEY_FILE": str(tls_files.key)}
    async with fleet(migrated, tmp_path, **tls) as running:
        context = ssl.create_default_context(cafile=tls_files.ca)
        url = f"https://127.0.0.1:{running.port}/openapi.json"
        async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
            assert answer.status == 200


@pytest.mark.one_engine
async def test_a_unix_socket(migrated: str, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    async with fleet(migrated, tmp_path, LISTEN_HOST=f"unix:{path}") as running:
        for worker in running.workers():
            connector = aiohttp.UnixConnector(str(path))
            async with aiohttp.ClientSession("http://server", connector=connector) as session:
                await asyncio.wait_for(until_healthy(session), PATIENCE_S)
                headers = {"Authorization": f"Bearer {TOKEN}"}
                async with session.get("/v1/devices", headers=headers) as answer:
                    assert answer.status == 200
            os.kill(worker, signal.SIGKILL)
            await running.until_listening(3)
