"""The daemon's parts alone: queue in front of the spool, account, service manager, metrics."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reference_edge import account as account_module, intake as module, survey as survey_module
from reference_edge.account import MOST_ROWS, SAID_WITHIN_S, SUM_OF, SUMMED_AFTER, DeviceAccount
from reference_edge.advice import shown_size
from reference_edge.exposition import Family, exposition
from reference_edge.health import HealthReport, health_lines
from reference_edge.intake import Intake, Taken
from reference_edge.metrics import EdgeCollector, metrics_listener, serve_metrics
from reference_edge.survey import Survey
from sungrow_lib import (
    ConfigurationError,
    ConnectionState,
    DurableSpool,
    Outcome,
    Reading,
    SpoolFullError,
    SungrowSample,
)
from sungrow_lib.errors import SpoolError
from sungrow_lib.sample import format_ts
from sungrow_lib.service_manager import ServiceManager
from sungrow_lib.spool import BootStamp, SpoolEntry, SpoolMerging, SpoolState, SystemClock
from sungrow_lib.spool.clock import ClockReading
from sungrow_lib.spool.meta import note_merged
from sungrow_lib.upload import BatchUploader, UploadSettings
from sungrow_lib.upload.status import StatusBoard
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio
CLOCK = SystemClock()


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[DurableSpool]:
    async with DurableSpool.open(tmp_path / "spool.db") as opened:
        yield opened


class Balky:
    """A spool that refuses for as long as it is told to."""

    def __init__(self, spool: DurableSpool) -> None:
        self._spool = spool
        self.refusal: SpoolError | None = None

    async def append_many(self, readings: list[tuple[SungrowSample, BootStamp]]) -> list[SpoolEntry]:
        if self.refusal is not None:
            raise self.refusal
        return await self._spool.append_many(readings)


def taken(number: int) -> Taken:
    ts = datetime.now(UTC).replace(microsecond=0) + timedelta(milliseconds=number)
    return Taken("roof", SungrowSample(device_id="roof", ts=ts, pv_power_w=number), CLOCK.stamp())


@pytest.fixture
def account() -> DeviceAccount:
    return DeviceAccount("roof", "192.168.1.20:502")


# --- a spool that takes nothing --------------------------------------------------------------------------


async def test_readings_wait_in_memory_in_order_and_count_once_the_spool_has_them(
    spool: DurableSpool, account: DeviceAccount, caplog: pytest.LogCaptureFixture
) -> None:
    balky = Balky(spool)
    intake = Intake({"roof": account})
    intake.use(balky)  # type: ignore[arg-type]  # does what the intake asks of a spool
    balky.refusal = SpoolFullError()
    for number in range(5):
        await intake.put(taken(number))
    assert (account.accepted, len(intake), intake.refusal is not None) == (0, 5, True)
    assert (await spool.counts()).accepted == 0
    balky.refusal = None
    await intake.put(taken(5))
    assert (account.accepted, len(intake), intake.refusal) == (6, 0, None)
    powers = [record.entry.content async for record in spool.records()]
    assert powers == [f'{{"pv_power_w":{number}}}' for number in range(6)]
    assert [r.message for r in caplog.records if r.levelname in {"WARNING", "ERROR"}] == [
        "the spool takes no reading; they wait in memory",
        "the spool takes readings again",
    ]


async def test_memory_is_bounded_and_what_is_given_up_is_said(
    spool: DurableSpool,
    account: DeviceAccount,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "MEMORY_READINGS", 3)
    balky = Balky(spool)
    intake = Intake({"roof": account})
    intake.use(balky)  # type: ignore[arg-type]  # see above
    balky.refusal = SpoolFullError()
    for number in range(5):
        await intake.put(taken(number))
    assert len(intake) == 3
    assert account.not_accepted == {"spool refused": 2}
    assert sum(record.message == "poll" for record in caplog.records) == 2
    intake.close()
    assert account.not_accepted == {"spool refused": 2, "stopped": 3}
    assert len(intake) == 0


async def test_waiting_readings_reach_the_spool_without_a_new_one(
    spool: DurableSpool, account: DeviceAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    balky = Balky(spool)
    intake = Intake({"roof": account})
    intake.use(balky)  # type: ignore[arg-type]  # see above
    balky.refusal = SpoolFullError()
    await intake.put(taken(1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(intake.run)
        balky.refusal = None
        with anyio.fail_after(PATIENCE_S):
            while len(intake):  # noqa: ASYNC110 - a test looks from outside
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert account.accepted == 1


async def test_readings_can_share_a_commit_and_count_after_it(
    spool: DurableSpool, account: DeviceAccount
) -> None:
    intake = Intake({"roof": account}, commit_interval_s=3600)
    intake.use(spool)
    for number in range(4):
        await intake.put(taken(number))
    assert (account.accepted, len(intake)) == (1, 3)
    intake.commit_interval_s = intake._not_before = 0.01  # the hour is over
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(intake.run)
        with anyio.fail_after(PATIENCE_S):
            while len(intake):  # noqa: ASYNC110 - a test looks from outside
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert account.accepted == 4 == (await spool.counts()).accepted
    intake._not_before = anyio.current_time() + 3600
    await intake.put(taken(5))
    assert (account.accepted, len(intake)) == (4, 1)
    await intake.flush()
    assert account.accepted == 5


async def test_readings_gathered_for_a_commit_are_never_given_up_while_the_spool_takes_them(
    spool: DurableSpool, account: DeviceAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEMORY_READINGS", 8)
    monkeypatch.setattr(module, "_GATHERED_READINGS", 4)
    intake = Intake({"roof": account}, commit_interval_s=600)
    intake.use(spool)
    longest = 0
    for number in range(30):
        await intake.put(taken(number))
        longest = max(longest, len(intake))
    assert (account.not_accepted, intake.refusal) == ({}, None)
    assert longest == 3  # of the room in memory most is left for a spool that takes none
    assert account.accepted + len(intake) == 30
    await intake.flush()
    assert account.accepted == 30 == (await spool.counts()).accepted


async def test_a_refused_commit_is_tried_again_soon_however_rare_commits_are(
    spool: DurableSpool, account: DeviceAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    balky = Balky(spool)
    intake = Intake({"roof": account}, commit_interval_s=600)
    intake.use(balky)  # type: ignore[arg-type]  # does what the intake asks of a spool
    balky.refusal = SpoolFullError()
    await intake.put(taken(1))
    assert intake.refusal is not None
    balky.refusal = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(intake.run)
        with anyio.fail_after(PATIENCE_S):
            while len(intake):  # noqa: ASYNC110 - a test looks from outside
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert account.accepted == 1


async def test_a_reading_that_is_given_up_has_a_reason_even_where_the_spool_never_said_one(
    account: DeviceAccount, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MEMORY_READINGS", 1)
    intake = Intake({"roof": account})
    for number in range(2):
        await intake.put(taken(number))
    assert account.not_accepted == {"spool refused": 1}
    [line] = [record.__dict__ for record in caplog.records if record.message == "poll"]
    assert line["reason"] == "the spool is not open"


ENTRY = SpoolEntry(1, "roof", 1_780_315_200_000, "{}")


# --- the log's account -----------------------------------------------------------------------------------


def test_many_equal_polls_are_summed_up_and_none_is_forgotten(
    account: DeviceAccount, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(SUMMED_AFTER + 2 * SUM_OF + 7):
        account.lost("silent", "nobody there")
    account.lost("damaged", "noise")
    account.say_rest()
    polls = [record.__dict__ for record in caplog.records]
    assert len(polls) == SUMMED_AFTER + 2 + 1 + 1
    counted = sum(poll.get("polls", 1) for poll in polls if poll["outcome"] == "silent")
    assert counted == SUMMED_AFTER + 2 * SUM_OF + 7 == account.not_accepted["silent"]


def test_a_night_of_changing_reasons_does_not_fill_the_disk(
    account: DeviceAccount, caplog: pytest.LogCaptureFixture
) -> None:
    """Between two tries of a dead dongle each poll names the seconds left, and each try its own reason."""
    polls = 8_640
    for number in range(polls):
        account.lost("silent", "no answer in 5 s" if number % 60 == 0 else f"asked again in {number % 60} s")
    account.say_rest()
    lines = [record.__dict__ for record in caplog.records]
    assert len(lines) < 2 * SUMMED_AFTER + polls / SUM_OF + 5
    assert sum(line.get("polls", 1) for line in lines) == polls
    assert {"no answer in 5 s"} < {line["reason"] for line in lines}


def test_a_host_that_is_away_is_a_line_for_each_attempt_a_sum_of_the_rest_and_a_line_when_it_is_back(
    account: DeviceAccount, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gone = Reading(device_id="roof", outcome=Outcome.SILENT, state=ConnectionState.BACKING_OFF)
    for number in range(20):
        account.polled_now(gone)
        is_attempt = number in {0, 2, 5, 11}
        account.lost("silent", "no route" if is_attempt else f"next in {number} s", was_asked=is_attempt)
    assert [vars(line)["reason"] for line in caplog.records] == ["no route"] * 4
    account.polled_now(counted(1, 1177.0))
    *_, rest, back = [vars(line) for line in caplog.records]
    assert (rest["message"], rest["polls"]) == ("poll", 16)
    assert (back["message"], back["polls"], back["levelname"]) == ("read again", 20, "INFO")
    account.polled_now(counted(2, 1177.0))
    account.polled_now(replace(gone, state=ConnectionState.ASLEEP))
    account.polled_now(counted(3, 1177.0))  # that it is awake is said already
    assert len(caplog.records) == 6


def test_one_that_fails_every_other_poll_does_not_fill_the_disk_and_each_failure_is_accounted_for(
    account: DeviceAccount, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gone = Reading(device_id="roof", outcome=Outcome.SILENT, state=ConnectionState.BACKING_OFF)
    times = 10 * SUM_OF
    for _ in range(times):
        account.polled_now(gone)
        account.lost("silent", "no answer")
        account.polled_now(counted(1, 1177.0))
        account.took(ENTRY)
    assert len(caplog.records) < 4 * SUMMED_AFTER + 3 * times / SUM_OF
    for _ in range(SUMMED_AFTER):
        account.polled_now(counted(1, 1177.0))
        account.took(ENTRY)
    polls = [vars(line) for line in caplog.records if line.message == "poll"]
    assert sum(line.get("polls", 1) for line in polls) == times
    caplog.clear()
    account.polled_now(gone)
    account.lost("silent", "no answer")
    account.polled_now(counted(1, 1177.0))
    account.took(ENTRY)
    assert [line.message for line in caplog.records] == ["poll", "read again"]


GONE = Reading(device_id="roof", outcome=Outcome.DAMAGED, state=ConnectionState.IDLE)


def come_and_go(account: DeviceAccount, reasons: Iterable[str]) -> None:
    """Let it be read after each of so many damaged replies."""
    for reason in reasons:
        account.polled_now(GONE)
        account.lost(str(Outcome.DAMAGED), reason)
        account.polled_now(counted(1, 1177.0))
        account.took(ENTRY)


def garbage(number: int) -> bytes:
    """Return eight bytes that are no reply, of all kinds and different each time."""
    return hashlib.sha256(bytes([number % 256, number // 256])).digest()[:8]


@pytest.mark.parametrize(
    "reason",
    [
        lambda number: f"what answered is not Modbus TCP: {garbage(number)!r}",
        lambda number: f"the reply for unit 1 is about something else: {garbage(number).hex(' ')}",
    ],
)
def test_damaged_replies_are_summed_up_whatever_their_bytes(
    account: DeviceAccount, caplog: pytest.LogCaptureFixture, reason: Callable[[int], str]
) -> None:
    times = 4 * SUM_OF
    come_and_go(account, map(reason, range(times)))
    account.say_rest()
    polls = [vars(line) for line in caplog.records if line.message == "poll"]
    assert sum(poll.get("polls", 1) for poll in polls) == times
    assert len(polls) < 2 * SUMMED_AFTER + times / SUM_OF + 2
    assert polls[0]["reason"] == reason(0), "the bytes are said"


def test_ever_new_reasons_do_not_fill_the_memory_and_each_failure_is_accounted_for(
    account: DeviceAccount, caplog: pytest.LogCaptureFixture
) -> None:
    times = SUMMED_AFTER + 3 * MOST_ROWS
    come_and_go(account, ("x" * number for number in range(times)))
    assert len(account._rows) <= MOST_ROWS
    account.say_rest()
    polls = [vars(line) for line in caplog.records if line.message == "poll"]
    assert sum(poll.get("polls", 1) for poll in polls) == times


def test_what_is_summed_up_is_said_within_ten_minutes_however_seldom_it_is_polled(
    account: DeviceAccount, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, unsaid = 0.0, list[int]()
    monkeypatch.setattr(account_module, "monotonic", lambda: now)
    for number in range(SUMMED_AFTER + 45):
        now = 60.0 * number
        unsaid.append(number - sum(vars(line).get("polls", 1) for line in caplog.records))
        account.polled_now(GONE)
        account.lost(str(Outcome.DAMAGED), "noise")
    assert max(unsaid) == SAID_WITHIN_S / 60.0
    assert len(caplog.records) == SUMMED_AFTER + 4


async def test_what_is_given_up_at_the_end_is_said_of_every_reading(
    account: DeviceAccount, caplog: pytest.LogCaptureFixture
) -> None:
    intake, number = Intake({"roof": account}), SUMMED_AFTER + 30
    await intake.put(*map(taken, range(number)))
    intake.close()
    [told] = [vars(line) for line in caplog.records if line.message == "readings could not be saved"]
    assert (told["device_id"], told["readings"]) == ("roof", number)
    assert (told["from"], told["to"]) == (
        format_ts(taken(0).sample.ts),
        format_ts(taken(number - 1).sample.ts),
    )
    polls = [vars(line) for line in caplog.records if line.message == "poll"]
    assert sum(poll.get("polls", 1) for poll in polls) == number == account.not_accepted["stopped"]


def test_polls_of_a_night_are_no_warning_in_the_morning_either(
    account: DeviceAccount, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    asleep = Reading(device_id="roof", outcome=Outcome.SILENT, state=ConnectionState.ASLEEP)
    for number in range(9):
        account.polled_now(asleep)
        account.lost("silent", "asleep", was_asked=number == 0)
    account.polled_now(replace(asleep, state=ConnectionState.BACKING_OFF))
    account.lost("silent", "asleep")
    account.say_rest()
    lines = [(line.levelname, vars(line).get("polls", 1)) for line in caplog.records]
    assert lines == [("INFO", 1), ("WARNING", 1), ("INFO", 8)]


def test_a_first_poll_that_could_ask_nothing_is_said(
    account: DeviceAccount, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        account.lost("silent", "asked again in a while", was_asked=False)
    account.say_rest()
    assert [vars(line).get("polls", 1) for line in caplog.records] == [1, 4]


@pytest.mark.parametrize(
    ("state", "level"), [(ConnectionState.ASLEEP, "INFO"), (ConnectionState.BACKING_OFF, "WARNING")]
)
def test_sleep_is_no_warning(
    account: DeviceAccount, caplog: pytest.LogCaptureFixture, state: ConnectionState, level: str
) -> None:
    caplog.set_level(logging.INFO)
    account.polled_now(Reading(device_id="roof", outcome=Outcome.SILENT, state=state))
    account.lost("silent", "nobody there")
    assert [record.levelname for record in caplog.records] == [level]


# --- counters --------------------------------------------------------------------------------------------


def counted(number: int, kwh: float) -> Reading:
    ts = datetime(2026, 6, 1, 12, tzinfo=UTC) + timedelta(seconds=5 * number)
    sample = SungrowSample(device_id="roof", ts=ts, pv_total_kwh=kwh)
    return Reading(device_id="roof", outcome=Outcome.READ, sample=sample, boottime=0.0)


async def test_a_counter_that_runs_back_is_a_line_of_the_log_and_of_the_status(
    account: DeviceAccount, caplog: pytest.LogCaptureFixture
) -> None:
    for number, kwh in enumerate((1177.0, 0.0, 1177.1)):
        account.polled_now(counted(number, kwh))
    [line] = [record for record in caplog.records if record.message == "counter"]
    assert vars(line)["reason"] == "pv_total_kwh ran back from 1177.0 to 0.0 kWh"
    assert account.counter_breaks == {"pv_total_kwh": 1}
    assert account.sample is not None
    assert account.sample.pv_total_kwh == 1177.1


async def test_a_counter_that_runs_back_all_the_time_does_not_fill_the_log(
    account: DeviceAccount, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4 * SUM_OF):
        account.polled_now(counted(number, 1177.0 - number / 10))
    lines = [record for record in caplog.records if record.message == "counter"]
    assert len(lines) == SUMMED_AFTER + 3
    assert account.counter_breaks["pv_total_kwh"] == 4 * SUM_OF - 1


# --- the service manager ---------------------------------------------------------------------------------


def drain(outlet: socket.socket) -> int:
    """Read all that is there; return how many messages that were."""
    for count in range(1_000):
        try:
            outlet.recv(1000)
        except BlockingIOError:
            return count
    return 1_000


@pytest.mark.parametrize("name", ["file", "abstract"])
async def test_the_service_manager_hears_of_us(tmp_path: Path, name: str) -> None:
    address = f"@sungrow-test-{os.getpid()}" if name == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0"))
        manager.settimeout(PATIENCE_S)
        service = ServiceManager(
            {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000", "WATCHDOG_PID": str(os.getpid())}
        )
        assert service.watchdog_s == 0.03
        service.say(READY="1", STATUS="started")
        assert manager.recv(1000) == b"READY=1\nSTATUS=started"
        stuck: list[str | None] = [None]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.run, lambda: "fine", lambda: stuck[0])
            for _ in range(3):
                assert await anyio.to_thread.run_sync(manager.recv, 1000) == b"WATCHDOG=1\nSTATUS=fine"
            stuck[0] = "192.168.1.20:502"
            await anyio.sleep(0.05)
            manager.settimeout(0)
            drain(manager)
            await anyio.sleep(0.05)
            assert drain(manager) == 0
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "120000000"}, 120.0),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_without_a_manager_nothing_is_said(environment: dict[str, str], watchdog_s: float | None) -> None:
    service = ServiceManager(environment)
    assert service.watchdog_s == watchdog_s
    service.say(READY="1")
    ServiceManager(environment | {"NOTIFY_SOCKET": "/nowhere/at/all"}).say(READY="1")


# --- metrics ---------------------------------------------------------------------------------------------


async def test_metrics_say_what_is_known_and_leave_out_what_is_not(
    spool: DurableSpool, account: DeviceAccount, tmp_path: Path
) -> None:
    sample = SungrowSample(
        device_id="roof",
        ts=datetime.now(UTC).replace(microsecond=0),
        pv_power_w=0,
        mppt_voltage_v=[512.3, None, 498.0],
    )
    account.polled_now(Reading(device_id="roof", outcome=Outcome.READ, sample=sample, boottime=1.0))
    account.took(await spool.append(sample))
    account.lost("silent", "nobody there")
    account.counts = await spool.counts("roof")
    collector = EdgeCollector(
        {"roof": account}, {"roof": 5.0}, Survey(tmp_path), StatusBoard().snapshot, lambda: 4
    )
    listener = metrics_listener(0)
    port = listener.getsockname()[1]
    async with anyio.create_task_group() as tasks, httpx.AsyncClient() as client:
        tasks.start_soon(serve_metrics, listener, collector)
        with pytest.raises(ConfigurationError, match=f"METRICS_PORT: port {port} on 127.0.0.1 cannot"):
            metrics_listener(port)
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
        tasks.cancel_scope.cancel()
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    found = {(s.name, *s.labels.items()): s.value for f in families.values() for s in f.samples}
    roof = ("device_id", "roof")
    assert found["sungrow_pv_power_w", roof] == 0.0
    voltages = {key[2]: value for key, value in found.items() if key[0] == "sungrow_mppt_voltage_v"}
    assert voltages == {("item", "1"): 512.3, ("item", "3"): 498.0}
    assert found["sungrow_edge_polls_total", roof, ("outcome", "accepted")] == 1.0
    assert found["sungrow_edge_polls_total", roof, ("outcome", "silent")] == 1.0
    assert found["sungrow_edge_memory_readings",] == 4.0
    assert not [name for name in families if name.startswith(("sungrow_battery", "sungrow_edge_server_up"))]
    assert {family.type for family in families.values()} == {"counter", "gauge"}
    assert all(family.documentation for family in families.values())
    if promtool := shutil.which("promtool"):
        done = subprocess.run(  # noqa: ASYNC221 - takes milliseconds
            [promtool, "check", "metrics"], input=answer.text, capture_output=True, text=True, check=False
        )
        assert "error" not in done.stdout + done.stderr


def test_what_prometheus_would_misread_is_written_so_that_it_does_not() -> None:
    awkward = 'a\\n"b"\n\\c é'
    values = {"one": 0.1, "two": 1e300, "three": float("inf"), "four": -float("inf"), "five": float("nan")}
    text = exposition(
        [
            Family("empty", "gauge", "None known", ("label",), []),
            Family("many_total", "counter", awkward, ("first", "second"), [((awkward, ""), 12345678)]),
            Family("values", "gauge", "", ("of",), [((name,), value) for name, value in values.items()]),
        ]
    ).decode()
    empty, many, several = text_string_to_metric_families(text)
    assert (empty.name, empty.samples) == ("empty", [])
    [sample] = many.samples
    assert (many.type, many.documentation) == ("counter", awkward)
    assert (sample.name, sample.value) == ("many_total", 12345678.0)
    assert sample.labels == {"first": awkward, "second": ""}
    assert repr([sample.value for sample in several.samples]) == repr(list(values.values()))
    assert "NaN" in text
    assert "+Inf" in text


class BehindClock(SystemClock):
    """One that somebody vouches for; it ran ahead before."""

    ran_ahead_s = 0

    def read(self) -> ClockReading:
        now = super().read()
        return now._replace(wall_ms=now.wall_ms + self.ran_ahead_s * 1000, synchronised=True)


async def test_health_metrics_and_report_say_of_the_clock_what_the_dating_does(
    account: DeviceAccount, tmp_path: Path
) -> None:
    clock = BehindClock()
    other = DeviceAccount("other", "192.168.1.21:502")
    accounts = {"roof": account, "other": other}
    survey = Survey(tmp_path)
    health = HealthReport(tmp_path / "health.json", accounts, survey, StatusBoard().snapshot, lambda: 0)
    collector = EdgeCollector(accounts, {}, survey, StatusBoard().snapshot, lambda: 0)

    async def told(spool: DurableSpool) -> tuple[object, ...]:
        await survey._look(spool, accounts, Intake(accounts))
        [trusted] = [f for f in collector.collect() if f.name == "sungrow_edge_clock_trusted"]
        reports = [survey._status(spool, each).clock for each in accounts.values()]
        return health._report()["clock"]["trusted"], trusted.samples[0][1], *reports

    async with DurableSpool.open(tmp_path / "spool.db", clock=clock) as spool:
        clock.ran_ahead_s = 3_600
        await spool.append(dated_by(clock), boot=clock.stamp())
        assert await told(spool) == (True, 1.0, "trusted", "trusted")
        clock.ran_ahead_s = 0
        assert (await spool.append(dated_by(clock), boot=clock.stamp())).state is SpoolState.WAITING
        assert await told(spool) == (False, 0.0, "untrusted", "trusted")
        await spool.observe_server_date(datetime.now(UTC), clock.stamp())
        spool._store._dating._server_serves = clock.stamp().boot_id  # a day went by
        await spool.release_waiting()
        assert await told(spool) == (False, 0.0, "server", "trusted")


def dated_by(clock: SystemClock) -> SungrowSample:
    ts = datetime.fromtimestamp(clock.read().wall_ms // 1000, UTC)
    return SungrowSample(device_id="roof", ts=ts, pv_power_w=1)


async def test_the_next_look_comes_at_once_when_readings_begin_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference_edge.survey._LISTEN_S", 0.01)
    survey = Survey(tmp_path)
    told = iter([False, False, True])
    with anyio.fail_after(PATIENCE_S):
        await survey._wait(3600, False, lambda: next(told))  # noqa: FBT003 - what was told
    assert next(told, None) is None


async def test_a_spool_that_takes_nothing_is_an_alarm_at_once_and_status_says_what_is_in_memory(
    spool: DurableSpool, account: DeviceAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference_edge.survey._LISTEN_S", 0.01)
    monkeypatch.setattr("reference_edge.survey._LOOK_S", 3600.0)
    monkeypatch.setattr("reference_edge.survey._SECOND_LOOK_S", 3600.0)
    accounts = {"roof": account}
    intake, survey, balky = Intake(accounts), Survey(tmp_path), Balky(spool)
    intake.use(balky)  # type: ignore[arg-type]  # does what the intake asks of a spool
    health = HealthReport(tmp_path / "h.json", accounts, survey, StatusBoard().snapshot, lambda: len(intake))
    assert not [line for line in health_lines(said_now(health)) if "in memory" in line]
    settings = UploadSettings(server_url="https://localhost:1", token="right-token")
    async with BatchUploader(spool, settings) as uploader, anyio.create_task_group() as tasks:
        tasks.start_soon(survey.run, spool, uploader, accounts, intake)
        with anyio.fail_after(PATIENCE_S):
            while survey.clock is None:  # noqa: ASYNC110 - a test looks from outside
                await anyio.sleep(0.01)
            balky.refusal = SpoolFullError()
            await intake.put(taken(1))
            await intake.put(taken(2))
            while "spool" not in survey.alarms:  # noqa: ASYNC110 - see above
                await anyio.sleep(0.01)
            lines = list(health_lines(said_now(health)))
            assert "2 readings are in memory alone, to be written to the spool" in lines
            balky.refusal = None
            await intake.put(taken(3))
            while "spool" in survey.alarms:  # noqa: ASYNC110 - see above
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


async def test_readings_merged_on_a_full_disk_are_an_alarm_at_once(
    spool: DurableSpool, account: DeviceAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference_edge.survey._LISTEN_S", 0.01)
    monkeypatch.setattr("reference_edge.survey._LOOK_S", 3600.0)
    monkeypatch.setattr("reference_edge.survey._SECOND_LOOK_S", 3600.0)
    accounts = {"roof": account}
    intake, survey = Intake(accounts), Survey(tmp_path)
    settings = UploadSettings(server_url="https://localhost:1", token="right-token")

    def merge(connection: sqlite3.Connection) -> None:
        note_merged(connection, 7, round(datetime.now(UTC).timestamp() * 1000))
        spool._store.relief.merged += 7

    async with BatchUploader(spool, settings) as uploader, anyio.create_task_group() as tasks:
        tasks.start_soon(survey.run, spool, uploader, accounts, intake)
        with anyio.fail_after(PATIENCE_S):
            while survey.clock is None:  # noqa: ASYNC110 - a test looks from outside
                await anyio.sleep(0.01)
            await spool._run(lambda: spool._store.change(merge))
            while "merged" not in survey.alarms:  # noqa: ASYNC110 - see above
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert "7 readings became part of others" in survey.alarms["merged"].detail


def said_now(health: HealthReport) -> dict[str, Any]:
    return {"running": True, "age_s": 0.0} | health._report()


def test_an_alarm_that_uploader_and_survey_raise_is_one_sample(
    account: DeviceAccount, tmp_path: Path
) -> None:
    survey, board = Survey(tmp_path), StatusBoard()
    survey._set("spool", "it is away")
    board.raise_alarm("spool", "it is away", None)
    board.raise_alarm("spool", "it is away", "roof")
    collector = EdgeCollector({"roof": account}, {"roof": 5.0}, survey, board.snapshot, lambda: 0)
    [alarms] = [family for family in collector.collect() if family.name == "sungrow_edge_alarm"]
    assert sorted(alarms.samples) == [(("spool", ""), 1.0), (("spool", "roof"), 1.0)]


async def test_an_old_reading_is_not_shown_as_now(account: DeviceAccount, tmp_path: Path) -> None:
    old = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=60)
    account.polled_now(
        Reading(
            device_id="roof",
            outcome=Outcome.READ,
            sample=SungrowSample(device_id="roof", ts=old, pv_power_w=5),
            boottime=1.0,
            state=ConnectionState.IDLE,
        )
    )
    collector = EdgeCollector(
        {"roof": account}, {"roof": 5.0}, Survey(tmp_path), StatusBoard().snapshot, lambda: 0
    )
    assert not any(metric.name == "sungrow_pv_power_w" for metric in collector.collect())


# --- a full disk and a queue are alarms ------------------------------------------------------------------


async def test_an_alarm_shows_and_ends_without_a_look_at_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey_module, "_JUDGE_S", 0.0)
    survey, intake = Survey(tmp_path), Intake({"roof": DeviceAccount("roof", "")})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(survey.watch, intake)
        with anyio.fail_after(PATIENCE_S):
            for refusal in ("it is away", None):
                intake.refusal = refusal
                while ("spool" in survey.alarms) is (refusal is None):  # noqa: ASYNC110 - nothing tells
                    await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


def test_the_survey_raises_alarms_and_ends_them(
    account: DeviceAccount, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    survey, intake = Survey(tmp_path), Intake({"roof": account})
    survey.disk_free_bytes, intake.refusal = 10_000_000, "No room left."
    survey.judge(intake)
    survey.judge(intake)
    assert survey.alarms.keys() == {"disk", "spool"}
    assert len(caplog.records) == 2
    survey.disk_free_bytes, intake.refusal = 10_000_000_000, None
    survey.judge(intake)
    assert not survey.alarms


def test_the_alarm_of_merged_readings_says_when_and_how_many_and_ends_after_a_day(
    account: DeviceAccount, tmp_path: Path
) -> None:
    survey, intake = Survey(tmp_path), Intake({"roof": account})
    now = datetime.now(UTC)
    begin, end = (now - timedelta(hours=hours) for hours in (30, 23))
    survey.merged, survey.merging = 5_000, SpoolMerging(begin, end, 1_234)
    survey.judge(intake)
    detail = survey.alarms["merged"].detail
    assert f"from {format_ts(begin)} to {format_ts(end)}: 1234 readings became part of others" in detail
    survey.merging = SpoolMerging(begin, now - timedelta(hours=25), 1_234)
    survey.judge(intake)
    assert not survey.alarms


def silent(device_id: str, state: ConnectionState = ConnectionState.BACKING_OFF) -> Reading:
    return Reading(device_id=device_id, outcome=Outcome.SILENT, state=state)


def test_it_is_an_alarm_when_no_inverter_can_be_read(tmp_path: Path) -> None:
    survey = Survey(tmp_path)
    accounts = {name: DeviceAccount(name, "") for name in ("roof", "shed")}
    intake = Intake(accounts)
    for _ in range(3):
        survey.judge(intake)
        assert not survey.alarms
        accounts["roof"].polled_now(silent("roof"))
    survey.judge(intake)
    assert not survey.alarms  # the other one has not been asked yet
    for _ in range(3):
        accounts["shed"].polled_now(silent("shed", ConnectionState.ASLEEP))
    survey.judge(intake)
    assert "No inverter can be read (roof: " in survey.alarms["inverters"].detail
    accounts["roof"].polled_now(silent("roof", ConnectionState.ASLEEP))
    survey.judge(intake)
    assert not survey.alarms
    accounts["shed"].polled_now(silent("shed"))
    accounts["roof"].polled_now(silent("roof"))
    survey.judge(intake)
    assert survey.alarms.keys() == {"inverters"}
    sample = SungrowSample(device_id="shed", ts=datetime.now(UTC).replace(microsecond=0))
    accounts["shed"].polled_now(replace(silent("shed", ConnectionState.IDLE), sample=sample))
    survey.judge(intake)
    assert not survey.alarms


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"),
        (9_999, "9999 bytes"),
        (40_000, "40 kB"),
        (8_000_000, "8000 kB"),
        (48_200_000, "48.2 MB"),
        (252_000_000_000, "252.0 GB"),
    ],
)
def test_sizes_are_shown_in_a_unit_that_fits(size: int, shown: str) -> None:
    assert shown_size(size) == shown
