"""The latest reading, completed with what was known before."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from reference_server import realtime
from reference_server.administration import delete_device, erase_device
from sungrow_lib.sample import format_ts
from tests.patience import PATIENCE_S
from tests.server.conftest import NOW, Api, sample

pytestmark = pytest.mark.anyio


async def test_unknown_until_the_first_reading(api: Api) -> None:
    assert (await api.get("/v1/realtime", device_id="sh-1"))[0] == 404
    await api.ingest(sample(0, pv_power_w="x"))  # the device is known now, but has no reading
    assert (await api.get("/v1/realtime", device_id="sh-1"))[0] == 404


async def test_the_latest_by_time_whatever_the_order(api: Api) -> None:
    await api.ingest(sample(10, pv_power_w=3), sample(5, pv_power_w=2), device={"poll_interval_s": 20})
    await api.ingest(sample(0, pv_power_w=1))
    status, shown = await api.get("/v1/realtime", device_id="sh-1")
    assert status == 200
    assert (shown["ts"], shown["pv_power_w"], shown["read_at"]) == (sample(10)["ts"], 3, {})
    assert (shown["age_s"], shown["stale"]) == (50, False)
    assert shown["battery_power_w"] is None


async def test_fields_not_read_show_their_last_known_value_and_its_time(api: Api) -> None:
    await api.ingest(
        sample(0, battery_soc_pct=50.5, firmware="A1", interval_s=5), sample(1, battery_soc_pct=51)
    )
    await api.ingest(sample(2, pv_power_w=7))
    _, shown = await api.get("/v1/realtime", device_id="sh-1")
    assert (shown["battery_soc_pct"], shown["firmware"], shown["interval_s"]) == (51, "A1", None)
    assert shown["read_at"] == {"battery_soc_pct": sample(1)["ts"], "firmware": sample(0)["ts"]}


@pytest.mark.parametrize("rolled_up", [False, True])
async def test_what_was_last_known_long_ago_is_known(api: Api, *, rolled_up: bool) -> None:
    for day, fields in ((90, {"firmware": "A1"}), (20, {"battery_soh_pct": 99}), (0, {"pv_power_w": 7})):
        await api.ingest(sample(-86_400 * day, **fields))
        if rolled_up:
            await api.server.refresher.refresh_all()
    _, shown = await api.get("/v1/realtime", device_id="sh-1")
    assert (shown["pv_power_w"], shown["battery_soh_pct"], shown["firmware"]) == (7, 99, "A1")
    await api.ingest(sample(-86_400 * 5, pv_power_w=5))  # late, and not rolled up when it is asked for
    assert (await api.get("/v1/devices"))[1]["devices"][0]["last_ts"] == sample(0)["ts"]


async def test_firmware_read_long_ago_is_found_a_part_at_each_look(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime, "_LOOK_BACK", 1)
    for day, fields in ((390, {"firmware": "A1"}), (200, {"pv_power_w": 1}), (0, {"pv_power_w": 7})):
        await api.ingest(sample(-86_400 * day, **fields))
    await api.server.refresher.refresh_all()
    seen = []
    for _ in range(5):
        _, shown = await api.get("/v1/realtime", device_id="sh-1")
        seen.append(shown["firmware"])
        api.server.latest._known[1].looked_at = 0
    assert seen == [None, None, None, "A1", "A1"]
    await api.ingest(sample(-86_400 * 3, pv_power_w=3))  # late: it looks anew, but not through a year
    _, shown = await api.get("/v1/realtime", device_id="sh-1")
    assert (shown["firmware"], shown["read_at"]["firmware"]) == ("A1", sample(-86_400 * 390)["ts"])
    assert api.server.latest._known[1].unread is None


async def test_a_second_process_and_later_readings_are_seen(api: Api) -> None:
    await api.ingest(sample(0, pv_power_w=1))
    await api.get("/v1/realtime", device_id="sh-1")
    api.rows(
        "INSERT INTO samples (device, ts, pv_power_w) SELECT device, ts + interval '1 s', 2 FROM samples "
        "RETURNING 1"
    )
    async with asyncio.timeout(PATIENCE_S):
        while (await api.get("/v1/realtime", device_id="sh-1"))[1]["pv_power_w"] != 2:  # noqa: ASYNC110 - what another process stored has no event here
            await asyncio.sleep(0.01)


async def test_what_this_process_stored_is_seen_at_once(api: Api) -> None:
    for number in range(20):
        await api.ingest(sample(number, pv_power_w=number))
        shown = await asyncio.gather(*(api.get("/v1/realtime", device_id="sh-1") for _ in range(4)))
        assert {answer["pv_power_w"] for _, answer in shown} == {number}


async def test_a_reading_that_arrives_late_is_known_whoever_asked_before(api: Api) -> None:
    await api.ingest(sample(10, pv_power_w=1))
    await api.get("/v1/realtime", device_id="sh-1")
    await api.ingest(sample(8, battery_soc_pct=50))
    _, shown = await api.get("/v1/realtime", device_id="sh-1")
    assert (shown["ts"], shown["battery_soc_pct"]) == (sample(10)["ts"], 50)
    assert shown["read_at"] == {"battery_soc_pct": sample(8)["ts"]}


async def test_firmware_read_long_ago_is_still_known(api: Api) -> None:
    await api.ingest(sample(-5000, firmware="A1"))
    await api.ingest(*(sample(-3000 + i) for i in range(1500)))
    _, shown = await api.get("/v1/realtime", device_id="sh-1")
    assert shown["firmware"] == "A1"
    assert shown["read_at"]["firmware"] == sample(-5000)["ts"]


async def test_stale_after_three_intervals_and_never_younger_than_now(api: Api) -> None:
    await api.ingest(sample(45))  # fifteen seconds ago
    assert not (await api.get("/v1/realtime", device_id="sh-1"))[1]["stale"]
    api.clock.now += timedelta(milliseconds=1)
    assert (await api.get("/v1/realtime", device_id="sh-1"))[1]["stale"]
    await api.ingest({"device_id": "sh-1", "ts": format_ts(NOW + timedelta(minutes=4))})
    assert (await api.get("/v1/realtime", device_id="sh-1"))[1]["age_s"] == 0


async def test_nothing_is_known_of_what_was_erased(api: Api) -> None:
    await api.ingest(sample(-60, firmware="A1", battery_soc_pct=50))
    assert (await api.get("/v1/realtime", device_id="sh-1"))[1]["firmware"] == "A1"
    await erase_device(api.dsn, "sh-1")
    await delete_device(api.dsn, "sh-1", deleted=False)
    api.server.devices.forget("sh-1")  # what any process remembers for less than a second
    await api.ingest(sample(-86_400 * 300), sample(0, pv_power_w=7))  # more than one look goes through
    _, shown = await api.get("/v1/realtime", device_id="sh-1")
    assert (shown["pv_power_w"], shown["firmware"], shown["battery_soc_pct"]) == (7, None, None)
