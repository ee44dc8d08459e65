"""The edge daemon as a process against a real simulated inverter: what it does with what goes wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import anyio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reference_edge.account import DeviceAccount
from reference_edge.check import _said_by_daemon
from reference_edge.config import DeviceSettings, EdgeSettings
from reference_edge.intake import Intake
from reference_edge.station import Station
from sungrow_lib import (
    BatchUploader,
    ConnectionState,
    InverterSimulator,
    Outcome,
    Profile,
    Reading,
    SungrowSample,
)
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import Child, python, wait_until
from sungrow_lib.demo.proof import read_events
from sungrow_lib.demo.setup import clean_environment, free_ports
from sungrow_lib.errors import DeviceBusyError, DeviceError
from tests.living import living_inverter
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio


def variables(folder: Path, *, inverter_port: int, ca: Path, server_port: int) -> dict[str, str]:
    return clean_environment() | {
        "SERVER_URL": f"https://localhost:{server_port}",
        "DEVICE_TOKEN": "edge-token-0123456789",
        "CA_FILE": str(ca),
        "SUNGROW_HOST": "127.0.0.1",
        "SUNGROW_PORT": str(inverter_port),
        "DEVICE_ID": "roof",
        "SPOOL_PATH": str(folder / "spool.sqlite"),
        "SUNGROW_LOCK_DIR": str(folder),
        "LOG_LEVEL": "DEBUG",
    }


@contextmanager
def edge(folder: Path, *, inverter_port: int, ca: Path, server_port: int, **more: str) -> Iterator[Child]:
    environment = variables(folder, inverter_port=inverter_port, ca=ca, server_port=server_port) | more
    with ExitStack() as stack:
        command = python("reference_edge", "run")
        child = Child("the edge", command, folder / "edge.log", environment=environment)
        stack.callback(child.stop, 60.0)
        yield child


def events(folder: Path, event: str) -> list[dict[str, object]]:
    return [entry for entry in read_events(folder / "edge.log") if entry["event"] == event]


async def until(what: str, folder: Path, event: str, child: Child, count: int = 1) -> None:
    await anyio.to_thread.run_sync(
        lambda: wait_until(
            what, lambda: len(events(folder, event)) >= count, timeout_s=PATIENCE_S, watched=[child]
        )
    )


async def test_readings_are_kept_while_the_server_is_away(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    [nobody] = free_ports(1)
    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1)
    async with InverterSimulator({1: inverter}) as simulator:
        with edge(tmp_path, inverter_port=simulator.port, ca=tls_files.ca, server_port=nobody) as child:
            await until("a poll", tmp_path, "poll", child)
            assert await anyio.to_thread.run_sync(child.stop, 60.0), "it did not end by itself when told to"
            assert child.exit_status == 0
    [first, *_] = events(tmp_path, "poll")
    assert first["outcome"] == "accepted"
    assert events(tmp_path, "identified")[0]["model"] == "SH8.0RT-20"
    stopped = events(tmp_path, "stopped")[0]
    assert stopped["everything_delivered"] is False
    assert cast("int", stopped["undelivered"]) >= 1
    assert stopped["quarantined"] == 0
    status = await anyio.run_process(
        python("reference_edge", "status", "--json"),
        env=clean_environment()
        | {
            "SERVER_URL": "https://localhost",
            "DEVICE_TOKEN": "edge-token-0123456789",
            "SUNGROW_HOST": "127.0.0.1",
            "DEVICE_ID": "roof",
            "SPOOL_PATH": str(tmp_path / "spool.sqlite"),
        },
    )
    spool = json.loads(status.stdout)["spool"]
    assert spool["accepted"] == len(events(tmp_path, "poll"))
    assert spool["accepted"] == spool["pending"] + spool["waiting"]
    assert "edge-token" not in (tmp_path / "edge.log").read_text()


async def test_prometheus_is_answered_by_one_daemon_and_a_second_on_its_port_is_one_line(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    nobody, port = free_ports(2)
    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1)
    (tmp_path / "second").mkdir()
    more = {"METRICS_PORT": str(port)}
    async with InverterSimulator({1: inverter}) as simulator, httpx.AsyncClient(timeout=PATIENCE_S) as client:
        unit, ca = simulator.port, tls_files.ca
        with edge(tmp_path, inverter_port=unit, ca=ca, server_port=nobody, **more) as child:
            await until("a poll", tmp_path, "poll", child)
            answer = await client.get(f"http://127.0.0.1:{port}/metrics")
            second = await anyio.run_process(
                python("reference_edge", "run"),
                env=variables(tmp_path / "second", inverter_port=unit, ca=ca, server_port=nobody) | more,
                check=False,
            )
            assert await anyio.to_thread.run_sync(child.stop, 60.0)
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    accepted, *_ = families["sungrow_edge_polls"].samples
    assert accepted.labels == {"device_id": "roof", "outcome": "accepted"}
    assert accepted.value >= 1
    [power] = families["sungrow_pv_power_w"].samples
    assert power.labels == {"device_id": "roof"}
    assert second.returncode == 2
    [line] = second.stderr.decode().splitlines()
    assert line.startswith(f"sungrow-edge: METRICS_PORT: port {port} on 127.0.0.1 cannot be used")
    assert not list((tmp_path / "second").glob("spool.sqlite")), "it looks before it begins"


async def test_what_it_learnt_is_beside_the_spool_and_used_by_the_next_start(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    [nobody] = free_ports(1)
    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1)
    async with InverterSimulator({1: inverter}, profile=Profile.WINET_S) as simulator:
        for _ in range(2):
            (tmp_path / "edge.log").unlink(missing_ok=True)
            before = sum(request.refused is not None for request in simulator.requests)
            with edge(tmp_path, inverter_port=simulator.port, ca=tls_files.ca, server_port=nobody) as child:
                await until("two polls", tmp_path, "poll", child, 2)
            after = sum(request.refused is not None for request in simulator.requests)
        refused = [request.block for request in simulator.requests if request.refused is not None]
        assert len(refused) == len(set(refused))
        assert 0 < before <= after
    [notes] = (tmp_path / "sungrow-state").iterdir()
    assert len(json.loads(notes.read_text())["refused"]) == after


async def test_what_is_refused_is_one_line_and_told_by_status(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    [nobody] = free_ports(1)
    inverter = living_inverter("SG20RT", zone=ZoneInfo("UTC"), seed=1)
    async with InverterSimulator({1: inverter}, profile=Profile.WINET_S) as simulator:
        with edge(tmp_path, inverter_port=simulator.port, ca=tls_files.ca, server_port=nobody) as child:
            await until("a refusal", tmp_path, "refused", child)
            polls = len(events(tmp_path, "poll"))
            await until("two more polls", tmp_path, "poll", child, polls + 2)
            assert await anyio.to_thread.run_sync(child.stop, 60.0)
    [refused] = events(tmp_path, "refused")
    assert refused["level"] == "info"
    assert refused["registers"] == ["input 7013 (string_1_current and 3 more)"]
    assert refused["fields"] == ["string_current_a"]
    environment = variables(tmp_path, inverter_port=simulator.port, ca=tls_files.ca, server_port=nobody)
    status = await anyio.run_process(python("reference_edge", "status"), env=environment)
    words = "missing, as the inverter refuses it: string_current_a; input 7013 (string_1_current and 3 more)"
    assert f"roof: {words}" in status.stdout.decode().splitlines()
    told = await anyio.run_process(python("reference_edge", "status", "--json"), env=environment)
    assert json.loads(told.stdout)["daemon"]["polls"]["roof"]["refused"]["fields"] == ["string_current_a"]


async def test_a_dead_inverter_is_a_reason_in_the_log_not_an_end(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    nobody, nowhere = free_ports(2)
    with edge(tmp_path, inverter_port=nobody, ca=tls_files.ca, server_port=nowhere) as child:
        await until("a poll", tmp_path, "poll", child)
        child.require_running()
    [poll, *_] = events(tmp_path, "poll")
    assert poll["outcome"] == "silent"
    assert f"127.0.0.1:{nobody}" in str(poll["reason"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"CA_FILE": "/none/ca.pem"}, "/none/ca.pem"),
        ({"SPOOL_PATH": "/etc/passwd/spool.sqlite"}, "/etc/passwd"),
        ({"DEVICE_TOKEN": "", "DEVICE_TOKEN_FILE": ""}, "DEVICE_TOKEN"),
    ],
)
async def test_what_cannot_work_is_one_line(
    tmp_path: Path, tls_files: CertificateFiles, wrong: dict[str, str], said: str
) -> None:
    with edge(tmp_path, inverter_port=1, ca=tls_files.ca, server_port=1, **wrong) as child:
        await anyio.to_thread.run_sync(
            lambda: wait_until("its end", lambda: child.exit_status is not None, timeout_s=PATIENCE_S)
        )
    assert child.exit_status in {1, 2}
    lines = [line for line in (tmp_path / "edge.log").read_text().splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("sungrow-edge: ")
    assert said in lines[0]


async def test_check_tries_every_part(tmp_path: Path, tls_files: CertificateFiles) -> None:
    nobody, nowhere = free_ports(2)
    done = await anyio.run_process(
        python("reference_edge", "check"),
        env=variables(tmp_path, inverter_port=nobody, ca=tls_files.ca, server_port=nowhere),
        check=False,
    )
    assert done.returncode == 1
    said = done.stdout.decode().splitlines()
    assert [line.split(":")[0] for line in said] == [
        "ok    settings",
        "ok    spool",
        "ok    disk",
        "ok    locks",
        "ok    notes",
        "ok    authority",
        "FAIL  server",
        "FAIL  roof",
    ]
    assert done.stderr == b""


async def test_check_beside_the_daemon_says_what_that_says(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1)
    health = tmp_path / "spool.sqlite.health.json"

    def has_polled() -> bool:
        return health.exists() and bool(json.loads(health.read_text())["polls"])

    async with InverterSimulator({1: inverter}) as simulator:
        with edge(tmp_path, inverter_port=simulator.port, ca=tls_files.ca, server_port=1) as child:
            await anyio.to_thread.run_sync(
                lambda: wait_until("a poll", has_polled, timeout_s=PATIENCE_S, watched=[child])
            )
            done = await anyio.run_process(
                python("reference_edge", "check"),
                env=variables(tmp_path, inverter_port=simulator.port, ca=tls_files.ca, server_port=1),
                check=False,
            )
            pid = json.loads(health.read_text())["pid"]
    said = done.stdout.decode().splitlines()[-1]
    assert said.startswith(f"ok    roof: the daemon (process {pid}) polls it, last at 20")


@pytest.mark.parametrize(
    ("process", "polls", "words"),
    [
        pytest.param(1, {}, "is being read", id="another program"),
        pytest.param(os.getpid(), {}, "has not polled roof yet", id="not polled yet"),
        pytest.param(
            os.getpid(),
            {"roof": {"at": "2026-06-01T10:00:00.000Z", "outcome": "silent", "reason": "no answer in 5 s"}},
            r"last at 2026-06-01T10:00:00.000Z: silent, no answer in 5 s",
            id="no reading",
        ),
    ],
)
async def test_check_fails_for_a_device_in_use_that_brings_no_reading(
    tmp_path: Path, process: int, polls: dict[str, object], words: str
) -> None:
    health = tmp_path / "health.json"
    now = datetime.now(UTC).isoformat()
    report = {"pid": os.getpid(), "written_at": now, "version": "1", "polls": polls}
    health.write_text(json.dumps(report | {"connections": {}, "upload": {}, "alarms": []}))
    busy = DeviceBusyError("it is being read", process=process)
    with pytest.raises(DeviceError, match=words):
        _said_by_daemon(busy, [DeviceSettings(device_id="roof", host="192.168.1.20")], health)


def test_sleep_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    settings = EdgeSettings.model_construct(server_url="https://localhost", sungrow_lock_dir=None)
    device = DeviceSettings(device_id="roof", host="192.168.1.20")
    intake = Intake({"roof": DeviceAccount("roof", "192.168.1.20:502")})
    station = Station([device], settings, intake, cast("BatchUploader", None))
    silent = Reading(device_id="roof", outcome=Outcome.SILENT, state=ConnectionState.BACKING_OFF)
    asleep = replace(silent, state=ConnectionState.ASLEEP)
    sample = SungrowSample(device_id="roof", ts=datetime.now(UTC).replace(microsecond=0))
    awake = replace(silent, state=ConnectionState.IDLE, sample=sample)
    with caplog.at_level("INFO", "sungrow_edge"):
        for reading in (awake, silent, asleep, asleep, silent, asleep, awake, awake):
            station._watch_sleep(reading)
    assert [record.message for record in caplog.records] == ["asleep", "awake"]
