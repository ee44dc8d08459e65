"""The command line: tokens, devices, history in and out, and its answers to wrong use."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import PIPE
from time import sleep
from typing import Any

import psycopg
import pytest

from reference_server.administration import erase_device, set_device
from reference_server.cli import main
from reference_server.ending import interruptible
from reference_server.openapi import document
from reference_server.operations import OPERATIONS
from sungrow_lib.errors import UsageError
from sungrow_lib.sample import SungrowSample, format_ts
from tests.server.conftest import Api, sample

_WAITING = """
SELECT FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND (SELECT count(*) FROM samples) = 2000
"""


@pytest.fixture
def configured(migrated: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DATABASE_URL", migrated)
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    return migrated


def _output(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip()


def test_the_life_of_a_token(configured: str, capsys: pytest.CaptureFixture[str]) -> None:
    create = ["token", "create", "--label", "roof", "--scope", "ingest", "--device", "roof-1"]
    assert main([*create, "--expires", "2099-01-01T00:00:00Z"]) == 0
    secret = _output(capsys)
    assert secret.startswith("sgw_")
    assert main(["token", "list"]) == 0
    listed = _output(capsys)
    assert "roof-1" in listed
    assert secret not in listed
    assert main(["token", "rotate", "1", "--overlap", "60"]) == 0
    assert _output(capsys) != secret
    assert main(["token", "log"]) == 0
    log = _output(capsys)
    assert "roof scopes=ingest devices=roof-1 expires=2099-01-01T00:00:00.000Z" in log
    assert "successor 2, ends 20" in log
    assert main(["token", "revoke", "1"]) == 0
    _output(capsys)
    assert main(["token", "list", "--json"]) == 0
    new, old = json.loads(_output(capsys))
    assert old["revoked_at"] is not None
    assert (new["revoked_at"], new["scopes"], new["devices"]) == (None, ["ingest"], ["roof-1"])
    with psycopg.connect(configured) as connection:
        actions = connection.execute("SELECT token, action FROM token_audit ORDER BY entry").fetchall()
    assert actions == [(1, "created"), (1, "rotated"), (2, "created"), (1, "revoked")]


def test_devices(configured: str, capsys: pytest.CaptureFixture[str]) -> None:
    change = ["--name", "Roof", "--timezone", "Europe/Amsterdam", "--poll-interval", "10"]
    assert main(["device", "set", "roof-1", *change]) == 0
    assert "roof-1 was not known until now" in capsys.readouterr().err
    assert main(["device", "set", "roof-1", "--plant", "Home"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("roof-1 is set\n", "")
    assert main(["device", "list", "--json"]) == 0
    [device] = json.loads(_output(capsys))
    assert (device["name"], device["plant"], device["timezone"]) == ("Roof", "Home", "Europe/Amsterdam")
    assert main(["device", "restore", "roof-1"]) == 0
    assert _output(capsys) == "roof-1 is not deleted; nothing is changed"
    assert main(["device", "delete", "roof-1"]) == 0
    assert _output(capsys) == "roof-1 is deleted; its readings stay stored"
    assert main(["device", "delete", "roof-1"]) == 0
    assert _output(capsys) == "roof-1 is deleted already; nothing is changed"
    assert main(["device", "list"]) == 0
    assert _output(capsys) == "none"
    assert main(["device", "set", "roof-1", "--plant", "Home"]) == 0
    assert "roof-1 is deleted; device restore" in capsys.readouterr().err
    assert main(["device", "restore", "roof-1"]) == 0
    with psycopg.connect(configured) as connection:
        assert connection.execute("SELECT deleted_at FROM devices").fetchall() == [(None,)]
    _output(capsys)
    assert main(["device", "log", "--json"]) == 0
    actions = [(entry["device_id"], entry["action"]) for entry in json.loads(_output(capsys))]
    assert actions == [("roof-1", action) for action in ("restored", "set", "deleted", "set", "set")]


@pytest.mark.anyio
@pytest.mark.parametrize(("zone", "named"), [("", "an empty name"), ("Mars/Phobos", "Mars/Phobos")])
async def test_what_is_no_time_zone_is_named(zone: str, named: str) -> None:
    with pytest.raises(UsageError, match=f"^{named} is no time zone; use one such as Europe/Berlin$"):
        await set_device("", "sh-1", name=None, plant=None, timezone=zone, poll_interval_s=None)


@pytest.mark.anyio
@pytest.mark.parametrize("field", ["name", "plant"])
@pytest.mark.parametrize("text", ["", "  "])
async def test_an_empty_name_is_refused(field: str, text: str) -> None:
    names = {"name": None, "plant": None} | {field: text}
    with pytest.raises(
        UsageError, match=f"^the {field} must not be empty; without --{field} it stays as it is$"
    ):
        await set_device("", "sh-1", **names, timezone=None, poll_interval_s=None)


def test_a_name_from_elsewhere_keeps_to_its_line(configured: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "set", "roof-1", "--name", "Roof"]) == 0
    with psycopg.connect(configured) as connection:  # as an edge may have called it
        connection.execute("UPDATE devices SET name = E'Roof\n\x1b[2J'")
    _output(capsys)
    assert main(["device", "list"]) == 0
    assert "Roof  [2J" in _output(capsys).splitlines()[1]


_ABOUT_DEVICES = """
SELECT table_name FROM information_schema.columns
WHERE table_schema = 'public' AND column_name = 'device' AND table_name <> 'device_settings'
"""


@pytest.mark.anyio
async def test_an_erased_device_leaves_nothing_but_its_name(api: Api) -> None:
    described = {
        "timezone": "Europe/Paris", "poll_interval_s": 7, "name": "Roof", "plant": "home", "model": "SH10RT",
        "serial": "A1", "firmware": "F1",
    }  # fmt: skip
    await api.ingest(sample(0, "sh-2", pv_power_w=2))
    await api.ingest(sample(0, "sh-1", pv_power_w=1, pv_total_kwh=5), edge_id="e1", device=described)
    nowhere = {"timezone": "Mars/Phobos"}
    await api.ingest(sample(0, "sh-1", pv_power_w=3), device=nowhere)  # a conflict, kept aside
    await api.ingest(sample(5, "sh-1", pv_total_kwh=2))  # a break
    await set_device(api.dsn, "sh-1", name="Roof", plant="home", timezone="Europe/Berlin", poll_interval_s=9)
    await set_device(api.dsn, "sh-2", name="Shed", plant=None, timezone=None, poll_interval_s=None)
    await api.server.refresher.refresh_all()
    await api.ingest(sample(9, "sh-1"))  # a mark waits
    kept = "ARRAY['device', 'device_id', 'created_at']"
    said = f"SELECT to_jsonb(d) - {kept} FROM devices d WHERE device_id = 'sh-1'"
    [(before,)] = api.rows(said)
    assert [name for name, value in before.items() if value is None] == ["deleted_at"]
    assert await erase_device(api.dsn, "sh-1") == 3
    [(after,)] = api.rows(said)
    assert [name for name, value in after.items() if value is not None] == ["deleted_at"]
    devices = dict(api.rows("SELECT device_id, device FROM devices"))
    tables = {table for (table,) in api.rows(_ABOUT_DEVICES)} - {"devices"}
    assert tables > {"samples", "rollup_15m", "rollup_day", "kept_aside", "edges", "samples_daily"}
    for table in sorted(tables):
        left = api.rows(f"SELECT DISTINCT device FROM {table}")
        assert devices["sh-1"] not in {device for (device,) in left}, table
    assert api.rows("SELECT device, pv_power_w FROM samples") == [(devices["sh-2"], 2)]
    assert api.rows("SELECT device_id, action, detail FROM device_audit ORDER BY entry") == [
        ("sh-1", "set", None),
        ("sh-2", "set", "name=Shed"),
        ("sh-1", "erased", "3 readings"),
    ]
    api.server.devices.forget("sh-1")  # what any process remembers for less than a second
    answer = await api.ingest(sample(0, "sh-1", pv_power_w=1))
    assert answer["deferred"][0]["code"] == "device_deleted"


@pytest.mark.parametrize("how", ["delete", "erase"])
def test_nothing_is_imported_into_a_deleted_device(
    configured: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, how: str
) -> None:
    file = tmp_path / "history.csv"
    file.write_text("ts,pv_power_w\n2026-01-31T10:00:00.000Z,5\n")
    load = ["import", str(file), "--device", "roof-1"]
    assert main(["device", "set", "roof-1", "--name", "Roof"]) == 0
    assert main(["device", how, "roof-1", *(["--yes"] if how == "erase" else [])]) == 0
    _output(capsys)
    assert main(load) == 1
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert "roof-1 is deleted" in said.err
    with psycopg.connect(configured) as connection:
        assert connection.execute("SELECT count(*) FROM samples").fetchall() == [(0,)]
    assert main(["device", "restore", "roof-1"]) == 0
    assert main(load) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["token", "revoke", "7"],
        ["token", "rotate", "7"],
        ["token", "create", "--label", "x", "--scope", "read", "--device", "a b"],
        ["token", "create", "--scope", "read", "--expires", "2020-01-01T00:00:00Z"],
        ["device", "set", "a/b", "--name", "x"],
        ["device", "set", "roof-1"],
        ["device", "set", "roof-1", "--timezone", "Mars/Phobos"],
        ["device", "set", "roof-1", "--poll-interval", "-1"],
        ["device", "delete", "nobody"],
        ["device", "erase", "nobody"],
        ["device", "erase", "nobody", "--yes"],
        ["export", "--device", "nobody"],
        ["import", "/nonexistent.csv", "--device", "roof-1"],
        ["--config", "/nonexistent.toml", "migrate"],
    ],
)
@pytest.mark.usefixtures("configured")
def test_wrong_use_is_one_line_and_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("sungrow-server: ")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["token", "rotate", "1", "--overlap", "-5"], "argument --overlap: must be a number of seconds"),
        (["device", "set", "x", "--name", "Roof\n2"], "argument --name: must be one line without control"),
        (["device", "set", "x", "--plant", "\x1b[2J"], "argument --plant: must be one line without control"),
        (["export", "--device", "x", "--from", "yesterday"], "argument --from: must be RFC 3339"),
    ],
)
def test_a_wrong_argument_is_named_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1


def test_no_database_is_one_line_and_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "host=/nonexistent password=secret")
    for command in (["migrate"], ["device", "list"]):
        assert main(command) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("sungrow-server: the database cannot be used now")
        assert error.endswith("check DATABASE_URL and that PostgreSQL runs")
        assert "secret" not in error


def _history(folder: Path, first: datetime, count: int) -> Path:
    lines = ["ts,interval_s,pv_power_w,pv_total_kwh,running_state,mppt_voltage_v"]
    lines += [
        f'{format_ts(first + timedelta(minutes=15 * i))},900,{i},{100 + i / 10:.1f},Run,"[1.5,null,{i % 9}]"'
        for i in range(count)
    ]
    file = folder / "history.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_history_in_and_out(configured: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=2)
    file = _history(tmp_path, first, 100)
    load = ["import", str(file), "--device", "roof-1", "--source", "simulated"]
    assert main(load) == 0
    assert _output(capsys) == "imported 100, known 0, kept aside 0"
    assert main(load) == 0
    assert _output(capsys) == "imported 0, known 100, kept aside 0"
    with psycopg.connect(configured) as connection:
        [(count, flags)] = connection.execute("SELECT count(*), min(flags) FROM samples").fetchall()
        [(covered,)] = connection.execute("SELECT sum(covered_ms) FROM rollup_day").fetchall()
        ranges = connection.execute("SELECT source, from_ts, row_count FROM import_ranges").fetchall()
        assert connection.execute("SELECT count(*) FROM rollup_marks").fetchall() == [(0,)]
    assert (count, flags, covered) == (100, 2, 100 * 900_000)
    assert ranges == [("simulated", first, 100), ("simulated", first, 0)]
    begin = format_ts(first + timedelta(minutes=15))
    assert main(["export", "--device", "roof-1", "--from", begin]) == 0
    lines = _output(capsys).splitlines()
    assert len(lines) == 99
    assert SungrowSample.model_validate_json(lines[0]) == SungrowSample(
        device_id="roof-1",
        ts=first + timedelta(minutes=15),
        interval_s=900,
        pv_power_w=1,
        pv_total_kwh=100.1,
        running_state="Run",
        mppt_voltage_v=[1.5, None, 1],
    )


def test_history_behind_the_horizon_gets_rollups_only_where_there_are_none(
    configured: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = datetime(2020, 6, 1, tzinfo=UTC)
    file = _history(tmp_path, first, 10)
    assert main(["import", str(file), "--device", "roof-1"]) == 0
    passing = "of 10 only rollups will stay, so old they are (RAW_RETENTION_DAYS)"
    assert _output(capsys) == f"imported 10, known 0, kept aside 0; {passing}"
    assert main(["import", str(file), "--device", "roof-1"]) == 0
    assert _output(capsys) == "imported 0, known 10, kept aside 0"  # what is stored is no other value
    late = tmp_path / "late.csv"
    late.write_text(f"ts,pv_power_w\n{format_ts(first + timedelta(minutes=1))},9\n")
    assert main(["import", str(late), "--device", "roof-1"]) == 0
    told = (
        "imported 0, known 0, kept aside 1 (1 behind the retention horizon, where rollups stay as they are)"
    )
    assert _output(capsys) == told
    with psycopg.connect(configured) as connection:
        assert connection.execute("SELECT sum(sample_count) FROM rollup_day").fetchall() == [(10,)]


def _capture(file: Path, function: int, registers: dict[str, int], ts: str | None, **more: str) -> str:
    document = {"model": "SH10RT", "function": function, "registers": registers, "ts": ts} | more
    file.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
    return str(file)


def test_captures_become_readings(
    configured: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ts = "2026-01-31T10:00:00.000Z"
    files = [
        _capture(tmp_path / "later.json", 4, {"13023": 870}, "2026-01-31T10:00:05.000Z"),
        _capture(tmp_path / "input.json", 4, {"5017": 4321, "5018": 0}, ts, device_id="elsewhere"),
        _capture(tmp_path / "more.json", 4, {"13023": 873}, ts),
    ]
    assert main(["import", *files, "--device", "roof-1"]) == 0
    assert _output(capsys) == "imported 2, known 0, kept aside 0"
    assert main(["import", *files, "--device", "roof-1"]) == 0
    assert _output(capsys) == "imported 0, known 2, kept aside 0"
    assert main(["export", "--device", "roof-1"]) == 0
    first, second = map(json.loads, _output(capsys).splitlines())
    assert (first["ts"], first["pv_power_w"], first["battery_soc_pct"]) == (ts, 4321, 87.3)
    assert (second.get("pv_power_w"), second["battery_soc_pct"]) == (None, 87)
    with psycopg.connect(configured) as connection:
        ranges = connection.execute("SELECT DISTINCT source FROM import_ranges").fetchall()
    assert ranges == [("capture",)]


@pytest.mark.parametrize(
    ("captures", "message"),
    [
        ([{"function": 4, "registers": {"13023": 1}, "model": "SH10RT"}], "does not say when it was read"),
        ([{"function": 4, "registers": {"13023": 1}, "ts": "2026-01-31T10:00:00.000Z"}], 'add "model": "'),
        (
            [{"function": 4, "registers": {}, "ts": "2026-01-31T10:00:00.000Z", "model": "SH10RT"}],
            "make a capture of all with sungrow dump HOST",
        ),
        (
            [{"function": 4, "registers": {"13023": 1}, "ts": "2999-01-31T10:00:00.000Z", "model": "SH10RT"}],
            "lies in the future",
        ),
        (
            [
                {"function": 4, "registers": {"13023": n}, "ts": "2026-01-31T10:00:00Z", "model": "SH10RT"}
                for n in (1, 2)
            ],
            "0.json, ",
        ),
        ([[]], "not a capture"),
    ],
)
def test_a_wrong_capture_is_one_line_and_stores_nothing(
    configured: str, tmp_path: Path, captures: list[object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / f"{number}.json" for number in range(len(captures))]
    for file, capture in zip(files, captures, strict=True):
        file.write_text(json.dumps(capture))
    assert main(["import", *map(str, files), "--device", "roof-1"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    with psycopg.connect(configured) as connection:
        assert connection.execute("SELECT count(*) FROM samples").fetchall() == [(0,)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pv_power_w\n1\n", "no column ts"),
        ("", "no column ts"),
        ("ts,power\n", "'power' is not a field"),
        ("ts,pv_power_w\n2026-01-01T00:00:00Z,many\n", "line 2: pv_power_w"),
        ("ts,pv_power_w\n2026-01-01T00:00:00Z,1\nyesterday,1\n", "line 3: ts"),
        ("ts,pv_power_w\n2026-01-01T00:00:00Z\n", "line 2: has another number of cells"),
        ("ts,pv_power_w\n2026-01-01T00:00:00Z,1,2\n", "line 2: has another number of cells"),
        ("ts,pv_power_w,pv_power_w\n2026-01-01T00:00:00Z,1,2\n", "pv_power_w is named twice"),
        (
            "device_id,ts\nroof-1,2026-01-01T00:00:00Z\nroof-2,2026-01-01T00:00:05Z\n",
            "line 3: device_id: is a reading of 'roof-2', not of roof-1",
        ),
        ('ts,running_state,pv_power_w\n\n2026-01-01T00:00:00Z,"Run,1\n', "line 3: has another number"),
        ("x" * 9_000 + "\n", f"'{'x' * 40}'... is not a field"),
        ('{"ts":"2026-01-01T00:00:00Z"}\n{', "line 2: is no JSON object"),
        ('{"ts":"2026-01-01T00:00:00Z"}\n\n[]\n', "line 3: is no JSON object"),
        ('{"pv_power_w":1}\n', "line 1: ts: is missing"),
        ('{"ts":"2026-01-01T00:00:00Z","newer":1e999}\n', "line 1: newer: must hold finite numbers"),
    ],
)
def test_a_wrong_file_is_one_line_and_stores_nothing(
    configured: str, tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.csv"
    file.write_text(text)
    assert main(["import", str(file), "--device", "roof-1"]) == 2
    assert message in capsys.readouterr().err
    with psycopg.connect(configured) as connection:
        assert connection.execute("SELECT count(*) FROM samples").fetchall() == [(0,)]


def test_an_import_takes_what_a_spreadsheet_writes(
    configured: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del configured
    file = tmp_path / "sheet.csv"
    file.write_bytes(b"\xef\xbb\xbfdevice_id,ts,pv_power_w\r\nroof-1,2026-01-01T00:00:00Z,1\r\n\r\n")
    assert main(["import", str(file), "--device", "roof-1"]) == 0
    assert _output(capsys) == "imported 1, known 0, kept aside 0"


@pytest.mark.one_engine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_import_that_is_interrupted_says_what_is_stored(
    configured: str, tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=60)
    load = ["import", str(_history(tmp_path, first, 4_500)), "--device", "roof-1"]
    with psycopg.connect(configured) as holding, psycopg.connect(configured, autocommit=True) as looking:
        holding.execute("INSERT INTO devices (device_id) VALUES ('roof-1')")
        holding.commit()
        hold = "INSERT INTO samples (device, ts) SELECT device, %s FROM devices"
        held = first + timedelta(minutes=15 * 3_000)
        holding.execute(hold, [held])
        holding.execute("DELETE FROM samples")
        holding.commit()  # a chunk that is being made would hold up the first part
        holding.execute(hold, [held])  # the second part waits, as nobody knows whether this row comes
        program = [sys.executable, "-m", "reference_server", *load]
        with subprocess.Popen(program, stdout=PIPE, stderr=PIPE, text=True) as process:
            while not looking.execute(_WAITING).fetchall():
                assert process.poll() is None, process.stderr and process.stderr.read()
                sleep(0.05)
            process.send_signal(number)
            said, complaint = process.communicate()
        holding.rollback()
    assert (process.returncode, said) == (1, "")
    assert complaint.splitlines(keepends=True)[-1] == (  # a slow machine is told how far it is before that
        "sungrow-server: interrupted before it was done; the first 2000 rows are stored (imported 2000, "
        "known 0, kept aside 0): import the same again, and it goes on from there\n"
    )
    assert main(load) == 0
    assert _output(capsys) == "imported 2500, known 2000, kept aside 0"


_ANNOUNCED = """
SELECT FROM pg_locks JOIN pg_database d ON d.oid = database
WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""


