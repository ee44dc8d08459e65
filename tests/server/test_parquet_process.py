"""Parquet is made by processes of their own: what they leave behind, and what becomes of their answers."""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from operator import sub
from pathlib import Path
from typing import Any, Final

import aiohttp
import psycopg
import pytest
from pyarrow.parquet import ParquetFile

from reference_server import parquet, parquet_process, tables
from reference_server.parquet import PARQUET
from reference_server.parquet_process import ParquetFiles
from reference_server.problems import Problem
from reference_server.storage import looks
from sungrow_lib.sample import format_ts
from tests.patience import PATIENCE_S
from tests.server.conftest import NOW, Api, sample
from tests.server.load import post, recent
from tests.server.test_workers import Fleet, _is_running, fleet, fresh

pytestmark = [pytest.mark.anyio, pytest.mark.one_engine]

HOUR = {"from": "2026-06-15T11:00:00Z", "to": "2026-06-15T12:00:00Z", "device_id": "sh-1"}
_MOST_MORE_MB: Final = 40.0
"""A worker takes so much more for the readings of an answer at most: Arrow alone would take it."""


def makers(*servers: int) -> list[int]:
    """Processes of servers that make Parquet, and any that have ended and were never waited for."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if int(parent) in (servers or [os.getpid()]) and (
            state == "Z" or b"reference_server.parquet" in command
        ):
            found.append(int(folder.name))
    return found


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not done():  # noqa: ASYNC110 - what other processes do has no event here
            await asyncio.sleep(0.01)


@pytest.fixture
async def endless(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """A server whose answers of raw readings never end by themselves."""
    monkeypatch.setattr(tables, "_ROWS_AT_ONCE", 10)
    monkeypatch.setattr(tables, "_ROW_GROUP", 10)
    await api.ingest(*(sample(i, pv_power_w=i) for i in range(10)))
    some = looks.rows_between

    async def the_same_again(database: Any, device: int, _after: Any, *rest: Any) -> Any:
        return await some(database, device, NOW - timedelta(hours=1), *rest)

    monkeypatch.setattr(tables, "rows_between", the_same_again)
    return api


@asynccontextmanager
async def asking(api: Api, **query: str) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = api.headers() | {"Accept": PARQUET}
    async with api.session.get(api.url + "/v1/series", params=HOUR | query, headers=headers) as answer:
        yield answer


async def test_the_file_is_the_one_that_would_be_made_here(api: Api) -> None:
    await api.ingest(
        *(sample(i, pv_power_w=i, mppt_voltage_v=[None, 5.5], running_state="L\u00e4uft") for i in range(300))
    )
    headers = api.headers()
    async with api.session.get(
        api.url + "/v1/series", params=HOUR | {"bucket": "raw"}, headers=headers
    ) as told:
        records = (await told.json())["series"]
    async with asking(api, bucket="raw") as answer:
        body = await answer.read()
    file = parquet.ParquetFile(ParquetFile(io.BytesIO(body)).schema_arrow.names, "UTC")
    for start in range(0, len(records), looks.ROWS_IN_ONE_GO):
        file.add(records[start : start + looks.ROWS_IN_ONE_GO])
    assert body == file.end()
    assert makers() == []


async def test_a_worker_never_loads_arrow(migrated: str, tmp_path: Path) -> None:
    """A year is made elsewhere."""
    async with fleet(migrated, tmp_path) as running:
        workers = running.workers()
        begin, end = datetime.now(UTC) - timedelta(days=365), datetime.now(UTC)
        span = {"from": format_ts(begin), "to": format_ts(end), "device_id": "sh-1", "bucket": "15m"}
        async with fresh(running.port) as session:
            await post(session, recent())
            before = list(map(_resident_mb, workers))
            async with session.get("/v1/series", params=span, headers={"Accept": PARQUET}) as answer:
                assert answer.status == 200
                assert ParquetFile(io.BytesIO(await answer.read())).metadata.num_rows > 35_000
            await until(lambda: not makers(*workers))
        assert not [worker for worker in workers if "arrow" in _told(worker, "maps")]
        assert max(map(sub, map(_resident_mb, workers), before)) < _MOST_MORE_MB


def _told(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def _resident_mb(pid: int) -> float:
    return int(_told(pid, "status").partition("VmRSS:")[2].split()[0]) / 1024


def _ignores(pid: int, number: int) -> int:
    return int(_told(pid, "status").partition("SigIgn:")[2].split()[0], 16) & 1 << number - 1


@asynccontextmanager
async def held_up(running: Fleet, dsn: str) -> AsyncIterator[tuple[asyncio.Task[bytes], int]]:
    """An answer that waits for its readings until the context ends, and the process that makes it."""

    async def ask() -> bytes:
        async with fresh(running.port) as session:
            begin, end = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC)
            span = {"from": format_ts(begin), "to": format_ts(end), "device_id": "sh-1", "bucket": "raw"}
            async with session.get("/v1/series", params=span, headers={"Accept": PARQUET}) as answer:
                assert answer.status == 200
                return await answer.read()

    async with fresh(running.port) as session:
        await post(session, recent(pv_power_w=7))
    with psycopg.connect(dsn) as blocker:
        blocker.execute("LOCK TABLE samples IN ACCESS EXCLUSIVE MODE")
        asked = asyncio.create_task(ask())
        await until(lambda: makers(*running.workers()))
        [maker] = makers(*running.workers())
        await until(lambda: _ignores(maker, signal.SIGTERM))
        yield asked, maker


async def test_a_server_that_is_stopped_finishes_the_file(migrated: str, tmp_path: Path) -> None:
    """A service manager tells all its processes at once."""
    async with fleet(migrated, tmp_path) as running:
        async with held_up(running, migrated) as (asked, maker):
            for process in (running.process.pid, maker):
                os.kill(process, signal.SIGTERM)
            await running.until(lambda: len(running.said("stopping")) == 2)
        table = ParquetFile(io.BytesIO(await asked)).read()
        assert table["pv_power_w"].to_pylist() == [7]
        assert await asyncio.to_thread(running.process.wait, PATIENCE_S) == 0
        assert "Traceback" not in running.log.read_text()


async def test_it_has_nothing_open_of_its_worker_and_ends_with_it(migrated: str, tmp_path: Path) -> None:
    async with fleet(migrated, tmp_path) as running, held_up(running, migrated) as (asked, maker):
        own, theirs = _sockets(maker), set[str]().union(*map(_sockets, running.workers()))
        assert (len(own), own & theirs) == (1, set())
        worker = int(_told(maker, "stat").rpartition(")")[2].split()[1])
        os.kill(worker, signal.SIGKILL)
        await until(lambda: not _is_running(maker))
        asked.cancel()


def _sockets(pid: int) -> set[str]:
    links = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # a file that it had open for a moment
            links.add(str(link.readlink()))
    return {link for link in links if link.startswith("socket:")}


async def test_a_client_that_leaves_ends_it(endless: Api) -> None:
    async with asking(endless, bucket="raw") as answer:
        await answer.content.readexactly(5_000)
        assert len(makers()) == 1
        answer.close()
    await until(lambda: not makers())


async def test_a_client_that_takes_nothing_more_keeps_nobody_waiting(
    endless: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(tables, "_STALLED_S", 0.5)
    async with asking(endless, bucket="raw") as answer:
        await answer.content.readexactly(5_000)
        assert len(makers()) == 1
        await until(lambda: not makers())
        with pytest.raises(aiohttp.ClientPayloadError):  # no whole file, and it shows
            await answer.read()
    assert "the client takes nothing more of its answer" in caplog.messages


async def test_it_is_born_deaf_to_what_is_said_to_all_and_knows_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:secret@localhost/")
    deaf = sum(1 << number - 1 for number in (signal.SIGINT, signal.SIGTERM))
    async with ParquetFiles().file(["bucket"], "UTC") as file:
        pid = file._process.pid
        blocked = int(_told(pid, "status").partition("SigBlk:")[2].split()[0], 16)
        assert blocked & deaf == deaf
        assert "secret" not in _told(pid, "environ")
        assert (await file.end())[-4:] == b"PAR1"
    assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) & {signal.SIGINT, signal.SIGTERM} == set()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ECONNRESET])
def test_why_there_is_no_file_is_told_whatever_it_is(number: int) -> None:
    program = (
        "from reference_server import parquet\n"
        "class File:\n"
        "    def __init__(self, **about):\n"
        f"        raise OSError({number}, 'a reason')\n"
        "parquet.ParquetFile = File\n"
        "parquet.main()\n"
    )
    asked = b'{"names": [], "zone": "UTC"}\n"end"\n'
    done = subprocess.run([sys.executable, "-c", program], input=asked, capture_output=True, check=True)
    assert done.stdout[:1] == parquet.FAILED
    assert b"a reason" in done.stdout
    assert done.stderr == b""


async def test_head_leaves_none(endless: Api) -> None:
    headers = endless.headers() | {"Accept": PARQUET}
    query = HOUR | {"bucket": "raw"}
    async with endless.session.head(endless.url + "/v1/series", params=query, headers=headers) as answer:
        assert answer.status == 200
    await until(lambda: not makers())


async def test_an_answer_whose_process_is_killed_is_broken(
    endless: Api, caplog: pytest.LogCaptureFixture
) -> None:
    async with asking(endless, bucket="raw") as answer:
        assert answer.status == 200
        await answer.content.readexactly(5_000)
        [maker] = makers()
        os.kill(maker, signal.SIGKILL)
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
    await until(lambda: not makers())
    [line] = [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
    assert line.message == "a Parquet file could not be made"
    assert (vars(line)["exit_status"], line.exc_info) == (-signal.SIGKILL, None)


async def test_without_arrow_the_log_says_what_to_install(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are answered all the same."""
    (tmp_path / "pyarrow.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(tmp_path)
    await api.ingest(sample(0, pv_power_w=1))
    for bucket in ("raw", "15m"):
        caplog.clear()
        async with asking(api, bucket=bucket) as answer:
            assert (answer.status, answer.content_type) == (500, "application/problem+json")
            assert "its log says why" in (await answer.json())["detail"]
        [line] = [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
        assert "tables need pyarrow: pip install pyarrow" in vars(line)["error"]
        assert line.exc_info is None
    assert makers() == []
    assert (await api.get("/v1/series", **HOUR, bucket="15m"))[0] == 200


async def test_where_no_process_can_be_started_it_is_said_once(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    await api.ingest(sample(0, pv_power_w=1))
    async with asking(api, bucket="raw") as answer:
        assert answer.status == 500
    [line] = [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
    assert (line.message, line.exc_info) == ("a Parquet file could not be made", None)


async def test_a_few_are_made_at_once_and_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    files = ParquetFiles(2)
    async with files.file(["bucket"], "UTC") as first:
        async with files.file(["bucket"], "UTC"):
            waiting = asyncio.create_task(_whole(files))
            await until(lambda: files._turns._waiters)
            assert len(makers()) == 2
            monkeypatch.setattr(parquet_process, "_PATIENCE_S", 0.0)
            with pytest.raises(Problem) as refused:
                await _whole(files)
            assert (refused.value.status, int(refused.value.headers["Retry-After"]) > 0) == (503, True)
            assert not waiting.done()
        assert (await waiting)[-4:] == b"PAR1"
        assert (await first.end())[-4:] == b"PAR1"
    assert makers() == []


async def _whole(files: ParquetFiles) -> bytes:
    async with files.file(["bucket"], "UTC") as file:
        return await file.end()


async def test_who_is_cancelled_leaves_no_process_and_no_turn_behind() -> None:
    """Wherever it was at."""
    files = ParquetFiles(1)
    for steps in (0, 1, 2, 3, 5, 8, 13, 21):
        task = asyncio.create_task(_whole(files))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until(lambda: not makers())
    assert (await _whole(files))[-4:] == b"PAR1"
