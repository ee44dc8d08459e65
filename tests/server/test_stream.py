"""The live stream: every new reading, from every server process; gaps and backlogs told.

How soon is measured by the benchmarks; here a deadline only ends a test that would hang.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from reference_server import live
from reference_server.administration import create_token, delete_device, list_tokens, revoke_token
from reference_server.lateness import Lateness
from reference_server.live import Listener
from reference_server.storage.arrivals import ANY_DEVICE, ArrivalChannel, LateBatch
from reference_server.storage.codec import Row
from reference_server.storage.errors import StorageUnavailableError
from sungrow_lib.client import SungrowClient
from sungrow_lib.errors import CredentialsRefusedError
from sungrow_lib.sample import SungrowSample, format_ts
from sungrow_lib.wire.live import REPLAY_LIMIT, StreamBackfill, StreamGap
from tests.patience import PATIENCE_S
from tests.server.conftest import NOW, TOKEN, Api, Clock, StartServer, sample

pytestmark = pytest.mark.anyio


@dataclass
class Events:
    """An open stream, read event by event."""

    answer: aiohttp.ClientResponse

    async def block(self) -> dict[str, str]:
        """One block of lines, comments under ''."""
        found: dict[str, str] = {}
        while line := (await self.answer.content.readline()).decode():
            if line == "\n":
                return found
            name, _, value = line.rstrip("\n").partition(": ")
            found[name] = value
        raise EOFError

    async def next(self, within_s: float = PATIENCE_S) -> tuple[str, dict[str, Any], str | None]:
        async with asyncio.timeout(within_s):
            while "event" not in (block := await self.block()):
                pass
        return block["event"], json.loads(block["data"]), block.get("id")


@asynccontextmanager
async def streaming(
    api: Api, *, after: str | None = None, token: str | None = None, device_id: str = "sh-1"
) -> AsyncIterator[Events]:
    headers = api.headers(token) | ({"Last-Event-ID": after} if after else {})
    query = {"device_id": device_id}
    async with api.session.get(api.url + "/v1/stream", params=query, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        events = Events(answer)
        assert "retry" in await events.block()
        yield events


async def test_a_reading_is_sent_as_ingested_and_only_newer_ones(api: Api) -> None:
    await api.ingest(sample(0, pv_power_w=1))
    async with streaming(api) as events:
        await api.ingest(sample(5, pv_power_w=7, pv_total_kwh=10.1, mppt_voltage_v=[None, 2], newer=1))
        kind, data, number = await events.next()
        assert (kind, number) == ("sample", sample(5)["ts"])
        assert data == sample(5, pv_power_w=7, pv_total_kwh=10.1, mppt_voltage_v=[None, 2], newer=1)
        await api.ingest(sample(5, pv_power_w=7), sample(4, pv_power_w=3), sample(0, device_id="sh-2"))
        await api.ingest(sample(6, pv_power_w=8))
        while (event := await events.next())[0] == "backfill":  # what came late is told within a second
            pass
        assert (event[0], event[1]["pv_power_w"]) == ("sample", 8)


async def test_readings_that_come_a_little_late_are_told(api: Api) -> None:
    now = 60
    await api.ingest(sample(now))
    async with streaming(api) as events:
        await api.ingest(sample(now - 4), sample(now - 2))
        kind, data, _ = await events.next()
        assert (kind, data["from"], data["count"]) == ("backfill", sample(now - 4)["ts"], 2)


async def test_what_came_late_of_a_batch_is_told_beside_its_newer_readings(api: Api) -> None:
    await api.ingest(sample(40))
    async with streaming(api) as events:
        for end in (45, 55):  # in order they are stored as a block, else one by one
            batch = [sample(end - 2), sample(end - 1), sample(end + 1), sample(end + 2)]
            await api.ingest(sample(end))
            assert (await events.next())[2] == sample(end)["ts"]
            await api.ingest(*(batch if end == 45 else reversed(batch)))
            told = [await events.next() for _ in range(3)]
            late = [data for kind, data, _ in told if kind == "backfill"]
            assert [number for _, _, number in told if number] == [sample(end + i)["ts"] for i in (1, 2)]
            begin, behind = sample(end - 2)["ts"], sample(end - 1)["ts"].replace(".000Z", ".001Z")
            assert late == [{"from": begin, "to": behind, "count": 2}]
        await api.ingest(sample(60), sample(61))
        await api.ingest(sample(60), sample(62))
        assert [(await events.next())[2] for _ in range(3)] == [sample(n)["ts"] for n in (60, 61, 62)]
        with pytest.raises(TimeoutError):  # nothing of it was late
            await events.next(2.5)


async def test_what_came_after_another_process_s_reading_is_told_beside_the_newer_ones(
    api: Api, start_server: StartServer
) -> None:
    async with start_server() as other:
        await api.ingest(sample(40))
        async with streaming(api) as events:
            await other.ingest(sample(50))
            assert (await events.next())[2] == sample(50)["ts"]
            await api.ingest(sample(45), sample(46), sample(55))
            told = [await events.next() for _ in range(2)]
            assert [number for _, _, number in told if number] == [sample(55)["ts"]]
            assert [data["count"] for kind, data, _ in told if kind == "backfill"] == [2]


async def test_readings_that_another_process_took_a_little_late_are_told(
    api: Api, start_server: StartServer
) -> None:
    async with start_server() as other:
        await api.ingest(sample(56))
        async with streaming(api) as events:
            for second in (57, 58, 59):
                await api.ingest(sample(second, pv_power_w=second))
                assert (await events.next())[1]["pv_power_w"] == second
                await other.ingest(sample(second - 0.5))
                kind, data, _ = await events.next()
                assert (kind, data["from"], data["count"]) == ("backfill", sample(second - 0.5)["ts"], 1)


async def test_what_was_taken_before_a_younger_reading_was_heard_of_is_suspect() -> None:
    clock = Clock()
    lateness = Lateness(clock)
    a_while_ago = NOW - timedelta(seconds=8)
    batches = [LateBatch(device, a_while_ago, a_while_ago, 3) for device in (1, 2)]
    assert not any(map(lateness.suspects, batches))
    assert lateness.heard({1, 3}) == [batches[0]]
    assert lateness.heard({1, 3}) == []
    assert lateness.suspects(LateBatch(3, NOW, NOW, 1))
    assert not lateness.suspects(LateBatch(4, NOW, NOW, 1))
    assert lateness.heard(ANY_DEVICE) == []  # and what is fresh is left alone where nobody is named
    assert lateness.suspects(LateBatch(5, a_while_ago, a_while_ago, 1))
    assert not lateness.suspects(LateBatch(5, NOW, NOW, 1))


async def test_the_stream_of_a_deleted_device_ends(api: Api) -> None:
    await api.ingest(sample(0), sample(0, device_id="sh-2"))
    async with streaming(api) as events, streaming(api, device_id="sh-2") as other:
        await delete_device(api.dsn, "sh-1", deleted=True)
        with pytest.raises(EOFError):
            await events.next()
        await api.ingest(sample(1, device_id="sh-2", pv_power_w=1))
        assert (await other.next())[0] == "sample"


async def test_every_process_sends_it(api: Api, start_server: StartServer) -> None:
    async with start_server() as other:
        await api.ingest(sample(0))
        async with streaming(other) as events, streaming(api) as own:
            for i in range(1, 4):
                await api.ingest(sample(i, pv_power_w=i))
                assert (await events.next())[1]["pv_power_w"] == i
                assert (await own.next())[1]["pv_power_w"] == i


async def test_without_notifications_it_is_sent_all_the_same(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(_: ArrivalChannel) -> AsyncIterator[None]:
        raise StorageUnavailableError

    async def dumb(*_: object) -> None:
        raise StorageUnavailableError

    monkeypatch.setattr(ArrivalChannel, "listen", deaf)
    monkeypatch.setattr(ArrivalChannel, "tell", dumb)
    async with start_server() as api, start_server() as other:
        await api.ingest(sample(0))
        async with streaming(other) as events:
            for i in range(1, 4):
                await api.ingest(sample(i, pv_power_w=i))
                assert (await events.next())[1]["pv_power_w"] == i


async def test_the_first_reading_of_a_device_is_sent(api: Api) -> None:
    await api.ingest(sample(0, pv_power_w="no number"))
    async with streaming(api) as events:
        await api.ingest(sample(1, pv_power_w=1))
        assert (await events.next())[1]["pv_power_w"] == 1


async def test_a_reconnect_replays_what_was_missed(api: Api) -> None:
    await api.ingest(*(sample(i, pv_power_w=i) for i in range(10)))
    async with streaming(api, after=sample(6)["ts"]) as events:
        await api.ingest(sample(10, pv_power_w=10))
        assert [(await events.next())[1]["pv_power_w"] for _ in range(4)] == [7, 8, 9, 10]


async def test_more_than_a_thousand_missed_readings_end_in_a_gap(api: Api) -> None:
    count = REPLAY_LIMIT + 50
    await api.ingest(*(sample(-count + i, pv_power_w=i) for i in range(count + 1)))
    async with streaming(api, after=sample(-count)["ts"]) as events:
        for i in range(1, REPLAY_LIMIT + 1):
            assert (await events.next())[1]["pv_power_w"] == i
        kind, data, number = await events.next()
        begin, end = sample(-49)["ts"], format_ts(NOW - timedelta(minutes=1) + timedelta(milliseconds=1))
        assert (kind, data, number) == ("gap", {"from": begin, "to": end}, sample(0)["ts"])
        await api.ingest(sample(1, pv_power_w=4321))
        assert (await events.next())[1]["pv_power_w"] == 4321
    exact = sample(-REPLAY_LIMIT + 1)["ts"]
    async with streaming(api, after=exact) as events:
        kinds = [(await events.next())[0] for _ in range(REPLAY_LIMIT)]
        assert set(kinds) == {"sample"}
        await api.ingest(sample(2, pv_power_w=4322))
        while (event := await events.next())[0] == "backfill":  # of so old a batch it may be told late
            pass
        assert (event[0], event[1]["pv_power_w"]) == ("sample", 4322)


async def test_a_draining_backlog_is_one_event_a_second(api: Api, start_server: StartServer) -> None:
    async with start_server() as other:
        await api.ingest(sample(0))
        async with streaming(other) as events:
            for batch in range(3):
                await api.ingest(*(sample(-1000 + 10 * batch + i) for i in range(10)))
            kind, data, number = await events.next()
            assert (kind, number) == ("backfill", None)
            total, begin, end = data["count"], data["from"], data["to"]
            while total < 30:
                _, data, _ = await events.next()
                total, end = total + data["count"], data["to"]
            assert (total, begin) == (30, sample(-1000)["ts"])
            assert end == sample(-971)["ts"].replace(".000Z", ".001Z")


async def test_revocation_and_expiry_end_open_streams(api: Api) -> None:
    await api.ingest(sample(0))
    token = await create_token(api.dsn, "short", ["read"], ["sh-1"], None)
    async with streaming(api, token=token) as events, streaming(api) as other:
        [entry] = await list_tokens(api.dsn)
        await revoke_token(api.dsn, entry["token"])
        with pytest.raises(EOFError):
            await events.next()
        await api.ingest(sample(1, pv_power_w=1))
        assert (await other.next())[0] == "sample"


@pytest.mark.parametrize(
    ("query", "headers", "name"),
    [
        ({}, {"Last-Event-ID": "yesterday"}, "Last-Event-ID"),
        ({"lastEventId": "yesterday"}, {}, "lastEventId"),
        ({"lastEventId": "today"}, {"Last-Event-ID": "yesterday"}, "Last-Event-ID"),
    ],
)
async def test_a_last_event_id_must_be_one(
    api: Api, query: dict[str, str], headers: dict[str, str], name: str
) -> None:
    await api.ingest(sample(0))
    async with api.session.get(
        api.url + "/v1/stream", params={"device_id": "sh-1"} | query, headers=api.headers() | headers
    ) as answer:
        problem = await answer.json(content_type=None)
    assert (answer.status, problem["errors"][0]["field"]) == (422, name)
    assert problem["detail"].startswith(f"{name} must be")


async def test_an_id_of_a_time_to_come_is_no_fault(api: Api) -> None:
    await api.ingest(sample(0))
    async with streaming(api, after="2999-01-01T00:00:00Z") as events:
        await api.ingest(sample(1, pv_power_w=1))
        assert (await events.next())[0] == "sample"


async def test_what_was_seen_may_be_told_in_the_address(api: Api) -> None:
    """Where libraries put it that connect again; the header counts before it."""
    await api.ingest(*(sample(n, pv_power_w=n) for n in range(3)))
    seen = [format_ts(NOW - timedelta(minutes=1) + timedelta(seconds=n)) for n in range(3)]
    for headers, expected in (({}, 1), ({"Last-Event-ID": seen[1]}, 2)):
        async with api.session.get(
            api.url + "/v1/stream",
            params={"device_id": "sh-1", "lastEventId": seen[0]},
            headers=api.headers() | headers,
        ) as answer:
            assert answer.status == 200
            assert (await Events(answer).next())[1]["pv_power_w"] == expected


async def test_heartbeats_are_comments(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_server.stream._HEARTBEAT_S", 0.1)
    async with start_server() as api:
        await api.ingest(sample(0))
        async with streaming(api) as events:
            assert await events.block() == {"": "alive"}


async def test_a_listener_too_slow_to_take_it_is_ended() -> None:
    listener = Listener(1, NOW, b"")
    for i in range(live._QUEUE_LIMIT):
        listener.put(LateBatch(1, NOW, NOW, i + 1))
    was_ended = listener.ended
    assert not was_ended
    listener.put(LateBatch(1, NOW, NOW, 1))
    assert listener.ended
    assert listener.queue.get_nowait() is None
    listener.put(LateBatch(1, NOW, NOW, 1))
    assert listener.queue.empty()


async def test_what_a_stream_has_sent_is_not_told_as_late() -> None:
    listener = Listener(1, NOW, b"")
    rows = [Row(1, NOW + timedelta(seconds=i), (), (), 0, {}) for i in range(4)]
    for row in rows:
        listener.put(row)
    assert listener.has_all(LateBatch(1, rows[1].ts, rows[2].ts, 2))
    assert not listener.has_all(LateBatch(1, NOW + timedelta(seconds=0.5), rows[2].ts, 2))


async def test_stopping_ends_streams(start_server: StartServer) -> None:
    async with aiohttp.ClientSession() as session:
        async with start_server() as api:
            await api.ingest(sample(0))
            query = {"device_id": "sh-1"}
            answer = await session.get(api.url + "/v1/stream", params=query, headers=api.headers())
        await answer.read()  # to its proper end: a connection merely cut off would raise


async def test_the_client_reads_events_and_takes_up_where_it_was(api: Api) -> None:
    await api.ingest(sample(0, pv_power_w=0))
    async with SungrowClient(api.url, TOKEN) as client:
        events = client.stream("sh-1", after=NOW - timedelta(days=1))
        first = await anext(events)
        assert isinstance(first, SungrowSample)
        assert (first.ts, first.pv_power_w) == (NOW - timedelta(minutes=1), 0)
        api.server.live.end_all()
        await asyncio.sleep(3 * live.HINT_PAUSE_S)
        await api.ingest(sample(1, pv_power_w=1))
        second = await asyncio.wait_for(anext(events), PATIENCE_S)
        assert isinstance(second, SungrowSample)
        assert second.pv_power_w == 1
        await api.ingest(*(sample(-500 + i) for i in range(3)))
        late = await asyncio.wait_for(anext(events), PATIENCE_S)
        assert isinstance(late, StreamBackfill)
        assert late.count == 3
        await events.aclose()
        with pytest.raises(CredentialsRefusedError):
            await anext(client.stream("other"))
    gap = StreamGap.model_validate_json(f'{{"from": "{format_ts(NOW)}", "to": "{format_ts(NOW)}"}}')
    assert gap.from_ == NOW


async def test_a_stream_that_is_ended_counts_no_more(start_server: StartServer) -> None:
    """However long its client takes to notice."""
    async with start_server() as api:
        await api.ingest(sample(0))
        [(device,)] = api.rows("SELECT device FROM devices")
        listener, other = Listener(device, NOW, b""), Listener(device, NOW, b"")
        hub = api.server.live
        async with hub.listening(listener), hub.listening(other):
            assert await _streams(api) == 2
            for _ in range(live._QUEUE_LIMIT + 1):
                listener.put(LateBatch(device, NOW, NOW, 1))
            assert await _streams(api) == 1
        assert await _streams(api) == 0


async def _streams(api: Api) -> float:
    async with api.session.get(api.url + "/metrics", headers=api.headers()) as answer:
        text = await answer.text()
    [line] = [line for line in text.splitlines() if line.startswith("sungrow_streams ")]
    return float(line.split()[1])
