"""Readings whose device cannot be believed: the daemon keeps them and says so; a command names them."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from reference_edge.account import DeviceAccount
from reference_edge.intake import Intake
from reference_edge.owner import OwnerFile
from reference_edge.survey import Survey
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import wait_until
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool, HeldWhy, SpoolIdentity, SpoolOptions, SpoolOwner
from sungrow_lib.spool.holding import is_lost_name
from sungrow_lib.upload import BatchUploader, UploadSettings
from tests.edge.test_health import daemon, edge, environment, said
from tests.edge.test_spool_commands import spool_command
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio
START = datetime(2026, 6, 1, 12, tzinfo=UTC)


async def make(path: Path, *device_ids: str, count: int = 5) -> SpoolIdentity:
    async with DurableSpool.open(path) as spool:
        for number in range(count):
            for device_id in device_ids:
                ts = START + timedelta(seconds=5 * number)
                sample = SungrowSample(device_id=device_id, ts=ts, pv_power_w=number)
                await spool.append(sample, ts_is_final=True)
        for device_id in device_ids:
            if is_lost_name(device_id):  # a recovery gives such names
                await spool.hold_device(device_id, HeldWhy.LOST)
        return spool.identity


async def test_the_alarm_says_what_to_do_and_ends_when_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    await make(path, "lost-device-1", "lost-device-2")
    survey = Survey(tmp_path, owner_file=OwnerFile.read_at(path))
    accounts = {"roof": DeviceAccount("roof", "")}
    async with DurableSpool.open(path) as spool:
        await survey._look(spool, accounts, Intake(accounts))
        detail = survey.alarms["held"].detail
        assert "5 readings of lost-device-1 are kept and not sent" in detail
        assert "`sungrow-edge spool rename lost-device-2 NAME`" in detail
        for words in (["rename", "lost-device-1", "roof", "--force"], ["set-aside", "lost-device-2"]):
            done = await anyio.to_thread.run_sync(
                lambda words=words: spool_command(*words, "--spool", str(path))  # type: ignore[misc]  # a default it is
            )
            assert (done.returncode, done.stderr) == (0, "")
        await survey._look(spool, accounts, Intake(accounts))
        assert not survey.alarms
        assert len(await spool.peek("roof", 10)) == 5
        owner = await spool.owner()
    assert OwnerFile.read_at(path).owner == owner


def test_a_spool_of_another_edge_put_in_place_is_not_sent_under_our_names(
    tmp_path: Path, tls_files: CertificateFiles
) -> None:
    """As somebody does who restores the wrong backup."""
    path = tmp_path / "spool.sqlite"
    variables = environment(tmp_path, tls_files.ca)
    own = anyio.run(make, path, "roof")
    with daemon(tmp_path, variables) as child:
        owner_file = Path(f"{path}.owner.json")
        wait_until("what is remembered", owner_file.exists, timeout_s=PATIENCE_S, watched=[child])
    other = anyio.run(make, tmp_path / "other", "roof")
    for file in tmp_path.glob("spool.sqlite-*"):
        file.unlink(missing_ok=True)
    shutil.copy(tmp_path / "other", path)
    held = f"roof.{other.edge_id[:8]}"
    with daemon(tmp_path, variables) as child:
        health = tmp_path / "spool.sqlite.health.json"

        def alarms() -> dict[str, str]:
            return {a["code"]: a["detail"] for a in json.loads(health.read_text())["alarms"]}

        wait_until("the alarm", lambda: "held" in alarms(), timeout_s=PATIENCE_S, watched=[child])
        assert f"spool rename {held} NAME" in alarms()["held"]
        status = json.loads(edge(variables, "status", "--json").stdout)
        assert status["edge_id"] == own.edge_id
        assert status["held"] == {held: {"why": "foreign", "undelivered": 5, "delivered": 0}}
        shown = edge(variables, "status").stdout
        assert shown.count(f"5 readings of {held} are kept and not sent") == 1  # as the alarm
        assert f"{held}: 5 held back" in shown
        stats = json.loads(edge(variables, "spool", "stats", "--json").stdout)
        assert stats["held"] == status["held"]
        assert f"{held}: held back are 5 readings (foreign)" in edge(variables, "spool", "stats").stdout
    assert any("another edge's" in entry["event"] for entry in said(tmp_path, "error"))


def test_wrong_use_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    anyio.run(make, path, "roof")
    for words in (["rename", "roof", "house"], ["rename", "lost-device-1", "a b"], ["set-aside", "roof"]):
        done = spool_command(*words, "--spool", str(path))
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


def test_readings_of_the_same_times_are_left_and_said(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    anyio.run(make, path, "lost-device-1", "roof")
    words = ("rename", "lost-device-1", "roof", "--into-existing", "--spool", str(path), "--json")
    done = spool_command(*words)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"moved": 0, "left": 5}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"edge_id"', '{"edge_id": "e"}', '{"edge_id": 1}', '{"damage": null, "sha256": "0"}'],
)
def test_a_damaged_memory_is_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "spool.sqlite"
    Path(f"{path}.owner.json").write_text(content)
    file = OwnerFile.read_at(path)
    assert file.owner is None
    file.remember(SpoolOwner("edge", "spool"))
    assert OwnerFile.read_at(path).owner == SpoolOwner("edge", "spool")


FLIPS = [1 << bit for bit in range(8)]


def read_with(note: Path, content: bytes) -> SpoolOwner | None:
    note.write_bytes(content)
    return OwnerFile.read_at(note.with_name("spool.sqlite")).owner


def test_a_memory_with_one_wrong_bit_is_none(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    owner = SpoolOwner(str(uuid4()), str(uuid4()))
    OwnerFile.read_at(path).remember(owner)
    note = Path(f"{path}.owner.json")
    content = note.read_bytes()
    assert OwnerFile.read_at(path).owner == owner
    for at, flip in product(range(len(content)), FLIPS):
        wrong = content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :]
        assert read_with(note, wrong) is None


def test_an_older_memory_is_believed_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    owner = SpoolOwner(str(uuid4()), str(uuid4()))
    note = Path(f"{path}.owner.json")
    note.write_text(json.dumps(asdict(owner) | {"damage": None}))
    file = OwnerFile.read_at(path)
    assert file.owner == owner
    assert "sha256" not in note.read_text()
    file.remember(owner)
    assert "sha256" in note.read_text()
    assert OwnerFile.read_at(path).owner == owner
    note.write_text(json.dumps({"edge_id": owner.edge_id}))  # one that is older still
    assert OwnerFile.read_at(path).owner == SpoolOwner(owner.edge_id)


async def test_an_older_memory_with_a_wrong_bit_disowns_no_spool(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    await make(path, "roof", count=1)
    async with DurableSpool.open(path) as spool:
        owner = await spool.owner()
    note = Path(f"{path}.owner.json")
    content = json.dumps(asdict(owner) | {"damage": None}).encode()
    wrong = {
        said
        for at, flip in product(range(len(content)), FLIPS)
        if (said := read_with(note, content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :]))
        is not None
        and said.edge_id != owner.edge_id
    }
    assert wrong
    assert {said.spool_id for said in wrong} == {owner.spool_id}
    for said in sorted(wrong, key=str)[::10]:
        async with DurableSpool.open(path, options=SpoolOptions(owner=said)) as spool:
            assert spool.identity.edge_id == owner.edge_id
            assert await spool.held() == {}


async def test_what_cannot_be_written_down_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "spool.sqlite"
    file = OwnerFile.read_at(path)
    file.remember(SpoolOwner("edge"))
    path.parent.mkdir()
    file.remember(SpoolOwner("edge"))
    async with DurableSpool.open(path, options=SpoolOptions(owner=OwnerFile.read_at(path).owner)) as spool:
        assert spool.identity.edge_id == "edge"


def test_an_export_comes_back_as_this_edges_own(tmp_path: Path) -> None:
    """Onto the same box, where the spool was lost: its daemon takes it for what it is."""
    path, export = tmp_path / "spool.sqlite", tmp_path / "all.ndjson"
    own = anyio.run(make, path, "roof")
    OwnerFile.read_at(path).remember(SpoolOwner(own.edge_id, "lost"))
    assert spool_command("export", str(export), "--spool", str(path)).returncode == 0
    path.unlink()
    assert spool_command("import", str(export), "--spool", str(path)).returncode == 0

    async def look() -> tuple[str, int]:
        options = SpoolOptions(recover=True, owner=OwnerFile.read_at(path).owner)
        async with DurableSpool.open(path, options=options) as spool:
            assert await spool.held() == {}
            return spool.identity.edge_id, len(await spool.peek("roof", 10))

    assert anyio.run(look) == (own.edge_id, 5)


async def test_what_another_edge_delivered_is_said_too(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    await make(path, "roof")
    survey = Survey(tmp_path, owner_file=OwnerFile.read_at(path))
    accounts = {"roof": DeviceAccount("roof", "")}
    async with DurableSpool.open(path) as spool:
        await spool.ack("roof", range(1, 6))
        await spool.hold_device("roof", HeldWhy.FOREIGN)
        await survey._look(spool, accounts, Intake(accounts))
        assert "5 that a server has are not offered again" in survey.alarms["held"].detail


async def test_what_is_held_since_a_device_was_renamed_is_told_without_waiting_for_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference_edge.survey._SECOND_LOOK_S", 1e6)
    monkeypatch.setattr("reference_edge.survey._LISTEN_S", 0.01)
    path = tmp_path / "spool.sqlite"
    await make(path, "lost-device-1")
    survey = Survey(tmp_path)
    accounts = {"roof": DeviceAccount("roof", "")}
    async with DurableSpool.open(path) as spool, anyio.create_task_group() as tasks:
        uploader = BatchUploader(spool, UploadSettings(server_url="https://127.0.0.1:1", token="-" * 20))
        tasks.start_soon(survey.run, spool, uploader, accounts, Intake(accounts))
        with anyio.fail_after(PATIENCE_S):
            while "held" not in survey.alarms:  # noqa: ASYNC110 - a test looks from outside
                await anyio.sleep(0.01)
            await spool.rename_device("lost-device-1", "roof")
            while "held" in survey.alarms:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


async def test_a_disk_that_gets_full_is_told_without_waiting_for_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before any look at the spool: it may not be open."""
    monkeypatch.setattr("reference_edge.survey._JUDGE_S", 0.01)
    free = [10]
    monkeypatch.setattr("reference_edge.survey.free_bytes", lambda _: free[0])
    survey = Survey(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(survey.watch, Intake({}))
        with anyio.fail_after(PATIENCE_S):
            while "disk" not in survey.alarms:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.01)
            free[0] = 10**12
            while "disk" in survey.alarms:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


