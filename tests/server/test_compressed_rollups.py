"""Rollups behind the retention horizon, compressed by their owner as docs/database.md says: all goes on."""

from __future__ import annotations

import re
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Final

import psycopg
import pytest

from reference_server.administration import erase_device
from reference_server.history import import_csv
from reference_server.storage.errors import StorageError
from sungrow_lib.sample import format_ts
from tests.server.conftest import NOW, Api, StartServer, sample, serving

pytestmark = pytest.mark.anyio

_DAY_S: Final = 86_400
_OLD: Final = 100
_DAYS: Final = 60
_DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "database.md"


def _compress(dsn: str, *, older_than: timedelta) -> bool:
    """Do what the document says, but with a few rows for a limit; return whether there is anything to do."""
    [statements] = re.findall(r"```sql\n(ALTER TABLE rollup_15m .*?)```", _DOCUMENT.read_text(), re.DOTALL)
    with psycopg.connect(dsn, autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchone():
            return False
        connection.execute(statements.encode())
        chunks = connection.execute(  # the clock of the test is not the policy's
            "SELECT compress_chunk(c) FROM show_chunks('rollup_15m', older_than => %s) c", [NOW - older_than]
        ).fetchall()
        assert chunks
        _limit(connection, 1)
    return True


def _limit(connection: psycopg.Connection, rows: int) -> None:
    """Bound how many rows a statement may take apart: to few, as a hundred thousand are to a large fleet."""
    row = connection.execute("SELECT current_database()").fetchone()
    assert row is not None
    setting = "timescaledb.max_tuples_decompressed_per_dml_transaction"
    connection.execute(f"ALTER DATABASE {row[0]} SET {setting} = {rows}".encode())


async def _old_rollups(start_server: StartServer) -> None:
    """Leave rollups of two devices whose readings were dropped."""
    days = range(_OLD + 20, _OLD + 20 + _DAYS, 2)
    async with start_server() as api:
        for device in ("sh-1", "sh-2"):
            await api.ingest(*(sample(-_DAY_S * day, device, pv_power_w=100, interval_s=5) for day in days))
        await api.ingest(sample(-_DAY_S, "sh-1", pv_power_w=100, interval_s=5))
        await api.server.refresher.refresh_all()
    async with start_server(raw_retention_days=_OLD) as api:
        await api.server.retention.drop()


async def test_all_goes_on_in_front_of_compressed_rollups(start_server: StartServer, tmp_path: Path) -> None:
    await _old_rollups(start_server)
    async with start_server(raw_retention_days=_OLD) as api:
        sums = "SELECT count(*), sum(sample_count)::int8, sum(covered_ms)::int8 FROM rollup_15m"
        [before] = api.rows(sums)
    is_compressed = _compress(api.dsn, older_than=timedelta(days=_OLD + 30))
    async with start_server(raw_retention_days=_OLD) as api:
        assert api.rows(sums) == [before]
        late = sample(5 - _DAY_S, "sh-1", pv_power_w=900, interval_s=5)
        too_late = sample(5 - _DAY_S * (_OLD + 50), "sh-1", pv_power_w=900, interval_s=5)
        assert (await api.ingest(late, too_late))["inserted"] == 2
        await api.server.refresher.refresh_all()
        assert api.rows("SELECT count(*) FROM rollup_marks") == [(0,)]
        assert api.rows(sums) == [(before[0], before[1] + 1, before[2] + 5000)]
        status, answer = await api.get("/v1/series", device_id="sh-1", frame="all")
        assert status == 200
        assert sum(bucket["sample_count"] for bucket in answer["series"]) == _DAYS // 2 + 2
        await _import_as_old(api, tmp_path / "old.csv", is_refused=is_compressed)
    assert await erase_device(api.dsn, "sh-1") == 2
    for table in ("rollup_15m", "rollup_day", "samples_hourly", "samples_daily"):
        left = f"SELECT DISTINCT device_id FROM {table} JOIN devices USING (device) ORDER BY 1"
        assert api.rows(left) == [("other",), ("sh-2",)], table


async def test_younger_ones_must_not_be_compressed(api: Api) -> None:
    """What the document warns of."""
    await api.ingest(*(sample(-_DAY_S * _OLD, device, pv_power_w=1) for device in ("sh-1", "sh-2")))
    await api.server.refresher.refresh_all()
    is_compressed = _compress(api.dsn, older_than=timedelta(days=30))
    async with serving(api.dsn) as later:
        await later.ingest(sample(5 - _DAY_S * _OLD, pv_power_w=1))
        with pytest.raises(StorageError, match="decompression limit") if is_compressed else nullcontext():
            await later.server.refresher.refresh_all()
        assert later.rows("SELECT count(*) FROM rollup_marks") == [(int(is_compressed),)]


async def _import_as_old(api: Api, file: Path, *, is_refused: bool) -> None:
    """Import for a device that has nothing there: to be had without a limit."""
    first = NOW - timedelta(days=_OLD + 50)
    lines = [f"{format_ts(first + timedelta(minutes=n))},{n},60" for n in range(40)]
    file.write_text("\n".join(["ts,pv_power_w,interval_s", *lines, ""]))  # noqa: ASYNC240 - a small file

    async def load() -> int:
        found = await import_csv(api.dsn, file, "other", source="test", retention=timedelta(days=_OLD))
        return found.inserted + found.duplicates

    if is_refused:
        with pytest.raises(StorageError, match="decompression limit"):
            await load()
        with psycopg.connect(api.dsn, autocommit=True) as connection:
            _limit(connection, 0)
    assert await load() == 40
