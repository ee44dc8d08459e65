"""Series as they travel: raw readings in any number, CSV, and answers the client has already."""

from __future__ import annotations

import asyncio
import csv
import gc
import io
import json
import sys
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import anyio.to_thread
import polars as pl
import pyarrow as pa
import pytest
from pyarrow.parquet import ParquetFile

from reference_server import tables
from reference_server.parquet import PARQUET
from reference_server.storage import looks
from reference_server.storage.codec import Row, shown
from sungrow_lib.blocking import BlockingSungrowClient
from sungrow_lib.client import SungrowClient
from sungrow_lib.errors import RequestRefusedError, UsageError
from sungrow_lib.sample import SungrowSample, format_ts
from tests.server.conftest import NOW, OTHER_TOKEN, TOKEN, Api, sample

pytestmark = pytest.mark.anyio

HOUR = {"from": "2026-06-15T11:00:00Z", "to": "2026-06-15T12:00:00Z", "device_id": "sh-1"}


async def text(api: Api, accept: str = "*/*", **query: str) -> tuple[str, str]:
    headers = api.headers() | {"Accept": accept}
    async with api.session.get(api.url + "/v1/series", params=HOUR | query, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return answer.content_type, await answer.text()


async def test_raw_readings_come_as_they_were_sent_page_by_page(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROWS_AT_ONCE", 10)
    rows = [sample(i, pv_power_w=i, mppt_voltage_v=[None, 5.5]) for i in range(30)]
    await api.ingest(*rows, sample(-3600), sample(60), device={"timezone": "Europe/Amsterdam"})
    _, body = await text(api, bucket="raw")
    answer = json.loads(body)
    assert (answer["device_id"], answer["frame"], answer["timezone"]) == ("sh-1", None, "Europe/Amsterdam")
    assert [bucket["pv_power_w"] for bucket in answer["series"]] == list(range(30))
    assert answer["series"][0] == {
        "bucket": "2026-06-15T13:59:00.000+02:00",
        "pv_power_w": 0,
        "mppt_voltage_v": [None, 5.5],
        "sample_count": 1,
        "coverage": 1.0,
        "partial": False,
    }
    _, chosen = await text(api, bucket="raw", fields="pv_power_w,load_power_w")
    assert json.loads(chosen)["series"][3].items() >= {"pv_power_w": 3, "load_power_w": None}.items()
    empty = {"from": "2026-06-01T11:00:00Z", "to": "2026-06-01T12:00:00Z"}
    assert json.loads((await text(api, bucket="raw", **empty))[1])["series"] == []
    async with SungrowClient(api.url, TOKEN) as client:
        found = await client.range("sh-1", begin=NOW - timedelta(hours=1), end=NOW, bucket="raw")
        assert len(found) == 30
    assert (await api.get("/v1/series", **HOUR, bucket="raw", fields="pv_kwh"))[0] == 422
    status, problem = await api.get("/v1/series", **HOUR, bucket="raw", fields="ts,pv_power_w")
    assert (status, "its time comes unasked, as bucket" in problem["detail"]) == (422, True)
    assert (await api.get("/v1/series", **HOUR, bucket="raw", token=OTHER_TOKEN))[0] == 403


async def test_csv_by_accept(api: Api) -> None:
    await api.ingest(*(sample(i, pv_power_w=i, running_state='Run, "on"') for i in range(3)))
    fields = "pv_power_w,load_power_w,running_state,pv_power_w"  # one of them twice
    media, body = await text(api, "text/csv", bucket="raw", fields=fields)
    assert media == "text/csv"
    assert list(csv.reader(io.StringIO(body)))[:2] == [
        [
            *("bucket", "pv_power_w", "load_power_w", "running_state"),
            *("sample_count", "coverage", "partial", "implausible"),
        ],
        ["2026-06-15T11:59:00.000+00:00", "0", "", 'Run, "on"', "1", "1.0", "false", ""],
    ]
    _, body = await text(api, "text/csv", bucket="raw", fields="coverage,sample_count")
    assert body.splitlines()[:2] == [
        "bucket,sample_count,coverage,partial,implausible",
        "2026-06-15T11:59:00.000+00:00,1,1.0,false,",
    ]
    media, body = await text(api, "text/csv", bucket="15m")
    lines = list(csv.DictReader(io.StringIO(body)))
    assert {line["partial"] for line in lines} == {"false"}
    assert (media, len(lines), lines[3]["sample_count"], lines[0]["avg_pv_power_w"]) == (
        "text/csv",
        4,
        "3",
        "",
    )
    assert (await text(api, "text/csv, application/json", bucket="15m"))[0] == "application/json"


async def test_a_table_of_raw_readings_has_what_only_a_newer_edge_knows(api: Api) -> None:
    newer: dict[str, Any] = {"wallbox_w": 7, "extra": {"a\ud800": [1]}}
    await api.ingest(sample(0, pv_power_w=1), sample(1, pv_power_w=10**9, **newer))
    told = [None, {"wallbox_w": 7, "extra": {"a\\ud800": [1]}}]
    _, body = await text(api, "text/csv", bucket="raw")
    lines = list(csv.DictReader(io.StringIO(body)))
    assert [json.loads(line["extra"] or "null") for line in lines] == told
    assert [line["pv_power_w"] for line in lines] == ["1", "1000000000"]
    headers = api.headers() | {"Accept": PARQUET}
    query = HOUR | {"bucket": "raw"}
    async with api.session.get(api.url + "/v1/series", params=query, headers=headers) as answer:
        table = ParquetFile(io.BytesIO(await answer.read())).read()
    assert [json.loads(cell or "null") for cell in table["extra"].to_pylist()] == told
    _, body = await text(api, "text/csv", bucket="raw", fields="pv_power_w")
    assert "extra" not in body


@pytest.mark.parametrize("media", tables.MEDIA)
async def test_a_client_that_leaves_midway_is_no_failure_of_the_server(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, media: str
) -> None:
    """The answer never ends by itself, so its end is that the client is gone."""
    monkeypatch.setattr(tables, "_ROWS_AT_ONCE", 10)
    monkeypatch.setattr(tables, "_ROW_GROUP", 10)
    caplog.set_level("INFO")
    await api.ingest(*(sample(i, pv_power_w=i) for i in range(10)))
    some, ended = looks.rows_between, asyncio.Event()

    async def the_same_again(database: Any, device: int, _after: Any, *rest: Any) -> Any:
        return await some(database, device, NOW - timedelta(hours=1), *rest)

    answered = api.server.metrics.answered
    statuses: list[int] = []

    def answer(method: str, path: str, status: int, seconds: float) -> None:
        answered(method, path, status, seconds)
        statuses.append(status)
        ended.set()

    monkeypatch.setattr(tables, "rows_between", the_same_again)
    monkeypatch.setattr(api.server.metrics, "answered", answer)
    query = urlencode(HOUR | {"bucket": "raw"})
    host, _, port = api.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"GET /v1/series?{query} HTTP/1.1\r\nHost: {host}\r\nAccept: {media}\r\n"
        f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    await reader.readexactly(5_000)
    writer.transport.abort()
    await ended.wait()
    assert statuses == [200]
    assert [record.message for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []
    assert "the client left before the end of its answer" in caplog.messages


async def test_an_answer_the_client_has_is_not_sent_again(api: Api) -> None:
    await api.ingest(sample(0, pv_power_w=1))

    async def ask(etag: str = "") -> tuple[int, str, bytes]:
        headers = api.headers() | {"If-None-Match": etag}
        query: dict[str, Any] = HOUR | {"bucket": "15m"}
        async with api.session.get(api.url + "/v1/series", params=query, headers=headers) as answer:
            assert "private" in answer.headers["Cache-Control"]
            return answer.status, answer.headers["ETag"], await answer.read()

    status, etag, body = await ask()
    assert (status, bool(body)) == (200, True)
    assert await ask(f'"other", W/{etag}') == (304, etag, b"")
    await api.ingest(sample(1, pv_power_w=2, ts=format_ts(NOW - timedelta(minutes=30))))
    status, newer, _ = await ask(etag)
    assert status == 200
    assert newer != etag


async def parquet(api: Api, **query: str) -> Any:
    """Ask for Parquet and return the file, opened."""
    headers = api.headers() | {"Accept": PARQUET}
    async with api.session.get(api.url + "/v1/series", params=HOUR | query, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, PARQUET)
        return ParquetFile(io.BytesIO(await answer.read()))


async def test_parquet_of_raw_readings_row_group_by_row_group(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROWS_AT_ONCE", 10)
    monkeypatch.setattr(tables, "_ROW_GROUP", 20)
    rows = [sample(i, pv_power_w=i, mppt_voltage_v=[None, 5.5], fault_codes=[7]) for i in range(55)]
    await api.ingest(*rows, device={"timezone": "Europe/Amsterdam"})
    file = await parquet(api, bucket="raw")
    assert file.num_row_groups == 3
    table = file.read()
    assert str(table.schema.field("bucket").type) == "timestamp[ms, tz=Europe/Amsterdam]"
    first = table.slice(0, 1).to_pylist()[0]
    assert first["bucket"] == NOW - timedelta(minutes=1)
    assert (first["mppt_voltage_v"], first["fault_codes"]) == ([None, 5.5], [7])
    assert first["load_power_w"] is None  # unknown is never zero
    assert table.column("pv_power_w").to_pylist() == list(range(55))
    empty = {"from": "2026-06-01T11:00:00Z", "to": "2026-06-01T12:00:00Z"}
    assert (await parquet(api, bucket="raw", **empty)).read().num_rows == 0


@pytest.mark.parametrize("bucket", ["raw", "5m", "15m", "1h", "1d", "1M"])
async def test_json_csv_and_parquet_say_the_same(api: Api, bucket: str) -> None:
    rows = [sample(5 * i, pv_power_w=100 + i, pv_total_kwh=5 + i / 10, sample_count=2) for i in range(3)]
    rows += [sample(20, pv_power_w=10**7, running_state="Run", fault_codes=[7], mppt_voltage_v=[None, 1.5])]
    await api.ingest(*rows)
    some = "pv_power_w,running_state,fault_codes" if bucket == "raw" else "pv_kwh,min_battery_soc_pct"
    for query in ({"bucket": bucket}, {"bucket": bucket, "fields": some}):
        told = json.loads((await text(api, **query))[1])["series"]
        lines = list(csv.DictReader(io.StringIO((await text(api, "text/csv", **query))[1])))
        table = (await parquet(api, **query)).read()
        assert table.column_names == list(lines[0])
        for one, line, row in zip(told, lines, table.to_pylist(), strict=True):
            assert one.keys() <= line.keys()
            assert {"sample_count", "coverage", "partial"} <= one.keys()
            assert line == {name: _written(one.get(name)) for name in line}
            assert row == {name: _read(name, one.get(name)) for name in line}
        if bucket == "raw":
            assert [one.get("implausible") for one in told] == [None, None, None, ["pv_power_w"]]


def _written(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value)


def _read(name: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if name == "bucket" else value


async def test_parquet_of_buckets(api: Api) -> None:
    await api.ingest(*(sample(i, pv_power_w=100, pv_total_kwh=5 + i / 10) for i in range(3)))
    table = (await parquet(api, bucket="15m")).read()
    *_, last = table.to_pylist()
    assert (last["avg_pv_power_w"], last["sample_count"], last["pv_kwh"]) == (100, 3, 0.2)
    assert last["energy_source"]["pv"] == "counter"
    assert table.column("avg_load_power_w").null_count == table.num_rows
    assert (await parquet(api, bucket="15m", fields="pv_kwh")).read().column_names == [
        "bucket", "pv_kwh", "sample_count", "coverage", "partial",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", tables.JSON),
        ("text/csv", tables.CSV),
        ("text/csv, application/json", tables.JSON),
        ("text/csv, application/json;q=0.5", tables.CSV),
        ("application/*;q=0.3, text/*", tables.CSV),
        (f"*/*, {PARQUET}", PARQUET),
        ("image/png", tables.JSON),
        ("text/csv;q=nonsense", tables.JSON),
    ],
)
async def test_the_media_type_is_negotiated(api: Api, accept: str, media: str) -> None:
    await api.ingest(sample(0, pv_power_w=1))
    headers = api.headers() | {"Accept": accept}
    query = HOUR | {"bucket": "15m"}
    async with api.session.get(api.url + "/v1/series", params=query, headers=headers) as answer:
        assert answer.content_type == media


@pytest.mark.parametrize("media", tables.MEDIA)
async def test_others_have_their_turn_after_few_raw_readings(
    api: Api, monkeypatch: pytest.MonkeyPatch, media: str
) -> None:
    """Counted in rows between two turns of the event loop: that is the same on every machine."""
    await api.ingest(*(sample(-i, pv_power_w=i, load_power_w=1) for i in range(1_200)))
    turn, made, told = 0, Counter[int](), Counter[int]()
    columns: set[tuple[str, ...]] = set()

    async def take_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    make = Row.from_record

    def count_made(*args: Any) -> Row:
        made[turn] += 1
        return make(*args)

    def count_told(row: Row) -> dict[str, Any]:
        told[turn] += 1
        columns.add(row.columns)
        return shown(row)

    monkeypatch.setattr(Row, "from_record", count_made)
    monkeypatch.setattr(tables, "shown", count_told)
    other = asyncio.create_task(take_turns())
    query = HOUR | {"bucket": "raw", "fields": "pv_power_w"}
    headers = api.headers() | {"Accept": media}
    async with api.session.get(api.url + "/v1/series", params=query, headers=headers) as answer:
        assert await answer.read()
    other.cancel()
    assert (made.total(), told.total()) == (1_200, 1_200)
    assert max(made.values()) <= 100
    assert max(told.values()) <= 100
    assert columns == {("pv_power_w", "sample_count")}, "only what is asked for is read"


@pytest.mark.parametrize(
    "value", ["plain", "\x7f", "\u00e4", 'a"\\/\n\x01', 0.0001, -0.5, 214748.3647, [None, 1], None]
)
@pytest.mark.parametrize("extra", [{}, {"far": 1}])
def test_a_line_of_json_is_that_of_the_standard_library(value: Any, extra: dict[str, Any]) -> None:
    bucket = {"bucket": "2026-06-15T14:00:00.000+02:00", "told": value} | extra
    line = tables._json_line(bucket, Row(1, NOW, (), (), 0, extra))
    assert line == json.dumps(bucket, separators=(",", ":")).encode()


async def test_the_client_makes_tables_of_series(api: Api) -> None:
    await api.ingest(
        *(sample(5 * i, pv_power_w=i, running_state="Run") for i in range(10)),
        device={"timezone": "Europe/Amsterdam"},
    )
    span: dict[str, Any] = {"begin": NOW - timedelta(hours=1), "end": NOW}
    async with SungrowClient(api.url, TOKEN) as client:
        frame = (await client.range("sh-1", **span, bucket="15m")).to_pandas()
        assert str(frame.index.tz) == "Europe/Amsterdam"
        assert list(frame["sample_count"]) == [0, 0, 0, 10]
        assert frame["avg_pv_power_w"].isna().tolist() == [True, True, True, False]
        raw = (await client.range("sh-1", **span, bucket="raw", fields=["pv_power_w"])).to_polars()
        assert raw["pv_power_w"].to_list() == list(range(10))
        assert (await client.range("sh-1", begin=NOW, end=NOW, bucket="raw")).to_arrow().num_rows == 0


async def test_all_parts_of_a_span_have_the_same_columns(api: Api) -> None:
    await api.ingest(sample(-86_400, pv_power_w=5), sample(0, pv_power_w=7, running_state="Run"))
    span: dict[str, Any] = {"begin": NOW - timedelta(days=3), "end": NOW, "bucket": "raw"}
    async with SungrowClient(api.url, TOKEN) as client:
        parts = [page async for page in client.pages("sh-1", **span)]
        one = client.pages("sh-1", **span, fields=["pv_power_w"])
        chosen = [page.to_pandas().columns.tolist() async for page in one]
        nothing = await client.range("sh-1", begin=NOW, end=NOW, bucket="1h", fields="min_pv_power_w")
    assert [len(part) for part in parts] == [0, 1, 1]
    assert pa.concat_tables([part.to_arrow() for part in parts])["pv_power_w"].to_pylist() == [5, 7]
    assert pl.concat([part.to_polars() for part in parts])["running_state"].to_list() == [None, "Run"]
    assert [part.to_pandas().pv_power_w.sum() for part in parts] == [0, 5, 7]
    assert chosen == 3 * [["pv_power_w", "sample_count", "coverage", "partial", "implausible"]]
    assert nothing.to_arrow().column_names == [
        "bucket", "sample_count", "coverage", "partial", "min_pv_power_w",
    ]  # fmt: skip


async def test_a_table_of_nothing_has_its_columns(api: Api) -> None:
    await api.ingest(sample(0, pv_power_w=1))
    later = {"from": "2027-06-01T11:00:00Z", "to": "2027-06-01T12:00:00Z", "bucket": "1h"}
    some = {"fields": "min_pv_power_w,pv_kwh"}
    _, body = await text(api, "text/csv", **later, **some)
    assert body == "bucket,pv_kwh,sample_count,coverage,partial,min_pv_power_w\r\n"
    table = (await parquet(api, **later)).read()
    assert table.column_names == (await parquet(api, bucket="1h")).read().column_names


async def test_a_long_span_comes_in_parts(api: Api) -> None:
    await api.ingest(*(sample(-86_400 * day, pv_power_w=day) for day in range(4)))
    async with SungrowClient(api.url, TOKEN) as client:
        span: dict[str, Any] = {"begin": NOW - timedelta(days=4), "end": NOW, "bucket": "raw"}
        parts = [[b.model_dump()["pv_power_w"] for b in page] async for page in client.pages("sh-1", **span)]
    assert parts == [[3], [2], [1], [0]]


async def test_an_iterator_may_outlive_its_client(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.ingest(sample(0, pv_power_w=7), sample(5, pv_power_w=8))
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda failure: unraisable.append(failure.exc_value))

    def ask() -> None:
        with BlockingSungrowClient(api.url, TOKEN) as client:
            held = client.stream("sh-1", after=NOW - timedelta(minutes=2))
            assert isinstance(next(held), SungrowSample)
            unused = client.stream("sh-1")
        assert list(held) == []
        with pytest.raises(UsageError, match="closed"):
            next(unused)
        del held, unused
        gc.collect()

    await anyio.to_thread.run_sync(ask)
    assert not unraisable
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_the_client_without_await(api: Api) -> None:
    await api.ingest(sample(0, pv_power_w=7), sample(5, pv_power_w=8))

    def ask() -> None:
        with BlockingSungrowClient(api.url, TOKEN) as client:
            assert client.realtime("sh-1").pv_power_w == 8
            assert len(client.series("sh-1").to_pandas()) == len(client.series("sh-1"))
            span: dict[str, Any] = {"begin": NOW - timedelta(days=2), "end": NOW, "bucket": "raw"}
            assert [len(page) for page in client.pages("sh-1", **span)] == [0, 2]
            for event in client.stream("sh-1", after=NOW - timedelta(seconds=59)):
                assert isinstance(event, SungrowSample)
                assert event.pv_power_w == 8
                break
        client = BlockingSungrowClient(api.url, TOKEN)  # also without a with statement
        with pytest.raises(RequestRefusedError):
            client.realtime("sh-2")
        client.close()
        client.close()
        with pytest.raises(UsageError, match="closed"):
            client.realtime("sh-1")

    await anyio.to_thread.run_sync(ask)