def test_what_is_held_is_left_out_and_a_name_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    anyio.run(make, path, "lost-device-1", "roof")
    on_spool = ("--spool", str(path))
    wrong = spool_command("rename", "lost-device-1", "rofo", *on_spool)
    assert (wrong.returncode, "known: roof" in wrong.stderr) == (2, True)
    assert spool_command("set-aside", "lost-device-1", *on_spool).returncode == 0
    done = spool_command("requeue", "--all", *on_spool)
    assert (done.returncode, done.stdout) == (0, "0 readings are offered again\n")
    assert "lost-device-1 is held back and left out" in done.stderr
    done = spool_command("resend", *on_spool)
    assert (done.returncode, done.stdout) == (0, "roof: 0 offered again\n")
    assert "lost-device-1 is held back and left out" in done.stderr
    assert spool_command("rename", "lost-device-1", "shed", "--force", *on_spool).returncode == 0


def test_a_name_that_is_another_devices_is_asked_for_and_a_wrong_one_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    anyio.run(make, path, "lost-device-1")
    anyio.run(partial(make, path, "roof", count=7))
    on_spool = ("--spool", str(path))
    (tmp_path / "edge.toml").write_text(
        'server_url = "https://127.0.0.1:1"\ndevice_token = "edge-token-0123456789"\n'
        '[[devices]]\ndevice_id = "shed"\nhost = "127.0.0.1"\n'
    )
    known = (*on_spool, "--config", str(tmp_path / "edge.toml"))
    for name, place in (("roof", "of this spool"), ("shed", "of the settings")):
        wrong = spool_command("rename", "lost-device-1", name, *known)
        assert wrong.returncode == 2
        assert f"{name} is a device {place}, and 5 readings of lost-device-1 would" in wrong.stderr
        assert "--into-existing" in wrong.stderr
        assert spool_command("rename", "lost-device-1", name, "--force", *known).returncode == 2
    assert spool_command("rename", "lost-device-1", "barn", "--into-existing", *known).returncode == 2
    done = spool_command("rename", "lost-device-1", "shed", "--into-existing", *known)
    assert done.returncode == 0
    assert "spool rename --undo lost-device-1" in done.stdout
    done = spool_command("rename", "--undo", "lost-device-1", "--json", *on_spool)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"moved": 5, "left": 0})
    assert spool_command("rename", "lost-device-1", "barn", "--force", *on_spool).returncode == 0

    async def send() -> None:
        async with DurableSpool.open(path) as spool:
            assert len(await spool.offer("barn", 2)) == 2

    anyio.run(send)
    done = spool_command("rename", "--undo", "lost-device-1", *on_spool)
    assert done.returncode == 1
    assert "3 readings are lost-device-1's again" in done.stdout
    assert "2 were sent already" in done.stdout


