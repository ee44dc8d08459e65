# ruff: noqa: ASYNC240 - nothing else runs on these loops
"""`sungrow-edge spool` on real spools; as processes of their own beside a running writer."""

from __future__ import annotations

import io
import json
import sqlite3
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

from reference_edge.cli import main
from sungrow_lib.demo.certificates import make_certificates
from sungrow_lib.demo.processes import Child, python, wait_until
from sungrow_lib.demo.setup import clean_environment, free_ports
from sungrow_lib.errors import SpoolCorruptError
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool, HeldWhy, Judged, Settlement, SpoolOptions
from sungrow_lib.spool.holding import hold
from tests.patience import PATIENCE_S
from tests.spool.test_holding import append, opened

START = datetime(2026, 6, 1, 12, tzinfo=UTC)


def spool_command(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in this process: starting one takes longer than all it does."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setattr("sys.stdin", io.StringIO(text))
        try:
            status = main(["spool", *words])
        except SystemExit as end:
            status = int(end.code or 0)
    return subprocess.CompletedProcess(words, status, output.getvalue(), errors.getvalue())


def spool_process(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        python("reference_edge", "spool", *words),
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


async def make(path: Path) -> None:
    async with DurableSpool.open(path) as spool:
        for number in range(30):
            sample = SungrowSample(
                device_id="roof" if number % 3 else "garage",
                ts=START + timedelta(seconds=5 * number),
                pv_power_w=number,
            )
            await spool.append(sample, ts_is_final=True)
        await spool.offer("roof", 30)
        settlement = Settlement(
            delivered=[2, 3, 5],
            rejected=[Judged(6, "invalid", "too hot"), Judged(8, "unknown_field", "what is that")],
            conflicts=[Judged(9, "different_value", "another one is stored")],
        )
        await spool.settle("roof", settlement)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / "spool.sqlite"
    anyio.run(make, path)
    return path


def test_stats_count_by_device_and_reason(spool: Path) -> None:
    done = spool_command("stats", "--spool", str(spool), "--json")
    stats = json.loads(done.stdout)
    assert stats["devices"]["roof"] == {
        "pending": 14,
        "waiting": 0,
        "deferred": 0,
        "rejected": 2,
        "delivered": 3,
        "conflicts": 1,
    }
    assert stats["last_seq"] == 30
    assert {"device_id": "roof", "state": "rejected", "code": "invalid", "readings": 1} in stats["set_apart"]
    said = spool_command("stats", "--spool", str(spool)).stdout
    assert "garage: 10 pending\n" in said
    assert f": {stats['bytes'] / 1000:.0f} kB, last number 30\n" in said
    assert "1 conflict because of different_value" in said


def test_list_filters_and_pages(spool: Path) -> None:
    done = spool_command("list", "--spool", str(spool), "--state", "quarantine", "--limit", "2")
    first, second = done.stdout.splitlines()
    assert first.startswith("6  roof  2026-06-01T12:00:25.000Z  rejected  since ")
    assert first.endswith("invalid: too hot")
    assert second.startswith("8  ")
    rest = spool_command(
        "list", "--spool", str(spool), "--state", "quarantine", "--after", "8", "--json", "--device", "roof"
    )
    [line] = rest.stdout.splitlines()
    assert json.loads(line)["content"] == {"pv_power_w": 8}


def test_export_and_import_by_file_and_by_pipe(spool: Path, tmp_path: Path) -> None:
    file, copy, again = (str(tmp_path / name) for name in ("all.ndjson", "copy.sqlite", "again.sqlite"))
    assert spool_command("export", file, "--spool", str(spool)).returncode == 0
    done = spool_command("import", file, "--spool", copy, "--json")
    assert json.loads(done.stdout)["imported"] == 30
    piped = spool_command("export", "--spool", copy).stdout
    assert piped.splitlines()[1:] == Path(file).read_text().splitlines()[1:]
    assert "30 readings imported" in spool_command("import", "-", "--spool", again, text=piped).stdout
    assert "0 readings imported, 30 were here" in spool_command("import", file, "--spool", again).stdout
    refused = spool_command("export", file, "--spool", str(spool))
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "is there already" in refused.stderr


def test_what_another_edge_holds_joins_no_device_that_is_held_here(tmp_path: Path) -> None:
    """Both have lost the name of one; it was not the same."""
    here, there = (tmp_path / name for name in ("here.sqlite", "there.sqlite"))
    for path, number in ((here, 1), (there, 2)):
        with closing(opened(path)) as store:
            append(store, "lost-device-1", number)
            append(store, "roof", number)
            store.change(lambda c: hold(c, "lost-device-1", HeldWhy.LOST))
            edge_id = store.identity.edge_id
    lines = spool_command("export", "--spool", str(there)).stdout
    for imported, known in ((2, 0), (0, 2)):
        done = spool_command("import", "-", "--spool", str(here), "--json", text=lines)
        result = json.loads(done.stdout)
        assert (result["imported"], result["known"], result["different"]) == (imported, known, [])
    stats = json.loads(spool_command("stats", "--spool", str(here), "--json").stdout)
    assert {name: held["undelivered"] for name, held in stats["held"].items()} == {
        "lost-device-1": 1,
        f"lost-device-1.{edge_id[:8]}": 1,
    }
    assert stats["devices"]["roof"]["pending"] == 2
    own = spool_command("export", "--spool", str(here)).stdout
    assert (
        "0 readings imported, 4 were here"
        in spool_command("import", "-", "--spool", str(here), text=own).stdout
    )


def test_a_damaged_export_changes_nothing(spool: Path, tmp_path: Path) -> None:
    whole = spool_command("export", "--spool", str(spool)).stdout
    for damaged in (whole[:-40], whole.replace('"pv_power_w":29', '"pv_power_w":"29"'), "\x00\x00", ""):
        target = tmp_path / "target.sqlite"
        done = spool_command("import", "-", "--spool", str(target), text=damaged)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert done.stderr.endswith("; nothing was imported\n")
        assert not target.exists()
    lines = whole.splitlines(keepends=True)
    cut_off = "".join(lines[:4]) + lines[4][:-40]
    done = spool_command("import", "-", "--spool", str(target), text=cut_off)
    assert done.stderr == (
        "sungrow-edge: the file ends in the middle of line 5: it was cut off; copy or export it anew, or "
        "leave this line out and use --partial; nothing was imported\n"
    )
    done = spool_command("import", "-", "--partial", "--spool", str(target), text="".join(lines[:4]))
    assert done.stdout.startswith("3 readings imported")
    target.unlink()
    cut_within = tmp_path / "cut"  # a character of two bytes
    cut_within.write_bytes("".join(lines[:4]).encode() + b'{"seq":5,"reason":"f\xc3')
    done = spool_command("import", str(cut_within), "--spool", str(tmp_path / "target.sqlite"))
    assert (done.returncode, len(done.stderr.splitlines()), "was cut off" in done.stderr) == (2, 1, True)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\xff")
    done = spool_command("import", str(binary), "--spool", str(tmp_path / "target.sqlite"))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_requeue_by_number_and_by_code(spool: Path) -> None:
    on_spool = ("--spool", str(spool))
    assert "1 readings are offered again" in spool_command("requeue", "6", *on_spool).stdout
    assert spool_command("requeue", "6", *on_spool).returncode == 1
    done = spool_command("requeue", "--all", "--code", "unknown_field", "--json", *on_spool)
    assert json.loads(done.stdout) == {"requeued": 1}
    left = spool_command("list", "--state", "quarantine", *on_spool).stdout.splitlines()
    assert [line.split()[0] for line in left] == ["9"]
    for wrong in ((), ("6", "--all"), ("6", "--device", "roof")):
        assert spool_command("requeue", *wrong, *on_spool).returncode == 2


def test_resend_offers_what_is_kept(spool: Path) -> None:
    done = spool_command("resend", "--device", "roof", "--spool", str(spool))
    assert done.stdout == "roof: 6 offered again\n"
    stats = json.loads(spool_command("stats", "--json", "--spool", str(spool)).stdout)
    assert stats["devices"]["roof"]["pending"] == 20
    wrong = spool_command("resend", "--device", "cellar", "--spool", str(spool))
    assert (wrong.returncode, "known: garage, roof" in wrong.stderr) == (2, True)


def test_verify_finds_damage(spool: Path) -> None:
    assert spool_command("verify", "--spool", str(spool)).returncode == 0
    content = bytearray(spool.read_bytes())
    content[3072:5120] = bytes(2048)
    spool.write_bytes(bytes(content))
    done = spool_command("verify", "--json", "--spool", str(spool))
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert not result["ok"]
    assert result["faults"]
    spool.write_bytes(content[:100] + b"rubbish" * 1000)
    done = spool_command("verify", "--spool", str(spool))
    assert (done.returncode, "damaged" in done.stdout, done.stderr) == (1, True, "")


def test_verify_of_what_never_was_a_spool_is_wrong_use(tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_bytes(b"rubbish" * 1000)
    done = spool_command("verify", "--spool", str(letter))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{letter} is no spool but some other file" in done.stderr
    assert letter.read_bytes() == b"rubbish" * 1000


@pytest.mark.parametrize("words", [("stats",), ("list",), ("export",), ("requeue", "--all"), ("verify",)])
def test_a_spool_that_is_not_there_is_one_line_and_is_not_made(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    path = tmp_path / "none.sqlite"
    done = spool_command(*words, "--spool", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"sungrow-edge: there is no spool at {path}")
    assert not path.exists()


def test_help_names_every_command_and_state() -> None:
    said = spool_command("--help").stdout
    for word in ("stats", "list", "export", "import", "requeue", "resend", "verify", "deferred", "conflict"):
        assert f"  {word} " in said


@pytest.mark.anyio
async def test_all_of_it_beside_a_running_writer(spool: Path, tmp_path: Path) -> None:
    done: list[str] = []
    async with anyio.create_task_group() as tasks, DurableSpool.open(spool) as writer:

        async def work() -> None:
            number = 0
            while True:
                number += 1
                ts = START + timedelta(days=1, seconds=number)
                await writer.append(
                    SungrowSample(device_id="roof", ts=ts, pv_power_w=number), ts_is_final=True
                )
                entries = await writer.offer("roof", 5)
                await writer.ack("roof", [entry.seq for entry in entries])
                await anyio.sleep(0.001)

        tasks.start_soon(work)
        for words in (
            ("export", str(tmp_path / "beside.ndjson")),
            ("import", str(tmp_path / "beside.ndjson")),
            ("resend",),
            ("requeue", "--all"),
            ("stats",),
            ("list",),
            ("verify",),
        ):
            result = await anyio.to_thread.run_sync(lambda w=words: spool_process(*w, "--spool", str(spool)))  # type: ignore[misc]
            assert (result.returncode, result.stderr) == (0, ""), words
            done.append(result.stdout)
        tasks.cancel_scope.cancel()
    assert "0 readings imported" in done[1]


def edge_environment(spool: Path) -> dict[str, str]:
    """Settings of an edge that reaches neither an inverter nor a server."""
    [nobody, nowhere] = free_ports(2)
    return clean_environment() | {
        "SERVER_URL": f"https://localhost:{nowhere}",
        "DEVICE_TOKEN": "edge-token-0123456789",
        "SUNGROW_HOST": "127.0.0.1",
        "SUNGROW_PORT": str(nobody),
        "DEVICE_ID": "roof",
        "SPOOL_PATH": str(spool),
        "SUNGROW_LOCK_DIR": str(spool.parent),
    }


@contextmanager
def _somebody(folder: Path) -> Iterator[dict[str, str]]:
    """Answer over TLS, though no ingest server does so; gives settings of an edge that sends there."""
    files = make_certificates(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield {"SERVER_URL": f"https://localhost:{server.server_port}", "CA_FILE": str(files.ca)}
        finally:
            server.shutdown()
            thread.join()


def test_a_running_daemon_recovers_whatever_met_the_damage(spool: Path, tmp_path: Path) -> None:
    """Here the uploader, and the check of the file, then as before, does not find it."""
    with closing(sqlite3.connect(spool)) as connection, connection:
        connection.execute(
            "CREATE TRIGGER other BEFORE UPDATE ON standing BEGIN SELECT RAISE(ABORT, 'no row here'); END"
        )
    assert spool_command("verify", "--spool", str(spool)).returncode == 0
    log = tmp_path / "log"
    with _somebody(tmp_path / "tls") as server:  # what is to be sent is noted first
        environment = edge_environment(spool) | server
        child = Child("the edge", python("reference_edge", "run"), log, environment=environment)
        try:
            wait_until("its new start", lambda: log.read_text().count('"started"') == 2, timeout_s=PATIENCE_S)
        finally:
            child.stop(60.0)
    assert log.read_text().count("damaged spool set aside") == 1
    assert spool_command("verify", "--spool", str(spool)).returncode == 0
    with closing(sqlite3.connect(spool)) as connection:
        assert connection.execute("SELECT count(*) FROM reading").fetchone() == (30,)


def test_the_daemon_runs_on_after_its_spool_was_damaged(spool: Path, tmp_path: Path) -> None:
    content = bytearray(spool.read_bytes())
    content[:1024] = bytes(1024)
    spool.write_bytes(bytes(content))
    environment = edge_environment(spool)
    child = Child("the edge", python("reference_edge", "run"), tmp_path / "log", environment=environment)
    try:
        wait_until("its start", lambda: '"started"' in (tmp_path / "log").read_text(), timeout_s=PATIENCE_S)
    finally:
        child.stop(60.0)
    assert "damaged spool set aside" in (tmp_path / "log").read_text()
    done = subprocess.run(
        python("reference_edge", "status"), env=environment, capture_output=True, check=True
    )
    assert "the spool was damaged; 30 readings were taken over, 0 are known" in done.stdout.decode()
    [aside] = tmp_path.glob("spool.sqlite.damaged-*")
    assert aside.read_bytes() == content
    as_json = subprocess.run(
        python("reference_edge", "status", "--json"), env=environment, capture_output=True, check=True
    )
    status = json.loads(as_json.stdout)
    assert status["recovery"]["set_aside"] == str(aside)
    assert status["spool"]["accepted"] == 30
    of_all_together = {"accepted", "bytes", "merged"}
    assert all(of_all_together.isdisjoint(counts) for counts in status["devices"].values())
    assert sum(counts["pending"] for counts in status["devices"].values()) == status["spool"]["pending"]


@pytest.mark.parametrize(
    "words", [["list"], ["export"], ["export", "out.ndjson"], ["requeue", "--all"], ["resend"]], ids=" ".join
)
def test_a_device_that_is_not_there_is_said_not_shown_empty(
    spool: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(spool.parent)
    done = spool_command(*words, "--device", "rooof", "--spool", str(spool))
    assert done.returncode == 2
    assert done.stderr == "sungrow-edge: no reading of rooof is here; known: garage, roof\n"
    assert not Path("out.ndjson").exists()


@pytest.mark.parametrize("number", ["0", "-1", "many", "1.5", "²"])
def test_a_number_that_is_none_is_named(spool: Path, number: str) -> None:
    done = spool_command("list", "--limit", number, "--spool", str(spool))
    assert done.returncode == 2
    assert f"{number!r} is no whole number from 1 on" in done.stderr


@pytest.mark.parametrize("number", ["9" * 20, "9" * 5000, str(2**63)], ids=["20", "5000", "2^63"])
@pytest.mark.parametrize("words", [["requeue"], ["list", "--after"]], ids=" ".join)
def test_a_number_too_large_for_any_reading_is_wrong_use(spool: Path, words: list[str], number: str) -> None:
    done = spool_command(*words, number, "--spool", str(spool))
    assert done.returncode == 2
    assert "more than any reading's number" in done.stderr
    assert done.stderr.count("\n") == 1
    assert spool_command("list", "--after", str(2**63 - 1), "--spool", str(spool)).returncode == 0


def set_up(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Set what an edge needs to know."""
    settings = {"SPOOL_PATH": str(path), "SUNGROW_HOST": "192.0.2.1", "DEVICE_ID": "roof"}
    server = {"SERVER_URL": "https://server.example", "DEVICE_TOKEN": "secret-token-0123456789"}
    for name, value in {**settings, **server}.items():
        monkeypatch.setenv(name, value)


async def append_and_kill(path: Path, first: int, readings: int) -> dict[str, bytes]:
    """Return the file and its log as a kill leaves them."""
    async with DurableSpool.open(path) as spool:
        for number in range(first, first + readings):
            sample = SungrowSample(
                device_id="roof", ts=START + timedelta(seconds=5 * number), pv_power_w=number
            )
            await spool.append(sample, ts_is_final=True)
        return {suffix: Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal")}


async def make_damaged(path: Path, readings: int) -> None:
    """Leave a damaged file and a sound log."""
    await append_and_kill(path, 0, readings)
    left = await append_and_kill(path, readings, 20)
    path.write_bytes(left[""][: 20 * 1024] + b"\xa5" * 4096 + left[""][24 * 1024 :])
    Path(f"{path}-wal").write_bytes(left["-wal"])


async def make_killed(path: Path, readings: int) -> None:
    """Leave a file and its log as a kill does, with a fault in the middle of the log."""
    left = await append_and_kill(path, 0, readings)
    log = bytearray(left["-wal"])
    middle = len(log) // 2
    log[middle : middle + 8] = bytes(byte ^ 0xFF for byte in log[middle : middle + 8])
    path.write_bytes(left[""])
    Path(f"{path}-wal").write_bytes(log)


async def recovered(path: Path) -> list[int]:
    async with DurableSpool.open(path, options=SpoolOptions(recover=True)) as spool:
        return [record.entry.seq async for record in spool.records()]


@pytest.mark.parametrize(
    "words",
    [
        ("spool", "stats"),
        ("spool", "verify"),
        ("spool", "list"),
        ("spool", "export"),
        ("spool", "requeue", "--all"),
        ("spool", "resend"),
        ("check", "--offline"),
        ("status",),
    ],
    ids=" ".join,
)
def test_looking_at_a_spool_with_a_damaged_log_changes_nothing(
    words: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SQLite would delete all that is behind the fault as soon as it closes the file."""
    path = tmp_path / "spool.sqlite"
    anyio.run(make_killed, path, 300)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    set_up(monkeypatch, path)
    assert main([*words]) != 0
    said = "".join(capsys.readouterr())
    assert "damaged (in its log)" in said
    assert "`sungrow-edge run` sets it aside and takes over what is readable" in said
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == files
    assert anyio.run(recovered, path) == list(range(1, 301))


@pytest.mark.parametrize(
    "words",
    [("spool", "stats"), ("spool", "verify"), ("spool", "list"), ("spool", "export"), ("status",)],
    ids=" ".join,
)
def test_looking_at_a_damaged_spool_with_a_sound_log_says_so_and_changes_nothing(
    words: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SQLite would fold the log into the damaged file as soon as it closes it."""
    path = tmp_path / "spool.sqlite"
    anyio.run(make_damaged, path, 300)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    set_up(monkeypatch, path)
    assert main([*words]) == 1
    assert "damaged" in "".join(capsys.readouterr())
    now = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.endswith("-shm")}
    assert now == files


@pytest.mark.parametrize("options", [SpoolOptions(), SpoolOptions(check=False)])
def test_an_empty_file_beside_its_log_is_damaged(options: SpoolOptions, tmp_path: Path) -> None:
    """SQLite would take it for a new one and delete the log."""
    path = tmp_path / "spool.sqlite"

    async def try_it() -> bytes:
        async with DurableSpool.open(path) as spool:
            await spool.append(SungrowSample(device_id="roof", ts=START, pv_power_w=1), ts_is_final=True)
            log = Path(f"{path}-wal").read_bytes()
        path.write_bytes(b"")
        Path(f"{path}-wal").write_bytes(log)
        with pytest.raises(SpoolCorruptError):
            async with DurableSpool.open(path, options=options):
                pass
        return log

    log = anyio.run(try_it)
    assert Path(f"{path}-wal").read_bytes() == log
    assert anyio.run(recovered, path) == [1]


@pytest.mark.parametrize(
    "words",
    [
        ("spool", "stats"),
        ("spool", "export"),
        ("spool", "verify"),
        ("status",),
        ("check",),
    ],
)
def test_a_log_without_its_file_is_said_and_left_alone(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SQLite would delete it, with the readings in it."""
    path = tmp_path / "spool.sqlite"

    async def lose_the_file() -> None:
        async with DurableSpool.open(path) as spool:
            await spool.append(SungrowSample(device_id="roof", ts=START, pv_power_w=1), ts_is_final=True)
            log = Path(f"{path}-wal").read_bytes()
        path.unlink()
        Path(f"{path}-wal").write_bytes(log)

    anyio.run(lose_the_file)
    Path(f"{path}-reserve").unlink(missing_ok=True)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    set_up(monkeypatch, path)
    assert main([*words]) == 1
    said = "".join(capsys.readouterr())
    assert "is missing, though its log is there" in said
    assert "`sungrow-edge run`" in said
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == files
    assert anyio.run(recovered, path) == [1]


@pytest.mark.parametrize("words", [["stats"], ["list"], ["requeue", "--all"], ["verify"]], ids=" ".join)
def test_an_empty_file_is_no_spool_and_stays_empty(tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "empty.sqlite"
    file.touch()
    done = spool_command(*words, "--spool", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"sungrow-edge: there is no spool at {file} (an empty file); ")
    assert file.stat().st_size == 0


@pytest.mark.parametrize("words", [["stats"], ["list"], ["verify"]], ids=" ".join)
def test_damage_of_several_pages_is_one_line(spool: Path, words: list[str]) -> None:
    content = bytearray(spool.read_bytes())
    content[5 * 1024 : 8 * 1024] = b"\xa5" * 3 * 1024
    spool.write_bytes(content)
    done = spool_command(*words, "--spool", str(spool))
    assert done.returncode == 1
    assert (done.stdout + done.stderr).count("\n") == 1
    assert done.stderr.count("Page") + done.stdout.count("Page") > 1


def test_a_resend_of_nothing_says_so(tmp_path: Path) -> None:
    file = tmp_path / "new.sqlite"
    assert spool_command("import", "-", "--spool", str(file), text=EMPTY_EXPORT).returncode == 0
    assert spool_command("resend", "--spool", str(file)).stdout == "no reading is kept here\n"


EMPTY_EXPORT = '{"spool_export":1,"edge_id":"e","generation":"g"}\n{"readings":0}\n'


DAMAGE = {
    "reading SET boot = 77": 2,
    "reading SET boot_ms = 1.5": 2,
    "reading SET clock = x'0102'": 6,
    "standing SET at = 1.5": 2,
    "standing SET reason = x'61'": 9,
    "standing SET state = 77": 30,
    "reading SET clock = CAST(x'73e5' AS TEXT)": 6,  # of which one bit makes no text
    "standing SET code = CAST(x'73e5' AS TEXT)": 9,
    "standing SET reason = CAST(x'73e5' AS TEXT)": 9,
    "reading SET content = CAST(x'7b22e5227d' AS TEXT)": 3,
    "reading SET content = CAST('{\"pv_power_w\":' AS TEXT)": 3,
    "reading SET content = x'7b7d'": 3,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_export_has_all_that_is_sound_and_names_the_rest(spool: Path, tmp_path: Path, damage: str) -> None:
    """Of delivered readings, and those in quarantine: the daemon never looks at them again."""
    seq, file = DAMAGE[damage], str(tmp_path / "all.ndjson")
    with closing(sqlite3.connect(spool)) as connection:
        connection.execute(f"UPDATE {damage} WHERE seq = {seq}")
        connection.commit()
    for words in (("export", file), ("list", "--limit", "100")):
        done = spool_command(*words, "--spool", str(spool))
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert f": {seq}; all others are there" in done.stderr
    assert len(done.stdout.splitlines()) == 29
    done = spool_command("verify", "--spool", str(spool))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith(f"the first is {seq}\n")
    done = spool_command("import", file, "--spool", str(tmp_path / "copy.sqlite"), "--json")
    assert (done.returncode, json.loads(done.stdout)["imported"]) == (0, 29)


def test_where_most_readings_are_damaged_the_others_are_exported(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    with closing(opened(path)) as store:
        append(store, "roof", *range(1, 1_200))
        store.change(lambda c: c.execute("UPDATE standing SET at = 1.5 WHERE seq BETWEEN 2 AND 1198"))
    done = spool_command("export", "--spool", str(path))
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()[1:-1]] == [1, 1_199]
    assert "1197 left out" in done.stderr


def test_damaged_readings_do_not_keep_others_in_quarantine(spool: Path) -> None:
    with closing(sqlite3.connect(spool)) as connection:
        connection.execute("UPDATE standing SET reason = x'61' WHERE seq = 9")
        connection.commit()
    done = spool_command("requeue", "--all", "--spool", str(spool))
    assert (done.returncode, done.stdout) == (1, "2 readings are offered again\n")
    assert ": 9; " in done.stderr


def test_statistics_say_what_is_set_apart_though_damage_took_why(spool: Path) -> None:
    with closing(sqlite3.connect(spool)) as connection:
        connection.execute("UPDATE standing SET code = CAST(x'73e5' AS TEXT) WHERE seq = 9")
        connection.commit()
    done = spool_command("stats", "--json", "--spool", str(spool))
    assert (done.returncode, done.stderr) == (0, "")
    apart = json.loads(done.stdout)["set_apart"]
    assert sum(entry["readings"] for entry in apart) == 3
    assert None in [entry["code"] for entry in apart]
