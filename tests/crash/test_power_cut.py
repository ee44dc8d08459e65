"""Power cuts: only what was synced is sure to survive. Every accepted reading does, exactly once."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from reference_edge.health import read_health
from sungrow_lib.demo.certificates import make_certificates
from sungrow_lib.spool import SpoolOptions, SpoolState
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.spool.system_clock import SystemClock
from tests.conftest import Need
from tests.crash.disk import Change, Disk, Kind, build_recorder, read_changes, recorded, replace_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CUTS: Final = 80
SEED: Final = 20_260_601
SPOOL: Final = "spool.sqlite"
_RECORDING_S: Final = 400.0
"""Seconds are enough; a machine that is busy with other things takes many times as long."""
PROGRAM: Final = """
import itertools, os, pathlib, sys, anyio
from datetime import UTC, datetime
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool, Lane

folder = pathlib.Path(sys.argv[1])
said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def say(word, *numbers):
    os.write(said, f"{word} {' '.join(map(str, numbers))}\\n".encode())
#BREAK#
async def main():
    async with DurableSpool.open(folder / "spool.sqlite") as spool:
        counts = await spool.counts()
        for turn in itertools.count():
            for _ in range(3):
                now = datetime.now(UTC)
                sample = SungrowSample(device_id="inv",
                                       ts=now.replace(microsecond=now.microsecond // 1000 * 1000),
                                       pv_power_w=turn, running_state="x" * (turn % 90 + 1))
                entry = await spool.append(sample, ts_is_final=True)
                say("accepted", entry.seq, entry.ts_ms, entry.content)
            batch = await spool.offer("inv", 4, Lane.FRESH if turn % 2 else Lane.BACKLOG)
            say("offered", *[e.seq for e in batch])
            await spool.ack("inv", [e.seq for e in batch])
            say("delivered", *[e.seq for e in batch])
            if turn % 40 == 39:
                spool._store._database.fold_log()
anyio.run(main)
"""
UPLOADING: Final = """
import json, os, pathlib, ssl, sys, anyio
from datetime import UTC, datetime, timedelta
from aiohttp import web
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import BatchUploader, UploadSettings, backoff
from tests.crash import broken

folder = pathlib.Path(sys.argv[1])
ca, cert, key, fault = #FILES#
if fault:
    broken.apply(fault)
backoff.FIRST_S, backoff.LIMIT_S = 0.01, 0.05
said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def say(word, *rest):
    os.write(said, f"{word} {' '.join(map(str, rest))}\\n".encode())
stored, requests = set(), 0

async def ingest(request):
    global requests
    requests += 1
    batch = json.loads(await request.read())
    for seq, sample in zip(batch["seq"], batch["samples"]):
        say("sent", seq, json.dumps(sample, separators=(",", ":")))
    if requests % 7 == 3:
        return web.Response(status=503)
    new = set(batch["seq"]) - stored
    stored.update(new)
    say("stored", *batch["seq"])
    if requests % 5 == 2:  # the answer is lost
        request.transport.abort()
    return web.json_response({
        "batch_id": batch["batch_id"], "received": len(batch["seq"]), "inserted": len(new),
        "duplicates": len(batch["seq"]) - len(new), "conflicts": [], "rejected": [], "deferred": [],
        "resend": False, "server_version": "1",
    })

async def feed(spool):
    ts = datetime(2026, 6, 1, tzinfo=UTC)
    while True:  # with the clock since the boot: so a torn reading's date is vouched for by those before it
        now = datetime.now(UTC)
        ts = max(ts + timedelta(milliseconds=1), now.replace(microsecond=now.microsecond // 1000 * 1000))
        sample = SungrowSample(device_id="inv", ts=ts, pv_power_w=ts.second)
        entry = await spool.append(sample, ts_is_final=True)
        say("accepted", entry.seq, entry.ts_ms, entry.content)
        await anyio.sleep(0.002)

async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    app = web.Application()
    app.router.add_post("/v1/ingest", ingest)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    settings = UploadSettings(
        server_url=f"https://localhost:{runner.addresses[0][1]}", token="t", ca_file=pathlib.Path(ca),
        batch_size=4, upload_interval_s=0.01,
    )
    async with (
        DurableSpool.open(folder / "spool.sqlite") as spool, BatchUploader(spool, settings) as uploader,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(feed, spool)
        tasks.start_soon(uploader.run)
anyio.run(main)
"""
RECOVERING: Final = """
import os, pathlib, sys, anyio
from datetime import UTC, datetime, timedelta
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool, SpoolOptions

folder = pathlib.Path(sys.argv[1])
said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
async def main():
    async with DurableSpool.open(folder / "spool.sqlite", options=SpoolOptions(recover=True)) as spool:
        for turn in range(10**6):
            ts = datetime(2026, 7, 1, tzinfo=UTC) + timedelta(seconds=turn)
            sample = SungrowSample(device_id="inv", ts=ts, pv_power_w=turn)
            entry = await spool.append(sample, ts_is_final=True)
            os.write(said, f"accepted {entry.seq} {entry.ts_ms} {entry.content}\\n".encode())
anyio.run(main)
"""
RENAMING: Final = """
import os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
(folder / "file").write_text("0" * 3000)
sync(folder / "file")
sync(folder)
for turn in range(1, 10**6):
    draft = folder / "draft"
    with draft.open("w") as stream:
        stream.write(f"{turn % 10}" * 3000)
    #FILE# sync(draft)
    draft.rename(folder / "file")
    #FOLDER# sync(folder)
    os.write(said, f"renamed {turn % 10}\\n".encode())
"""
NO_SYNC: Final = """
from sungrow_lib.spool.database import Database
connect = Database._connect
def careless(self):
    connect(self)
    self._connection.execute("PRAGMA synchronous = OFF")
Database._connect = careless
"""


@pytest.fixture(scope="module")
def recorder(need: Need, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = need("cc", "gcc", purpose="power cuts, recorded by a small library of C")
    return build_recorder(compiler, tmp_path_factory.mktemp("recorder"))


@dataclass
class Said:
    """What the process had said by the moment of the cut."""

    accepted: dict[int, tuple[int, str]] = field(default_factory=dict)
    delivered: set[int] = field(default_factory=set)
    sent: dict[int, str] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)
    renamed: str = "0"

    def hear(self, line: str) -> None:
        word, *rest = line.split(" ", 3)
        if word == "accepted":
            self.accepted[int(rest[0])] = (int(rest[1]), rest[2])
        elif word == "delivered":
            self.delivered |= {int(number) for number in line.split()[1:]}
        elif word == "sent":
            self.sent[int(rest[0])] = rest[1]
        elif word == "renamed":
            self.renamed = rest[0]
        elif word == "stored":
            self.stored |= {int(number) for number in line.split()[1:]}


def record(program: str, recorder: Path, folder: Path, listing: Path, lines: int) -> list[Change]:
    """Run the program until it has said so many lines, and kill it."""
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, env=os.environ | recorded(recorder, folder, listing)) as process:
        deadline = time.monotonic() + _RECORDING_S
        said = folder / "said"
        while not said.exists() or said.read_bytes().count(b"\n") < lines:
            assert process.poll() is None, "the program ended by itself"
            assert time.monotonic() < deadline, "the program says too little"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    return list(read_changes(listing))


def moments(changes: list[Change], draw: random.Random) -> list[int]:
    """Some right before or after a sync, where it matters most; some anywhere."""
    syncs = [i + d for i, change in enumerate(changes) if change.kind is Kind.SYNC for d in (0, 1)]
    return sorted(
        {*draw.sample(syncs, min(len(syncs), CUTS // 2)), *draw.choices(range(len(changes)), k=CUTS // 2)}
    )


def cuts(
    folder: Path, changes: list[Change], start: Disk, draw: random.Random, said: Said | None = None
) -> Iterator[tuple[Said, Path]]:
    """Yield, for many moments, what was said until then and the folder a power cut then left."""
    said, names, done = said or Said(), dict[int, str](), 0
    for index in moments(changes, draw):
        for change in changes[done:index]:
            start.apply(change)
            if change.kind is Kind.CREATE:
                names[change.inode] = Path(change.name).name
            elif change.kind is Kind.WRITE and names.get(change.inode) == "said":
                said.hear(change.data.decode().rstrip("\n"))
        done = max(done, index)
        target = folder.with_name(f"{folder.name}-after-cut")
        shutil.rmtree(target, ignore_errors=True)
        start.cut(target, draw)
        yield said, target


def losses(said: Said, folder: Path) -> list[str]:
    """What the spool in a folder lacks of what was said, or has otherwise."""
    if not (any(folder.glob(f"{SPOOL}*")) or said.accepted):
        return []
    with closing(SpoolStore(folder / SPOOL, SpoolOptions(recover=True), SystemClock())) as store:
        found = {r.entry.seq: r for r in store.records(0, 1_000_000)}
        # A torn write and a damaged one look alike in the log: the spool then saves all it can.
        wrong = store.faults()
    for seq, told in said.accepted.items():
        entry = found[seq].entry if seq in found else None
        if entry is None or (entry.ts_ms, entry.content) != told:
            wrong.append(f"reading {seq} {'is lost' if entry is None else 'is altered'}")
    wrong += [
        f"reading {seq} is no longer delivered"
        for seq in said.delivered
        if seq in found and found[seq].entry.state is not SpoolState.DELIVERED
    ]
    dates = [r.entry.ts_ms for r in found.values()]
    return wrong if len(set(dates)) == len(dates) else [*wrong, "a date stands twice"]


def false_beliefs(said: Said, folder: Path) -> list[str]:
    """Where the spool in a folder errs about what was sent and what the server has."""
    if not said.sent:
        return []
    with closing(SpoolStore(folder / SPOOL, SpoolOptions(), SystemClock())) as store:
        records = store.records(0, 1_000_000)
    wrong = [
        f"reading {r.entry.seq} is called delivered, and the server never had it"
        for r in records
        if r.entry.state is SpoolState.DELIVERED and r.entry.seq not in said.stored
    ]
    wrong += [
        f"reading {r.entry.seq} is neither delivered nor offered again"
        for r in records
        if r.entry.state not in {SpoolState.DELIVERED, SpoolState.PENDING}
    ]
    for record in records:
        sent = said.sent.get(record.entry.seq)
        if sent is not None and (not record.offered or sent != record.entry.to_json()):
            wrong.append(f"reading {record.entry.seq} was sent, but may still change")
    return wrong


def all_losses(
    program: str, recorder: Path, tmp_path: Path, lines: int = 120, *, without: Kind | None = None
) -> list[str]:
    folder = tmp_path / "disk"
    folder.mkdir()
    start = Disk(folder)
    recording = record(program, recorder, folder, tmp_path / "listing", lines)
    changes = [change for change in recording if change.kind is not without]
    draw = random.Random(SEED)
    found = []
    heard = 0
    for said, target in cuts(folder, changes, start, draw):
        found += losses(said, target)
        found += false_beliefs(said, target)
        heard = min(len(said.accepted), len(said.stored) if said.sent else len(said.delivered))
    assert heard > 20, "too little was tried"
    return found


def test_what_was_accepted_survives_a_power_cut_at_any_moment(recorder: Path, tmp_path: Path) -> None:
    assert all_losses(PROGRAM, recorder, tmp_path, lines=400) == []


def test_it_survives_cut_after_cut(recorder: Path, tmp_path: Path) -> None:
    folder, draw, accepted = tmp_path / "disk", random.Random(SEED), dict[int, tuple[int, str]]()
    folder.mkdir()
    for turn in range(4):
        start = Disk(folder)
        changes = record(PROGRAM, recorder, folder, tmp_path / f"listing-{turn}", lines=40)
        for change in changes[: draw.randrange(len(changes) // 2, len(changes))]:
            start.apply(change)
        said = Said()
        for line in bytes(start.content("said")).decode().splitlines():
            said.hear(line)
        target = tmp_path / "left"
        start.cut(target, draw)
        accepted |= said.accepted
        replace_folder(folder, target)
        (folder / "said").unlink(missing_ok=True)
        assert losses(Said(accepted), folder) == []
    assert len(accepted) > 40


@pytest.mark.parametrize(
    ("fault", "symptom"),
    [
        ("", None),
        ("ack before answer", "is called delivered, and the server never had it"),
        ("offers without a note", "was sent, but may still change"),
    ],
)
def test_nothing_counts_as_delivered_or_sent_that_is_not(
    recorder: Path, tmp_path: Path, fault: str, symptom: str | None
) -> None:
    certificates = make_certificates(tmp_path / "tls")
    files = json.dumps([str(certificates.ca), str(certificates.cert), str(certificates.key), fault])
    found = all_losses(UPLOADING.replace("#FILES#", files), recorder, tmp_path, lines=600)
    if symptom is None:
        assert found == []
    else:
        assert any(symptom in line for line in found)


def test_a_spool_that_does_not_sync_is_caught(recorder: Path, tmp_path: Path) -> None:
    assert all_losses(PROGRAM.replace("#BREAK#", NO_SYNC), recorder, tmp_path)


@pytest.mark.parametrize("kind", [Kind.SYNC, Kind.SYNC_FOLDER])
def test_every_kind_of_sync_is_needed(recorder: Path, tmp_path: Path, kind: Kind) -> None:
    assert all_losses(PROGRAM, recorder, tmp_path, without=kind)


@pytest.mark.parametrize("is_folder_synced", [True, False])
def test_a_recovered_spool_and_what_it_then_accepts_survive_a_power_cut(
    recorder: Path, tmp_path: Path, *, is_folder_synced: bool
) -> None:
    folder, draw, known = tmp_path / "disk", random.Random(SEED), dict[int, tuple[int, str]]()
    folder.mkdir()
    with closing(SpoolStore(folder / SPOOL, SpoolOptions(), SystemClock())) as store:
        for number in range(60):
            content = json.dumps({"pv_power_w": number, "running_state": "x" * 200}, separators=(",", ":"))
            entry = store.append("inv", 1_780_000_000_000 + number, content, boot=None, ts_is_final=True)
            known[entry.seq] = (entry.ts_ms, entry.content)
    spool = folder / SPOOL
    spool.write_bytes(draw.randbytes(1024) + spool.read_bytes()[1024:])  # no reading is on the first page
    start = Disk(folder)
    changes = record(RECOVERING, recorder, folder, tmp_path / "listing", lines=30)
    if not is_folder_synced:
        changes = [change for change in changes if change.kind is not Kind.SYNC_FOLDER]
    found = []
    for said, target in cuts(folder, changes, start, draw, Said(dict(known))):
        found += losses(said, target)
    assert bool(found) != is_folder_synced, found
    assert len(said.accepted) > len(known), "the cuts came too early"


@pytest.mark.parametrize("missing", ["", "FILE", "FOLDER"])
def test_the_model_notices_a_renamed_file_that_was_not_synced(
    recorder: Path, tmp_path: Path, missing: str
) -> None:
    program = RENAMING
    for what in {"FILE", "FOLDER"} - {missing}:
        program = program.replace(f"#{what}# ", "")
    folder, draw = tmp_path / "disk", random.Random(SEED)
    folder.mkdir()
    start = Disk(folder)
    changes = record(program, recorder, folder, tmp_path / "listing", lines=40)
    moved = 0
    for said, target in cuts(folder, changes, start, draw):
        if said.renamed == "0":
            continue
        left = (target / "file").read_text()
        following = f"{(int(said.renamed) + 1) % 10}"
        moved += left not in {said.renamed * 3000, following * 3000}
    assert bool(moved) == bool(missing), moved


def test_a_health_file_cut_off_is_no_health_and_no_error(recorder: Path, tmp_path: Path) -> None:
    program = """
import pathlib, sys
from reference_edge.health import HealthReport
from reference_edge.survey import Survey
from sungrow_lib.upload.status import StatusBoard
folder = pathlib.Path(sys.argv[1])
report = HealthReport(folder / "health.json", {}, Survey(folder), StatusBoard().snapshot, lambda: 0)
while True:
    report._write(report._report())
    with (folder / "said").open("a") as said:
        said.write("written\\n")
"""
    folder, draw = tmp_path / "disk", random.Random(SEED)
    folder.mkdir()
    start = Disk(folder)
    changes = record(program, recorder, folder, tmp_path / "listing", lines=40)
    seen = [read_health(target / "health.json")["age_s"] for _, target in cuts(folder, changes, start, draw)]
    assert None in seen
    assert all(age is None or age >= 0 for age in seen)