def test_undo_takes_the_old_name_only(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    anyio.run(make, path, "lost-device-1")
    for words in (
        ["--undo", "lost-device-1"],
        ["--undo", "lost-device-1", "roof"],
        ["--undo", "lost-device-1", "--force"],
        ["lost-device-1"],
    ):
        done = spool_command("rename", *words, "--spool", str(path))
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_status_says_what_is_held_where_no_alarm_does(tmp_path: Path, tls_files: CertificateFiles) -> None:
    path = tmp_path / "spool.sqlite"
    anyio.run(make, path, "lost-device-1")
    shown = edge(environment(tmp_path, tls_files.ca), "status").stdout
    assert "5 readings of lost-device-1 are kept and not sent" in shown


def test_a_device_may_be_called_as_a_lost_one(tmp_path: Path) -> None:
    """Held by an earlier version for its name alone: it is renamed to that."""
    path = tmp_path / "spool.sqlite"
    anyio.run(make, path, "lost-device-3")
    on_spool = ("--spool", str(path))
    assert spool_command("rename", "lost-device-3", "lost-device-3", *on_spool).returncode == 2
    (tmp_path / "edge.toml").write_text(
        'server_url = "https://127.0.0.1:1"\ndevice_token = "edge-token-0123456789"\n'
        '[[devices]]\ndevice_id = "lost-device-3"\nhost = "127.0.0.1"\n'
    )
    shutil.copy(path, tmp_path / "copy.sqlite")
    copy = ("--spool", str(tmp_path / "copy.sqlite"), "--config", str(tmp_path / "edge.toml"))
    assert spool_command("rename", "lost-device-3", "lost-device-3", *copy).returncode == 0
    done = spool_command("rename", "lost-device-3", "lost-device-3", "--force", *on_spool)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "5 readings of lost-device-3 are held back no longer; what is undelivered is sent\n"

    async def sent() -> int:
        async with DurableSpool.open(path) as spool:
            return len(await spool.peek("lost-device-3", 10))

    assert anyio.run(sent) == 5
    assert spool_command("export", str(tmp_path / "all.ndjson"), *on_spool).returncode == 0
    path.unlink()
    assert spool_command("import", str(tmp_path / "all.ndjson"), *on_spool).returncode == 0
    assert anyio.run(sent) == 5