@pytest.mark.one_engine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("count", [0, 3_000])
def test_an_import_that_waits_for_its_input_ends_at_once(
    configured: str, number: signal.Signals, count: int
) -> None:
    begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=60)
    lines = [f"{format_ts(begin + timedelta(minutes=n))},{n}" for n in range(count)]
    program = [sys.executable, "-m", "reference_server", "import", "-", "--device", "roof-1"]
    with (
        psycopg.connect(configured, autocommit=True) as looking,
        subprocess.Popen(program, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as process,
    ):
        assert process.stdin is not None
        process.stdin.write("\n".join(["ts,pv_power_w", *lines, ""]))
        process.stdin.flush()
        # One that waits for its first row has told other sessions that it is there, and nothing else.
        stored = "SELECT FROM samples" if count else _ANNOUNCED
        while not looking.execute(stored.encode()).fetchall():
            assert process.poll() is None
            sleep(0.05)
        process.send_signal(number)  # whoever writes to it has not closed it, and says nothing more
        said, complaint = _told(process)
    assert (process.returncode, said) == (1, "")
    assert complaint.startswith("sungrow-server: interrupted before it was done")
    assert complaint.count("\n") == 1
    assert ("the first 2000 rows are stored" in complaint) == bool(count)


def test_an_interrupt_a_moment_before_an_import_waits_for_its_input_is_not_missed() -> None:
    """The loop only notes it, for its next turn."""

    async def reads() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with interruptible():
            pytest.fail("it waits for input")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(reads())


def _told(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it said until it ended, while its input stays open."""
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdout.read(), process.stderr.read()


def test_an_import_for_what_cannot_name_a_device_is_wrong_use(
    configured: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del configured
    assert main(["import", str(tmp_path / "any.csv"), "--device", "the roof"]) == 2
    assert "'the roof' cannot name a device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["device", "set", "roof", "--name", "\udcff"], "--name: must be UTF-8 text"),
        (["device", "set", "roof", "--plant", "\udcff"], "--plant: must be UTF-8 text"),
        (["token", "create", "--scope", "read", "--label", "\udcff"], "--label: must be UTF-8 text"),
        (["import", "-", "--device", "roof", "--source", "\udcff"], "--source: must be UTF-8 text"),
        (["device", "set", "roof", "--plant", "p" * 129], "plant: must have at most 128 characters"),
        (["device", "set", "roof", "--name", "n" * 129], "name: must have at most 128 characters"),
    ],
)
def test_a_name_that_is_no_text_or_too_long_to_ask_for_is_wrong_use(
    configured: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    del configured
    try:
        code: Any = main(words)
    except SystemExit as stopped:
        code = stopped.code
    assert (code, message in capsys.readouterr().err) == (2, True)


def test_the_document_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["openapi"]) == 0
    assert json.loads(_output(capsys)) == document(OPERATIONS)


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "examples:" in _output(capsys)


@pytest.mark.parametrize("url", ["mysql://a:secret-password@b/c", "nonsense secret-password"])
def test_what_is_no_address_is_named_but_never_shown(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    for command in ("migrate", "run"):
        assert main([command]) == 2
        error = capsys.readouterr().err
        assert error.startswith("sungrow-server: DATABASE_URL: is not an address of PostgreSQL")
        assert "secret-password" not in error


def test_an_unknown_log_level_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere/none")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    assert main(["migrate"]) == 2
    assert capsys.readouterr().err.startswith("sungrow-server: LOG_LEVEL: ")


def test_migrate_says_that_timescaledb_is_there_and_not_used(
    any_database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", any_database)
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    with psycopg.connect(any_database, autocommit=True) as connection:
        connection.execute("DROP EXTENSION IF EXISTS timescaledb")
        found = connection.execute("SELECT FROM pg_available_extensions WHERE name = 'timescaledb'")
        is_there = bool(found.fetchall())
    assert main(["migrate"]) == 0
    assert ("CREATE EXTENSION timescaledb" in capsys.readouterr().err) == is_there
    if is_there:
        with psycopg.connect(any_database, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION timescaledb")
        assert main(["migrate"]) == 0
        said = capsys.readouterr()
        assert "timescale/" in said.out
        assert "CREATE EXTENSION" not in said.err


def test_an_export_whose_span_ends_before_it_begins_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere")
    span = ["--from", "2026-02-01T00:00:00Z", "--to", "2026-01-01T00:00:00Z"]
    assert main(["export", "--device", "roof", *span]) == 2
    assert capsys.readouterr() == ("", "sungrow-server: --from is later than --to\n")
