"""A device that is deleted or erased while readings of it are on their way: none is stored afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reference_server import administration
from reference_server.administration import delete_device, erase_device, set_device
from reference_server.history import DeviceDeletedError, import_csv
from reference_server.storage.errors import StorageError
from reference_server.storage.rollups import LOCK_NAMESPACE, SHARDS
from sungrow_lib.sample import format_ts
from tests.patience import PATIENCE_S
from tests.server.conftest import NOW, Api, sample
from tests.server.load import client, post, recent
from tests.server.test_workers import fleet

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1200)]

_ABOUT_DEVICES = """
SELECT table_name FROM information_schema.columns
WHERE table_schema = 'public' AND column_name = 'device' AND table_name NOT IN ('device_settings', 'devices')
"""
_BLOCKED = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
_DELETED = "SELECT 1 FROM devices WHERE device_id = 'sh-1' AND deleted_at IS NOT NULL"


@asynccontextmanager
async def held(dsn: str, statement: str) -> AsyncIterator[None]:
    """Hold what others need, until the end of the context."""
    async with await psycopg.AsyncConnection.connect(dsn) as blocker:
        await blocker.execute(statement.encode())
        yield


async def until(dsn: str, statement: str) -> None:
    """Wait until a statement answers a row."""
    async with (
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as monitor,
        asyncio.timeout(PATIENCE_S),
    ):
        while not await (await monitor.execute(statement.encode())).fetchone():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


def left(dsn: str, device_id: str = "sh-1") -> dict[str, int]:
    """How much each table knows of a device, those that know nothing left out."""
    with psycopg.connect(dsn) as connection:
        tables = [table for (table,) in connection.execute(_ABOUT_DEVICES).fetchall()]
        assert {"samples", "rollup_15m", "rollup_marks", "kept_aside", "edges", "backfills"} < set(tables)
        counts = {}
        for table in tables:
            counting = f"SELECT count(*) FROM {table} JOIN devices USING (device) WHERE device_id = %s"
            row = connection.execute(counting.encode(), [device_id]).fetchone()
            assert row is not None
            counts[table] = row[0]
    return {table: count for table, count in counts.items() if count}


async def put_status(api: Api, device_id: str) -> int:
    """Say how an edge is; return the status of the answer."""
    body = {"edge_id": "box", "device_id": device_id}
    async with api.session.post(api.url + "/v1/edge-status", json=body, headers=api.headers()) as answer:
        return answer.status


OLD = {"device_id": "sh-1", "ts": format_ts(NOW - timedelta(days=500)), "pv_power_w": 1}


@pytest.mark.parametrize(
    ("table", "batch", "envelope"),
    [
        ("rollup_marks", [sample(5), sample(10)], {}),
        ("rollup_marks", [sample(-5), sample(10)], {}),
        ("rollup_marks", [sample(5, newer=1)], {}),
        ("rollup_marks", [sample(5), sample(5, "sh-2")], {}),
        ("rollup_marks", [sample(5)], {"device": {"model": "SH10RT"}}),
        ("kept_aside", [sample(0, pv_power_w=2)], {}),
        ("kept_aside", [sample(5, pv_power_w="much")], {}),
        ("kept_aside", [OLD], {}),
        ("edges", [sample(0)], {"edge_id": "box"}),
    ],
    ids=["new", "between", "unknown field", "two devices", "info", "conflict", "invalid", "old", "edge"],
)
async def test_what_was_planned_before_a_deletion_is_not_stored_after_it(
    api: Api, table: str, batch: list[dict[str, Any]], envelope: dict[str, Any]
) -> None:
    await api.ingest(sample(-10, pv_power_w=1), sample(0, pv_power_w=1))
    before = left(api.dsn)
    async with held(api.dsn, f"LOCK TABLE {table} IN SHARE MODE"):
        sending = asyncio.create_task(api.send(*batch, **envelope))
        await until(api.dsn, _BLOCKED)
        await delete_device(api.dsn, "sh-1", deleted=True)
    status, answer = await sending
    assert status == 200
    deferred = [index for index, reading in enumerate(batch) if reading["device_id"] == "sh-1"]
    assert answer["deferred"] == [
        {"index": index, "code": "device_deleted", "reason": "this device was deleted here"}
        for index in deferred
    ]
    assert answer["inserted"] == len(batch) - len(deferred)
    assert left(api.dsn) == before
    assert api.rows("SELECT model FROM devices WHERE device_id = 'sh-1'") == [(None,)]


async def test_nothing_is_kept_of_what_a_deleted_device_sends(api: Api) -> None:
    await api.ingest(sample(0))
    await erase_device(api.dsn, "sh-1")
    api.server.devices.forget("sh-1")  # what any process remembers for less than a second
    answer = await api.ingest(sample(5), sample(10, pv_power_w="much"), {"device_id": "sh-1"}, OLD)
    assert [verdict["code"] for verdict in answer["deferred"]] == ["device_deleted"] * 4
    assert left(api.dsn) == {}


async def test_what_an_edge_says_of_itself_is_not_kept_after_a_deletion(api: Api) -> None:
    assert await put_status(api, "sh-1") == 200
    async with held(api.dsn, "LOCK TABLE edge_status IN SHARE MODE"):
        sending = asyncio.create_task(put_status(api, "sh-1"))
        await until(api.dsn, _BLOCKED)
        await delete_device(api.dsn, "sh-1", deleted=True)
        [(before,)] = api.rows("SELECT reported_at FROM edge_status")
    assert await sending == 404
    assert api.rows("SELECT reported_at FROM edge_status") == [(before,)]


async def test_what_came_late_is_not_noted_after_a_deletion(api: Api) -> None:
    await api.ingest(sample(0))
    async with held(api.dsn, "LOCK TABLE backfills IN SHARE MODE"):
        await api.ingest(sample(-20), sample(-10))
        await until(api.dsn, _BLOCKED)
        await delete_device(api.dsn, "sh-1", deleted=True)
    await api.ingest(sample(0, "sh-2"))
    await api.ingest(sample(-10, "sh-2"))
    noted = "SELECT 1 FROM backfills JOIN devices USING (device) WHERE device_id = "
    await until(api.dsn, noted + "'sh-2'")  # told after the other one
    assert api.rows(noted + "'sh-1'") == []


async def test_erase_waits_for_what_is_being_stored(api: Api) -> None:
    await api.ingest(sample(0))
    async with held(api.dsn, "LOCK TABLE samples IN SHARE MODE"):
        sending = asyncio.create_task(api.ingest(sample(5)))
        await until(api.dsn, _BLOCKED)
        erasing = asyncio.create_task(erase_device(api.dsn, "sh-1"))
        await until(api.dsn, _DELETED)
    assert (await sending)["inserted"] == 1
    assert await erasing == 2
    assert left(api.dsn) == {}


async def test_erase_gives_up_on_what_is_never_done_and_says_what_to_do(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server process that is stopped in the middle of a transaction, say."""
    monkeypatch.setattr(administration, "PATIENCE_S", 0.1)
    await api.ingest(sample(0))
    async with held(api.dsn, "LOCK TABLE samples IN SHARE MODE"):
        sending = asyncio.create_task(api.ingest(sample(5)))
        await until(api.dsn, _BLOCKED)
        [(pid,)] = api.rows(_BLOCKED)
        with pytest.raises(StorageError, match=f"sh-1 is deleted, but not erased.* {pid}.*again") as error:
            await erase_device(api.dsn, "sh-1")
        assert "\n" not in str(error.value)
    assert (await sending)["inserted"] == 1
    monkeypatch.undo()
    assert await erase_device(api.dsn, "sh-1") == 2
    assert left(api.dsn) == {}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE devices SET name = name WHERE device_id = 'sh-1'",
        f"SELECT pg_advisory_xact_lock({LOCK_NAMESPACE}, device % {SHARDS}) FROM devices",
    ],
    ids=["the device", "its rollups"],
)
async def test_who_deletes_or_erases_a_device_waits_for_no_session_without_end(
    api: Api, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    await api.ingest(sample(0))
    monkeypatch.setattr(administration, "PATIENCE_S", 0.1)
    async with held(api.dsn, statement):
        with pytest.raises(StorageError, match=r"another session .* pg_stat_activity .* again") as error:
            await erase_device(api.dsn, "sh-1")
        assert "\n" not in str(error.value)
        if statement.startswith("UPDATE"):
            with pytest.raises(StorageError, match="another session"):
                await delete_device(api.dsn, "sh-1", deleted=True)
        else:
            with pytest.raises(StorageError, match="another session"):
                await set_device(
                    api.dsn, "sh-1", name=None, plant=None, timezone="Asia/Kathmandu", poll_interval_s=None
                )
    monkeypatch.undo()
    assert await erase_device(api.dsn, "sh-1") == 1
    assert left(api.dsn) == {}


async def test_an_import_stores_nothing_after_a_deletion(api: Api, tmp_path: Path) -> None:
    await api.ingest(sample(0))
    file = tmp_path / "history.csv"
    file.write_text("ts,pv_power_w\n2026-05-31T10:00:00.000Z,5\n")
    shard = f"(SELECT device % {SHARDS} FROM devices)"
    async with held(api.dsn, f"SELECT pg_advisory_xact_lock({LOCK_NAMESPACE}, {shard})"):
        importing = asyncio.create_task(
            import_csv(api.dsn, file, "sh-1", source="csv", retention=timedelta(days=400))
        )
        await until(api.dsn, _BLOCKED)
        await delete_device(api.dsn, "sh-1", deleted=True)
    with pytest.raises(DeviceDeletedError):
        await importing
    assert api.rows("SELECT count(*) FROM samples") == [(1,)]


async def test_a_device_that_goes_on_sending_to_two_processes_is_erased_for_good(
    migrated: str, tmp_path: Path
) -> None:
    answers = 0

    async def send_until_refused(port: int, number: int) -> None:
        nonlocal answers
        async with client(port) as session:  # the kernel chooses the process
            for reading in range(number, 100_000, 8):
                answer = await post(session, recent(-reading, pv_power_w=reading))
                answers += 1
                if answer["deferred"]:
                    assert answer["deferred"][0]["code"] == "device_deleted"
                    return
        raise AssertionError

    async with fleet(migrated, tmp_path) as running, asyncio.TaskGroup() as tasks:
        for number in range(8):
            tasks.create_task(send_until_refused(running.port, number))
        await running.until(lambda: answers > 100)
        await erase_device(migrated, "sh-1")
    assert left(migrated) == {}
