"""Every sample gets exactly one verdict, and the right one."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from reference_server.administration import delete_device, erase_device
from sungrow_lib.sample import format_ts
from tests.server.conftest import NOW, OTHER_TOKEN, Api, StartServer, sample

pytestmark = pytest.mark.anyio


async def test_a_batch_is_stored_and_its_id_echoed(api: Api) -> None:
    answer = await api.ingest(sample(0, pv_power_w=10), sample(5, pv_power_w=20), batch_id="b-1")
    assert answer == {
        "batch_id": "b-1",
        "received": 2,
        "inserted": 2,
        "duplicates": 0,
        "conflicts": [],
        "rejected": [],
        "deferred": [],
        "resend": False,
        "server_version": answer["server_version"],
    }
    assert api.rows("SELECT pv_power_w FROM samples ORDER BY ts") == [(10,), (20,)]


async def test_without_batch_id_null_comes_back_and_an_empty_list_is_fine(api: Api) -> None:
    answer = await api.ingest()
    assert answer["batch_id"] is None
    assert answer["inserted"] == 0


async def test_the_same_batch_again_is_all_duplicates(api: Api) -> None:
    batch = [sample(i, pv_power_w=i, mppt_voltage_v=[1.5, None, 3]) for i in range(50)]
    assert (await api.ingest(*batch))["inserted"] == 50
    assert (await api.ingest(*batch))["duplicates"] == 50
    assert (await api.ingest(*batch, sample(99)))["inserted"] == 1
    assert api.rows("SELECT count(*) FROM samples") == [(51,)]
    assert api.rows("SELECT count(*) FROM kept_aside") == [(0,)]


@pytest.mark.parametrize("power", [1, 2])
async def test_what_another_process_stored_meanwhile_gets_the_same_verdict(
    api: Api, start_server: StartServer, power: int
) -> None:
    """This one takes it that what comes after its own readings is new, and must not believe it."""
    await api.ingest(*(sample(i, pv_power_w=1) for i in (0, 5, 10)))
    async with start_server() as other:
        later = [sample(i, pv_power_w=1) for i in (15, 20, 25)]
        assert (await other.ingest(*later))["inserted"] == 3
    assert (await api.ingest(sample(12), sample(13)))["inserted"] == 2
    answer = await api.ingest(sample(14), *(reading | {"pv_power_w": power} for reading in later))
    assert answer["inserted"] == 1
    assert answer["duplicates"] == (3 if power == 1 else 0)
    assert [verdict["index"] for verdict in answer["conflicts"]] == ([] if power == 1 else [1, 2, 3])
    assert api.rows("SELECT count(*) FROM samples") == [(9,)]


async def test_a_different_value_is_a_conflict_and_kept_aside_once(api: Api) -> None:
    await api.ingest(sample(0, pv_power_w=10))
    for _ in range(3):
        answer = await api.ingest(sample(0, pv_power_w=11))
        assert [(c["index"], c["code"]) for c in answer["conflicts"]] == [(0, "different_value")]
    assert api.rows("SELECT pv_power_w FROM samples") == [(10,)]
    [(reason, body)] = api.rows("SELECT reason, body FROM kept_aside")
    assert reason == "conflict"
    assert body["pv_power_w"] == 11


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"pv_power_w": 1}, {}),
        ({"pv_power_w": 1}, {"pv_power_w": None}),
        ({"mppt_voltage_v": [1, None]}, {"mppt_voltage_v": [1]}),
        ({"mppt_voltage_v": [1, 2]}, {"mppt_voltage_v": [1]}),
        ({"pv_daily_kwh": 1.2}, {"pv_daily_kwh": 1.2000001}),
        ({"new_field": {"a": 1}}, {"new_field": {"a": 1.0}}),
    ],
)
async def test_null_or_absent_is_no_difference(
    api: Api, first: dict[str, Any], second: dict[str, Any]
) -> None:
    await api.ingest(sample(0, **first))
    assert (await api.ingest(sample(0, **second)))["duplicates"] == 1
    assert api.rows("SELECT count(*) FROM kept_aside") == [(0,)]


async def test_values_the_stored_row_lacks_are_kept_beside_it(api: Api) -> None:
    await api.ingest(sample(0, pv_power_w=1, mppt_voltage_v=[1]))
    answer = await api.ingest(sample(0, pv_power_w=1, mppt_voltage_v=[1, 2], load_power_w=7, newer=8))
    assert answer["duplicates"] == 1
    [(reason, body)] = api.rows("SELECT reason, body FROM kept_aside")
    assert reason == "additional"
    assert body == {"mppt_voltage_v": [1, 2], "load_power_w": 7, "newer": 8}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"fault_codes": []}, {"fault_codes": [3]}),
        ({"running_state": "Run"}, {"running_state": "Stop"}),
        ({"mppt_voltage_v": [1, 2]}, {"mppt_voltage_v": [1, 3]}),
        ({"new_field": 1}, {"new_field": 2}),
        ({"inverter_temp_c": 20}, {"inverter_temp_c": 999}),
        ({"inverter_temp_c": 999}, {"inverter_temp_c": 998}),
        ({"mppt_voltage_v": [1, 2]}, {"mppt_voltage_v": [9999, 2]}),
    ],
)
async def test_any_kind_of_value_can_conflict(
    api: Api, first: dict[str, Any], second: dict[str, Any]
) -> None:
    await api.ingest(sample(0, **first))
    assert len((await api.ingest(sample(0, **second)))["conflicts"]) == 1


async def test_duplicates_and_conflicts_within_one_batch(api: Api) -> None:
    answer = await api.ingest(sample(0, pv_power_w=1), sample(0, pv_power_w=1), sample(0, pv_power_w=2))
    assert (answer["inserted"], answer["duplicates"]) == (1, 1)
    assert [c["index"] for c in answer["conflicts"]] == [2]


@pytest.mark.parametrize(
    "bad",
    [
        5,
        None,
        "text",
        [],
        {},
        {"device_id": "sh-1"},
        {"device_id": "sh-1\n", "ts": "2026-06-15T12:00:00.000Z"},
        {"device_id": "x" * 65, "ts": "2026-06-15T12:00:00.000Z"},
        {"device_id": "sh-1", "ts": "2026-06-15T12:00:00.0001Z"},
        {"device_id": "sh-1", "ts": "2026-06-15T12:00:00"},
        {"device_id": "sh-1", "ts": 1781524800},
        {"device_id": "sh-1", "ts": "2026-02-30T12:00:00Z"},
        {"device_id": "sh-1", "ts": "2026-06-15T12:00:00Z", "pv_power_w": "1"},
        {"device_id": "sh-1", "ts": "2026-06-15T12:00:00Z", "pv_power_w": "\ud800"},
        {"device_id": "sh-1", "ts": "2026-06-15T12:00:00Z", "mppt_voltage_v": ["\ud800"]},
        {"device_id": "sh-1", "ts": "2026-06-15T12:00:00Z", "pv_power_w": True},
        {"device_id": "sh-1", "ts": "2026-06-15T12:00:00Z", "pv_power_w": 10**400},
        {"device_id": "sh-1", "ts": "2026-06-15T12:00:00Z", "running_state": "a\0b"},
        {"device_id": "sh-1", "ts": "2026-06-15T12:00:00Z", "running_state": "\ud800", "x\0": "\0"},
    ],
)
async def test_one_bad_sample_never_voids_its_batch(api: Api, bad: Any) -> None:
    body = json.dumps({"samples": [sample(0), bad, sample(5)]}).encode()
    status, answer = await api.post_raw(body)
    assert status == 200, answer
    assert answer["inserted"] == 2
    assert [(r["index"], r["code"]) for r in answer["rejected"]] == [(1, "invalid")]
    assert answer["rejected"][0]["reason"]


async def test_a_rejected_sample_of_a_known_device_is_kept_aside_once(api: Api) -> None:
    for _ in range(2):
        await api.ingest(sample(0, pv_power_w="many"))
    [(reason, body)] = api.rows("SELECT reason, body FROM kept_aside")
    assert reason == "rejected"
    assert body["pv_power_w"] == "many"


async def test_implausible_values_are_stored_flagged_and_come_back(api: Api) -> None:
    fields: dict[str, Any] = {
        "inverter_temp_c": 999.9,
        "pv_power_w": 99_999_999_999,
        "mppt_voltage_v": [5000, 1],
    }
    await api.ingest(sample(0, load_power_w=3, **fields))
    assert api.rows("SELECT flags, inverter_temp_c, pv_power_w, load_power_w FROM samples") == [
        (1, None, None, 3)
    ]
    _, shown = await api.get("/v1/realtime", device_id="sh-1")
    assert {name: shown[name] for name in fields} == fields
    assert sorted(shown["implausible"]) == sorted(fields)
    span = {"from": sample(0)["ts"], "to": sample(3)["ts"], "bucket": "raw"}
    await api.ingest(sample(1, pv_power_w=1), sample(2, pv_power_w=2, newer=5, mppt_voltage_v=[1, 1]))
    first, *others = (await api.get("/v1/series", device_id="sh-1", **span))[1]["series"]
    assert sorted(first["implausible"]) == sorted(fields)
    assert not any("implausible" in bucket for bucket in others)
    chosen = {"fields": "load_power_w,pv_power_w"}
    first, *_ = (await api.get("/v1/series", device_id="sh-1", **span, **chosen))[1]["series"]
    assert first["implausible"] == ["pv_power_w"]
    _, shown = await api.get("/v1/realtime", device_id="sh-1")
    assert shown["implausible"] == ["inverter_temp_c"]  # the others were read again


async def test_fields_only_a_newer_edge_knows_come_back(api: Api) -> None:
    unknown: dict[str, Any] = {
        "wallbox_power_w": 11.5,
        "deep": {"a": [1, None, {"b": "c\0d"}]},
        "text": "\N{SUN BEHIND CLOUD}",
    }
    await api.ingest(sample(0, **unknown))
    _, shown = await api.get("/v1/realtime", device_id="sh-1")
    assert {name: shown[name] for name in unknown} == unknown


async def test_no_field_of_a_newer_edge_takes_the_place_of_one_of_ours(api: Api) -> None:
    ours = ("read_at", "age_s", "stale", "implausible", "bucket", "coverage", "partial", "_fields_set")
    await api.ingest(sample(0, pv_power_w=5, wallbox_power_w=1, **dict.fromkeys(ours, "theirs")))
    status, shown = await api.get("/v1/realtime", device_id="sh-1")
    assert (status, shown["read_at"], shown["age_s"], shown["stale"]) == (200, {}, 60, True)
    assert shown["wallbox_power_w"] == 1
    span = {"from": sample(0)["ts"], "to": sample(1)["ts"], "bucket": "raw"}
    [bucket] = (await api.get("/v1/series", device_id="sh-1", **span))[1]["series"]
    assert bucket["bucket"] == "2026-06-15T11:59:00.000+00:00"
    assert (bucket["coverage"], bucket["partial"], "implausible" in bucket) == (1, False, False)


async def test_future_is_deferred_from_five_minutes_on(api: Api) -> None:
    at_limit, beyond = NOW + timedelta(minutes=5), NOW + timedelta(minutes=5, milliseconds=1)
    answer = await api.ingest(
        {"device_id": "sh-1", "ts": format_ts(at_limit)}, {"device_id": "sh-1", "ts": format_ts(beyond)}
    )
    assert answer["inserted"] == 1
    assert [(d["index"], d["code"]) for d in answer["deferred"]] == [(1, "future")]


async def test_forbidden_devices(api: Api) -> None:
    status, problem = await api.send(sample(0, device_id="other"))
    assert (status, problem["status"]) == (403, 403)
    status, _ = await api.send(sample(0, device_id="other"), 5)
    assert status == 403
    answer = await api.ingest(sample(0), sample(0, device_id="other"))
    assert answer["inserted"] == 1
    assert [(d["index"], d["code"]) for d in answer["deferred"]] == [(1, "device_forbidden")]
    assert api.rows("SELECT device_id FROM devices") == [("sh-1",)]


async def test_a_deleted_device_is_deferred(api: Api) -> None:
    await api.ingest(sample(0))
    await api.server.database.rows("mark_device_deleted", device_id="sh-1", deleted=True)
    while not (answer := await api.ingest(sample(5)))["deferred"]:  # noqa: ASYNC110 - known for a moment
        await asyncio.sleep(0.05)
    assert [(d["index"], d["code"]) for d in answer["deferred"]] == [(0, "device_deleted")]
    assert (await api.get("/v1/realtime", device_id="sh-1"))[0] == 404


async def test_each_value_behind_the_horizon_is_kept_once_whichever_batch_brings_it(api: Api) -> None:
    old = format_ts(NOW - timedelta(days=401))
    one, other, third = ({"device_id": "sh-1", "ts": old, "pv_power_w": power} for power in (1, 2, 3))
    answer = await api.ingest(one, other, one)
    assert (answer["inserted"], answer["duplicates"]) == (2, 1)
    answer = await api.ingest(third, other)
    assert (answer["inserted"], answer["duplicates"]) == (1, 1)
    assert api.rows("SELECT DISTINCT reason, count(*) FROM kept_aside GROUP BY 1") == [("behind_horizon", 3)]


async def test_rows_behind_the_horizon_are_kept_aside(start_server: StartServer) -> None:
    async with start_server(raw_retention_days=10) as api:
        old = {
            "device_id": "sh-1",
            "ts": format_ts(NOW - timedelta(days=10, milliseconds=1)),
            "pv_power_w": 1,
        }
        young = {"device_id": "sh-1", "ts": format_ts(NOW - timedelta(days=10)), "pv_power_w": 1}
        assert (await api.ingest(old, young, old))["inserted"] == 2
        assert (await api.ingest(old, young))["duplicates"] == 2
        assert api.rows("SELECT count(*) FROM samples") == [(1,)]
        assert api.rows("SELECT reason, count(*) FROM kept_aside GROUP BY 1") == [("behind_horizon", 1)]
        assert api.rows("SELECT count(*) FROM rollup_marks") == [(1,)]


async def test_resend_is_asked_for_when_delivered_rows_are_missing(api: Api) -> None:
    here, gone = sample(0), sample(1)
    old = format_ts(NOW - timedelta(days=500))
    await api.ingest(here)
    assert not (await api.ingest(sample(2), last_delivered=[here["ts"], old]))["resend"]
    assert (await api.ingest(sample(2), last_delivered=[here["ts"], gone["ts"]]))["resend"]
    await api.ingest(sample(0, pv_power_w=3), sample(1, pv_power_w="x"))  # now `gone` is kept aside
    assert not (await api.ingest(sample(2), last_delivered=[gone["ts"]]))["resend"]


async def test_resend_for_an_empty_batch_of_a_token_with_one_device(api: Api) -> None:
    api.token = OTHER_TOKEN
    await api.ingest(sample(0, device_id="other"))
    assert not (await api.ingest(last_delivered=[sample(0)["ts"]]))["resend"]
    assert (await api.ingest(last_delivered=[sample(1)["ts"]]))["resend"]


@pytest.mark.parametrize(
    "envelope",
    [
        {"batch_id": 5},
        {"batch_id": "x" * 65},
        {"batch_id": "\ud800"},
        {"edge_id": []},
        {"seq": [1, 2]},
        {"seq": ["1"]},
        {"seq": [2**63]},
        {"last_delivered": ["yesterday"]},
        {"last_delivered": ["2026-06-15T12:00:00Z"] * 17},
        {"device": "sh-1"},
        {"device": {"poll_interval_s": 0}},
    ],
)
async def test_a_wrong_envelope_is_422_with_errors(api: Api, envelope: dict[str, Any]) -> None:
    body = json.dumps({"samples": [sample(0)]} | envelope).encode()
    status, problem = await api.post_raw(body)
    assert status == 422
    assert problem["errors"]
    assert api.rows("SELECT count(*) FROM samples") == [(0,)]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"5", b'{"samples": {}}', b'{"samples": null}'])
async def test_no_samples_is_422(api: Api, body: bytes) -> None:
    assert (await api.post_raw(body))[0] == 422


async def test_two_edges_with_one_device_are_noticed(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    await api.ingest(sample(0), edge_id="box-1", generation="g1")
    await api.ingest(sample(5), edge_id="box-1", generation="g2")  # the same edge with a new spool
    assert "two edges" not in caplog.text
    await api.ingest(sample(6), edge_id="box-2", generation="g1")
    [told] = [record for record in caplog.records if "two edges send" in record.getMessage()]
    assert (vars(told)["device_id"], vars(told)["edges"]) == ("sh-1", ["box-1", "box-2"])


async def test_two_edges_are_named_once_an_hour(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[Any]:
        return [vars(record)["edges"] for record in caplog.records if "two edges send" in record.getMessage()]

    now = [monotonic()]
    monkeypatch.setattr("reference_server.ingest.monotonic", lambda: now[0])
    for number, pause_s in enumerate((0, 20, 20, 20, 3600)):
        now[0] += pause_s
        await api.ingest(sample(2 * number), edge_id="box-2")
        await api.ingest(sample(2 * number + 1), edge_id="box-1")
        assert len(told()) == (2 if pause_s == 3600 else 1)
    await api.ingest(sample(20), edge_id="box-3")
    assert told()[2:] == [["box-1", "box-3"], ["box-2", "box-3"]]


async def test_what_the_edge_says_of_a_device_is_remembered_but_the_owner_wins(api: Api) -> None:
    info = {"name": "Roof\0", "timezone": "Europe/Amsterdam", "poll_interval_s": 10, "model": "SH10RT"}
    edge = {"edge_id": "box-1", "generation": "g1", "seq": [7], "device": info}
    await api.ingest(sample(0), **edge)
    _, listed = await api.get("/v1/devices")
    [device] = listed["devices"]
    assert (device["name"], device["timezone"], device["poll_interval_s"]) == (
        "Roof\N{REPLACEMENT CHARACTER}",
        "Europe/Amsterdam",
        10,
    )
    await api.server.database.rows(
        "set_device", device_id="sh-1", name="Home", plant=None, timezone=None, poll_interval_s=None
    )
    await api.ingest(sample(5), **(edge | {"device": info | {"timezone": "Mars/Phobos", "name": "Roof"}}))
    [device] = (await api.get("/v1/devices"))[1]["devices"]
    assert (device["name"], device["timezone"]) == ("Home", "Europe/Amsterdam")
    assert api.rows("SELECT edge_id, generation, max_seq FROM edges") == [("box-1", "g1", 7)]


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"ts": None}, "ts: must be RFC 3339 text such as 2026-01-31T10:00:00.000Z"),
        ({"ts": "2026-06-15T12:00:00.0001Z"}, "ts: must not be finer than milliseconds"),
        ({"device_id": None}, "device_id: must be 1 to 64 letters, digits, dots, hyphens or underscores"),
        ({"device_id": "a b"}, "device_id: must be 1 to 64 letters, digits, dots, hyphens or underscores"),
        ({"pv_power_w": "1"}, "pv_power_w: must be a number"),
        ({"mppt_voltage_v": 5}, "mppt_voltage_v: must be a list"),
        ({"mppt_voltage_v": [1] * 17}, "mppt_voltage_v: must have at most 16 entries"),
        ({"mppt_voltage_v": [1, "2"]}, "mppt_voltage_v.1: must be a number"),
        ({"running_state": 64}, "running_state: must be text, in quotation marks"),
        ({"running_state": "a\n"}, "running_state: must be text without control characters, and not empty"),
        ({"running_state": "\ud800"}, "running_state: must be text of whole characters"),
        ({"fault_codes": [70_000]}, "fault_codes.0: must be at most 65535"),
        ({"sample_count": 0}, "sample_count: must be at least 1"),
    ],
)
async def test_a_reading_that_can_never_be_valid_is_told_why(
    api: Api, odd: dict[str, Any], reason: str
) -> None:
    for others in ([], [sample(1)]):
        body = json.dumps({"samples": [sample(0) | odd, *others]}).encode()
        _, answer = await api.post_raw(body)
        assert [verdict["reason"] for verdict in answer["rejected"]] == [reason]


async def test_so_is_one_without_a_time_stamp_or_a_device(api: Api) -> None:
    answer = await api.ingest({"device_id": "sh-1"}, {"ts": sample(0)["ts"]}, 5)
    assert [verdict["reason"] for verdict in answer["rejected"]] == [
        "ts: is missing",
        "device_id: is missing",
        "a sample must be an object",
    ]


async def test_an_empty_name_of_a_device_or_plant_is_none(api: Api) -> None:
    await api.ingest(sample(0), device={"name": "", "plant": "home"})
    await api.ingest(sample(1), device={"name": "Roof", "plant": ""})
    [device] = (await api.get("/v1/devices"))[1]["devices"]
    assert (device["name"], device["plant"]) == ("Roof", "home")


async def test_the_same_batch_from_many_sides_at_once_is_stored_once(api: Api) -> None:
    batch = [sample(i / 10, pv_power_w=i) for i in range(300)]
    answers = await asyncio.gather(*(api.ingest(*batch[::order]) for order in (1, -1) * 4))
    assert sum(answer["inserted"] for answer in answers) == 300
    assert sum(answer["duplicates"] for answer in answers) == 7 * 300
    assert api.rows("SELECT count(*) FROM samples") == [(300,)]


async def test_a_time_zone_nobody_knows_is_told_until_a_known_one_comes(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    async def shown() -> tuple[Any, Any]:
        [device] = (await api.get("/v1/devices"))[1]["devices"]
        return device["timezone"], device["timezone_refused"]

    await api.ingest(sample(0), device={"timezone": "Europe/Berlin"})
    await api.ingest(sample(1), device={"timezone": "Europe/Berlim"})
    assert await shown() == ("Europe/Berlin", "Europe/Berlim")
    [record] = [record for record in caplog.records if "time zone" in record.getMessage()]
    assert vars(record)["zone"] == "Europe/Berlim"
    await api.ingest(sample(2), device={"timezone": "Europe/Paris"})
    assert await shown() == ("Europe/Paris", None)


async def test_what_an_edge_says_is_written_down_again_after_the_device_was_erased(api: Api) -> None:
    info = {"name": "Roof", "plant": "home", "timezone": "Europe/Amsterdam", "poll_interval_s": 10}
    kept = "SELECT edge_name, edge_plant, edge_timezone, edge_poll_interval_s FROM devices"
    for offset in range(3):
        await api.ingest(sample(offset), device=info)
    await erase_device(api.dsn, "sh-1")
    await delete_device(api.dsn, "sh-1", deleted=False)
    assert api.rows(kept) == [(None, None, None, None)]
    api.server.devices.forget("sh-1")  # what any process remembers for less than a second
    await api.ingest(sample(3), device=info)
    assert api.rows(kept) == [tuple(info.values())]
    [(version,)] = api.rows("SELECT xmin::text FROM devices")
    for offset in range(4, 8):
        await api.ingest(sample(offset), device=info)
    assert api.rows("SELECT xmin::text FROM devices") == [(version,)], "what is known already is not written"
