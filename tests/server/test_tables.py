"""Series as they travel: raw readings in any number, CSV, and answers the client has already."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import Any

import pytest

from reference_server import tables
from sungrow_lib.client import SungrowClient
from sungrow_lib.sample import format_ts
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
    assert (await api.get("/v1/series", **HOUR, bucket="raw", token=OTHER_TOKEN))[0] == 403


async def test_csv_by_accept(api: Api) -> None:
    await api.ingest(*(sample(i, pv_power_w=i, running_state='Run, "on"') for i in range(3)))
    media, body = await text(api, "text/csv", bucket="raw", fields="pv_power_w,load_power_w,running_state")
    assert media == "text/csv"
    assert list(csv.reader(io.StringIO(body)))[:2] == [
        ["bucket", "pv_power_w", "load_power_w", "running_state"],
        ["2026-06-15T11:59:00.000+00:00", "0", "", 'Run, "on"'],
    ]
    media, body = await text(api, "text/csv", bucket="15m")
    lines = list(csv.DictReader(io.StringIO(body)))
    assert (media, len(lines), lines[3]["sample_count"], lines[0]["avg_pv_power_w"]) == (
        "text/csv",
        4,
        "3",
        "",
    )
    assert (await text(api, "text/csv, application/json", bucket="15m"))[0] == "application/json"


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
