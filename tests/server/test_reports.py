"""What the server tells about readings: kept aside, complete or not, alarms in words, plants, edges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter

from reference_server import examples
from reference_server.administration import create_token, delete_device, set_device
from reference_server.events import text_of
from reference_server.operations import OPERATIONS
from reference_server.tables import csv_lines
from sungrow_lib.client import SungrowClient
from sungrow_lib.sample import format_ts
from sungrow_lib.wire.buckets import PLANT_COLUMNS, bucket_columns
from tests.server.conftest import NOW, OTHER_TOKEN, TOKEN, Api, StartServer, sample

pytestmark = pytest.mark.anyio

DAY = {"from": "2026-06-15T00:00:00Z", "to": "2026-06-16T00:00:00Z"}


async def ok(api: Api, path: str, **query: str) -> dict[str, Any]:
    status, answer = await api.get(path, **({"device_id": "sh-1"} | query))
    assert status == 200, answer
    body: dict[str, Any] = answer
    return body


@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: op.name)
def test_every_example_is_one(op: Any) -> None:
    for model, example in ((op.answer, op.example), (op.body, op.body_example)):
        if model is not None and example is not None:
            parsed = TypeAdapter(model).validate_json(TypeAdapter(Any).dump_json(example))
            assert parsed.model_dump(mode="json", by_alias=True).items() >= example.items() or model


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (examples.SERIES | {"columns": bucket_columns()}, examples.SERIES_CSV),
        (examples.PLANT_SERIES | {"columns": PLANT_COLUMNS}, examples.PLANT_SERIES_CSV),
    ],
)
def test_the_example_of_csv_is_that_of_json(told: dict[str, Any], shown: str) -> None:
    rows = [[bucket.get(name) for name in told["columns"]] for bucket in told["series"]]
    assert csv_lines([told["columns"], *rows]).decode() == shown


async def test_what_was_kept_aside_can_be_looked_at_page_by_page(api: Api) -> None:
    assert (await api.get("/v1/conflicts", device_id="sh-1"))[0] == 404
    await api.ingest(sample(0, pv_power_w=1))
    assert await ok(api, "/v1/conflicts") == {"device_id": "sh-1", "conflicts": [], "next_before": None}
    await api.ingest(sample(0, pv_power_w=2), edge_id="box")
    await api.ingest(sample(1, pv_power_w="much"), sample(0, pv_power_w=1, load_power_w=3))
    assert (await ok(api, "/v1/conflicts", limit="3"))["next_before"] is None
    first = await ok(api, "/v1/conflicts", limit="2")
    assert len(first["conflicts"]) == 2
    last = await ok(api, "/v1/conflicts", limit="2", before=str(first["next_before"]))
    assert last["next_before"] is None
    [oldest] = last["conflicts"]
    assert oldest["reading"] == {"ts": sample(0)["ts"], "pv_power_w": 2}
    assert (oldest["reason"], oldest["detail"], oldest["edge_id"]) == ("conflict", "pv_power_w", "box")
    [rejected] = (await ok(api, "/v1/conflicts", reason="rejected"))["conflicts"]
    assert rejected["reading"]["pv_power_w"] == "much"
    for wrong in ({"limit": "0"}, {"limit": "1001"}, {"reason": "none"}, {"before": "x"}):
        assert (await api.get("/v1/conflicts", device_id="sh-1", **wrong))[0] == 422
    async with SungrowClient(api.url, TOKEN) as client:
        assert [entry.reason async for entry in client.conflicts("sh-1")].count("additional") == 1


async def test_a_device_that_is_polled_more_slowly_lacks_nothing(api: Api) -> None:
    begin = datetime(2026, 6, 14, tzinfo=UTC)
    rows = [
        {
            "device_id": "sh-1",
            "ts": format_ts(begin + timedelta(seconds=6 * i)),
            "interval_s": 6,
            "pv_power_w": i,
        }
        for i in range(-1, 10 * 60)
        if not 100 <= i < 110  # a minute of silence
    ]
    await api.ingest(*rows, device={"poll_interval_s": 5})
    query = {"from": "2026-06-14T00:00:00Z", "to": "2026-06-15T00:00:00Z"}
    [day] = (await ok(api, "/v1/completeness", **query))["days"]
    assert day["stored"] == 590
    assert day["missing"]["slower"] == 708 - 590  # 59 minutes hold 708 polls of 5 s
    assert day["missing"]["slower"] + day["missing"]["unknown"] == day["expected"] - day["stored"]


async def test_completeness_counts_by_local_day(api: Api) -> None:
    begin = datetime(2026, 6, 14, 22, tzinfo=UTC)  # midnight in Amsterdam
    rows = [
        {
            "device_id": "sh-1",
            "ts": format_ts(begin + timedelta(minutes=i)),
            "interval_s": 60,
            "pv_power_w": i,
        }
        for i in range(-60, 60)
    ]
    await api.ingest(*rows, device={"timezone": "Europe/Amsterdam", "poll_interval_s": 60})
    await api.ingest(
        rows[-1] | {"pv_power_w": 9}, rows[-1] | {"ts": "2026-06-15T01:00:00Z", "pv_power_w": "x"}
    )
    query = {"from": "2026-06-13T22:00:00Z", "to": "2026-06-20T00:00:00Z"}
    answer = await ok(api, "/v1/completeness", **query)
    yesterday, today = answer["days"]
    assert (answer["timezone"], yesterday["day"], today["day"]) == (
        "Europe/Amsterdam", "2026-06-14", "2026-06-15",
    )  # fmt: skip
    assert (yesterday["expected"], yesterday["stored"], yesterday["partial"]) == (60, 60, False)
    assert yesterday["missing"] == {"rejected": 0, "behind_horizon": 0, "slower": 0, "unknown": 0}
    assert (today["expected"], today["stored"], today["partial"]) == (14 * 60, 60, True)
    assert today["missing"] == {"rejected": 1, "behind_horizon": 0, "slower": 0, "unknown": 14 * 60 - 61}
    assert (today["conflicts"], today["rejected"]) == (1, 1)
    only = {"from": "2026-06-13T22:00:00Z", "to": "2026-06-14T22:00:00Z"}
    assert len((await ok(api, "/v1/completeness", **only))["days"]) == 1
    future = {"from": "2027-06-13T22:00:00Z", "to": "2027-06-14T22:00:00Z"}
    assert (await ok(api, "/v1/completeness", **future))["days"] == []
    for days in (only, {"from": "2026-06-14", "to": "2026-06-15"}, {"from": "2026-06-14", "to": only["to"]}):
        assert [day["day"] for day in (await ok(api, "/v1/completeness", **days))["days"]] == ["2026-06-14"]
    month = (await ok(api, "/v1/completeness"))["days"]
    assert (len(month), month[-2:]) == (29, [yesterday, today])
    for wrong in (
        {"from": DAY["to"], "to": DAY["from"]},
        {"from": "2020-01-01T00:00:00Z", "to": DAY["to"]},
        {"from": "2026-06-15", "to": "2026-06-14"},
        {"from": "2026-06-31", "to": "2026-07-14"},
        {"from": "2026-6-1", "to": "2026-07-14"},
        {"from": "2026-W24-1", "to": "2026-06-15"},
    ):
        assert (await api.get("/v1/completeness", device_id="sh-1", **wrong))[0] == 422


async def test_a_plus_that_came_as_a_space_is_named(api: Api) -> None:
    series = {"to": DAY["to"], "bucket": "1h"}
    for path, query in (("/v1/series", series), ("/v1/completeness", {}), ("/v1/events", {})):
        bare = {"from": "2026-01-01T00:07:00 05:45"} | query  # as `+` arrives
        status, problem = await api.get(path, device_id="sh-1", **bare)
        assert (status, problem["errors"]) == (
            422,
            [
                {
                    "field": "from",
                    "message": "must be RFC 3339; a + in an address is a space, so write it as %2B",
                }
            ],
        )
        for other in ("2026-01-01 00:07", "2026-01-01T00:07:00", "yesterday 05:45", " "):
            status, problem = await api.get(path, device_id="sh-1", **(bare | {"from": other}))
            assert (status, "%2B" in problem["detail"]) == (422, False)


async def test_an_edge_says_how_it_is(api: Api) -> None:
    async def put(body: Any, token: str = TOKEN) -> tuple[int, Any]:
        async with api.session.post(
            api.url + "/v1/edge-status", json=body, headers=api.headers(token)
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    status, taken = await put({"edge_id": "a", "device_id": "sh-1", "backlog": 3, "newer": {"x": 1}})
    assert (status, taken["device_id"]) == (200, "sh-1")  # known now, before its first reading
    await put({"edge_id": "a", "device_id": "sh-1", "backlog": 0, "clock": "trusted"})
    await put({"edge_id": "b", "device_id": "sh-1", "not_accepted": {"device silent": 2}})
    edges = (await ok(api, "/v1/edge-status"))["edges"]
    assert [(e["edge_id"], e["backlog"]) for e in edges] == [("b", None), ("a", 0)]
    assert {e["device_id"] for e in edges} == {"sh-1"}
    assert edges[0]["not_accepted"] == {"device silent": 2}
    assert (await put({"edge_id": "c"}, OTHER_TOKEN))[1]["device_id"] == "other"
    assert (await put({"edge_id": "c"}))[0] == 422
    assert (await put({"edge_id": "c", "device_id": "other"}))[0] == 403
    wrongs: list[Any] = [[], {}, {"edge_id": ""}, {"edge_id": "a\0b"}, {"edge_id": "a", "backlog": -1}]
    for wrong in wrongs:
        body = wrong | {"device_id": "sh-1"} if isinstance(wrong, dict) else wrong
        assert (await put(body))[0] == 422
    reader = await create_token(api.dsn, "reader", ["read"], ["sh-1"], None)
    assert (await put({"edge_id": "c", "device_id": "sh-1"}, reader))[0] == 403
    await delete_device(api.dsn, "sh-1", deleted=True)
    async with SungrowClient(api.url, OTHER_TOKEN) as client:
        [edge] = await client.edge_status()
        assert edge.edge_id == "c"


async def test_events_have_words_begin_and_end(api: Api) -> None:
    def at(minutes: float, **fields: Any) -> dict[str, Any]:
        return sample(minutes * 60, **fields)

    await api.ingest(
        at(-300, fault_codes=[10], alarm_codes=[]),
        at(-200, fault_codes=[10, 39]),
        at(-190),
        at(-180, fault_codes=[10]),
        at(-100, fault_codes=[], alarm_codes=[70]),
        at(-50, alarm_codes=[70, 9999]),
        device={"model": "SG5.0RS"},
    )
    events = (await ok(api, "/v1/events"))["events"]
    assert [(e["kind"], e["code"], e["text"], e["begin"], e["end"]) for e in events] == [
        ("fault", 10, "grid outage (island)", at(-300)["ts"], at(-100)["ts"]),
        ("fault", 39, "insulation resistance low", at(-200)["ts"], at(-180)["ts"]),
        ("alarm", 70, "fan", at(-100)["ts"], None),
        ("alarm", 9999, "unknown code 9999", at(-50)["ts"], None),
    ]
    since = format_ts(NOW - timedelta(minutes=150))
    later = (await ok(api, "/v1/events", **{"from": since}))["events"]
    assert [(e["code"], e["began_before"]) for e in later] == [(10, True), (70, False), (9999, False)]
    assert (await api.get("/v1/events", device_id="sh-1", **{"from": "2020-01-01T00:00:00Z"}))[0] == 422
    async with SungrowClient(api.url, TOKEN) as client:
        assert len(await client.events("sh-1", begin=NOW - timedelta(days=1), end=NOW)) == 4


def test_a_hybrids_codes_have_its_own_words() -> None:
    assert text_of(70, "SH10RT") == "fan alarm"
    assert text_of(70, "SG5.0RS") == "fan"
    assert text_of(70, None) == "fan alarm"


async def test_a_plant_adds_what_adds_and_counts_the_meter_once(api: Api) -> None:
    for name in ("sh-1", "sh-2"):
        await set_device(
            api.dsn, name, name=None, plant="home", timezone="Europe/Amsterdam", poll_interval_s=60
        )
    await api.ingest(
        sample(50, pv_power_w=3000, battery_power_w=500, active_power_w=2400, export_power_w=4000)
        | {"pv_daily_kwh": 10.1, "load_power_w": 0}
    )
    await api.ingest(
        sample(
            51,
            "sh-2",
            pv_power_w=2000,
            active_power_w=2000,
            export_power_w=3900,
            pv_daily_kwh=8.3,
            load_power_w=1,
        )
    )
    status, answer = await api.get("/v1/plants")
    assert status == 200
    [plant] = answer["plants"]
    assert (plant["plant"], plant["devices"], plant["left_out"]) == ("home", ["sh-1", "sh-2"], [])
    assert plant["totals"] == {
        "pv_power_w": 5000,
        "battery_power_w": 500,
        "active_power_w": 4400,
        "load_power_w": 500,
        "export_power_w": 3900,
        "pv_daily_kwh": 18.4,
    }
    assert (await api.get("/v1/plants", token=OTHER_TOKEN))[1] == {"plants": []}
    one = await create_token(api.dsn, "one", ["read"], ["sh-1"], None)
    [own] = (await api.get("/v1/plants", token=one))[1]["plants"]
    assert (own["devices"], own["totals"]["load_power_w"]) == (["sh-1"], 0)
    api.clock.now += timedelta(hours=1)
    async with SungrowClient(api.url, TOKEN) as client:
        [silent] = await client.plants()
        assert silent.left_out == ["sh-1", "sh-2"]
        assert set(silent.totals.model_dump().values()) == {None}


async def test_readings_behind_the_horizon_are_told(start_server: StartServer) -> None:
    async with start_server(raw_retention_days=1) as api:
        old = NOW - timedelta(days=3)
        await api.ingest({"device_id": "sh-1", "ts": format_ts(old), "pv_power_w": 1}, sample(0))
        query = {"from": format_ts(old), "to": format_ts(NOW)}
        assert sum(day["stored"] for day in (await ok(api, "/v1/completeness", **query))["days"]) == 1
        [aside] = (await ok(api, "/v1/conflicts", reason="behind_horizon"))["conflicts"]
        assert aside["ts"] == format_ts(old)


async def test_counters_that_run_back_or_jump_are_told_with_the_events(api: Api) -> None:
    totals = (1177.0, 0.0, 1177.1, 7730.7)
    for number, total in enumerate(totals):
        at = NOW - timedelta(minutes=5) + timedelta(seconds=5 * number)
        await api.ingest({"device_id": "sh-1", "ts": format_ts(at), "pv_total_kwh": total})
    answer = await ok(api, "/v1/events")
    assert answer["events"] == []
    assert [(b["kind"], b["value"], b["before"], b["text"]) for b in answer["counter_breaks"]] == [
        ("ran back", 0.0, 1177.0, "pv_total_kwh ran back from 1177.0 to 0.0 kWh"),
        ("jumped", 7730.7, 1177.1, "pv_total_kwh jumped from 1177.1 to 7730.7 kWh"),
    ]
    span = {"from": format_ts(NOW - timedelta(hours=1)), "to": format_ts(NOW)}
    [day] = (await ok(api, "/v1/completeness", **span))["days"]
    assert (day["counter_breaks"], day["stored"]) == (2, 4)
    [bucket] = (await ok(api, "/v1/series", bucket="1h", **span))["series"]
    assert bucket["pv_kwh"] == 0.1
    raw = (await ok(api, "/v1/series", bucket="raw", fields="pv_total_kwh", **span))["series"]
    assert [reading["pv_total_kwh"] for reading in raw] == list(totals)
    async with SungrowClient(api.url, TOKEN) as client:
        assert len(await client.counter_breaks("sh-1", begin=NOW - timedelta(days=1), end=NOW)) == 2


async def test_a_poll_interval_next_to_nothing_is_no_failure(api: Api) -> None:
    await api.ingest(sample(0), device={"poll_interval_s": 5e-324})
    span = {"from": "2026-06-15T00:00:00Z", "to": "2026-06-16T00:00:00Z"}
    status, answer = await api.get("/v1/completeness", device_id="sh-1", **span)
    assert (status, answer["days"][0]["stored"]) == (200, 1)
