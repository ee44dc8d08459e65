"""`sungrow-edge spool rename --into-existing` is killed after every change it makes to the disk.

Beside it an edge has the spool open and goes on. Whenever it is killed, either nothing has happened or all of
it; said once more it does the rest, and every reading is there once, as it was, with its key.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import count, product
from pathlib import Path
from typing import Any, Final

import pytest

from sungrow_lib.spool import HeldDevice, HeldWhy, Lane, Settlement, SpoolOptions, SpoolState, holding
from sungrow_lib.spool.entries import from_ms
from sungrow_lib.spool.meta import read_identity
from sungrow_lib.spool.store import SpoolStore
from tests.conftest import Need
from tests.crash.account import Account, Fed, judge_fed
from tests.crash.disk import build_recorder, recorded
from tests.crash.readings import Key, Tally, keys_of, values
from tests.spool.helpers import NOON_MS, FakeClock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SPOOL: Final = "spool.sqlite"
HELD: Final = "lost-device-1"
OF_HELD: Final = range(12)
OF_ROOF: Final = (*range(4, 7), *range(20, 26))
_SOME: Final = 5
"""Alone, it makes more changes; after every so many of them the rest is done."""
BOTH: Final = sorted({*OF_HELD} & {*OF_ROOF})
"""Times of which both have a reading: those of the held device stay where they are."""
COMMAND: Final = """
import ctypes, os, sys
import sungrow_lib.spool.renaming
from reference_edge.cli import main

spool, fault = sys.argv[1:]
if fault:
    from tests.crash import broken

    broken.apply(fault)
recorder = ctypes.CDLL(os.environ["LD_PRELOAD"])
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(2, 1)
        recorder.recorder_kill_after(ctypes.c_long(int(line)))
        words = ["rename", "lost-device-1", "roof", "--into-existing", "--json"]
        os._exit(main(["spool", *words, "--spool", spool]))
    print(os.waitpid(child, 0)[1], flush=True)
"""
"""Runs the command in a process of its own for each line: of so many changes, 0 for to its end."""


@pytest.fixture(scope="module")
def recorder(need: Need, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = need("cc", "gcc", purpose="a kill after each change on the disk, by a small library of C")
    return build_recorder(compiler, tmp_path_factory.mktemp("recorder"))


class Command:
    """The command, as often as wanted.

    Args:
        process: runs `COMMAND`.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert self._said() == "ready"

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(self, changes: int = 0) -> int:
        """Run it, to its end or for so many changes; return its exit status, negative for a signal."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{changes}\n")
        self._process.stdin.flush()
        return os.waitstatus_to_exitcode(int(self._said()))


@contextmanager
def command(recorder: Path, folder: Path, fault: str = "") -> Iterator[Command]:
    environment = os.environ | recorded(recorder, folder, folder.with_name("listing"))
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(folder / SPOOL), fault],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Command(process)


def opened(folder: Path) -> SpoolStore:
    return SpoolStore(folder / SPOOL, SpoolOptions(), FakeClock())


@dataclass
class Edge:
    """An edge that has the spool open, its ledger, and what the server has of it."""

    store: SpoolStore
    tally: Tally = field(default_factory=Tally)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def take(self, device_id: str, number: int) -> None:
        """Take a reading; those of the held device are the roof's in truth."""
        key = Key("held" if device_id == HELD else "edge", "roof", number)
        ts = NOON_MS + 5000 * number
        content = json.dumps(values(1, key, from_ms(ts)), separators=(",", ":"))
        self.store.append(device_id, ts, content, boot=None, ts_is_final=True)
        self.tally.tried[key], self.tally.taken_at[key] = ts, 0.0
        self.tally.accepted.add(key)

    def deliver(self, device_id: str, lane: Lane = Lane.BACKLOG) -> bool:
        """Deliver two readings of a device, if there are any that may be sent."""
        batch = self.store.offer(device_id, 2, lane)
        self.rows += [json.loads(entry.to_json()) for entry in batch]
        self.store.settle(device_id, Settlement(delivered=[entry.seq for entry in batch]))
        return bool(batch)

    def judged(self) -> Account:
        """Deliver all, and judge."""
        for device_id, lane in product(self.store.devices(), Lane):
            while self.deliver(device_id, lane):
                pass
        account = Account()
        judge_fed(account, Fed(self.tally), self.rows, [])
        return account


@dataclass(frozen=True)
class Picture:
    """What stands in a spool."""

    records: frozenset[tuple[str, int, int, str, SpoolState]]
    held: dict[str, HeldDevice]
    generation: str

    @classmethod
    def of(cls, store: SpoolStore) -> Picture:
        assert store.faults() == []
        entries = [record.entry for record in store.records(0, 1_000)]
        records = {(e.device_id, e.seq, e.ts_ms, e.content, e.state) for e in entries}
        assert len(records) == len(entries)
        generation = store.look(read_identity).generation
        return cls(frozenset(records), store.look(holding.read_held), generation)

    def is_before(self, first: Picture) -> bool:
        """Whether nothing of the renaming has happened since the first picture."""
        return self == first

    def is_after(self, first: Picture) -> bool:
        """Whether all of it has: those of times that the roof has, too, are left under the old name."""
        there = {ts for device_id, _, ts, _, _ in first.records if device_id != HELD}
        moved = {
            ("roof" if ts not in there else device_id, seq, ts, content, state)
            for device_id, seq, ts, content, state in first.records
        }
        left = {HELD: HeldDevice(HeldWhy.LOST, len(BOTH))}
        return self.records == moved and self.held == left and self.generation != first.generation


def make(folder: Path) -> Edge:
    """Make the spool: of both devices some was sent, of the held one before its name was lost."""
    folder.mkdir()
    with closing(opened(folder)) as store:
        edge = Edge(store)
        for device_id, numbers in ((HELD, OF_HELD), ("roof", OF_ROOF)):
            for number in numbers:
                edge.take(device_id, number)
            edge.deliver(device_id)
            store.offer(device_id, 2, Lane.BACKLOG)  # no answer came
        edge.rows = [row | {"device_id": "roof"} for row in edge.rows]
        store.change(lambda c: holding.hold(c, HELD, HeldWhy.LOST))
    return edge


def look_alone(folder: Path) -> Picture:
    """What a start finds after a kill of the edge, too. Copied by another process: to close ends locks."""
    copy = folder.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    subprocess.run(["cp", "-r", folder, copy], check=True)
    with closing(opened(copy)) as store:
        return Picture.of(store)


@dataclass
class Course:
    """What was found after each number of changes.

    Attributes:
        seen: whether all had happened for an edge that lives on, and whether for one that starts then. They
            may differ: what is committed on the disk, and not yet in the memory both share, the one that
            lives on writes over.
        neither: the number after which something had happened, and not all.
    """

    seen: list[tuple[bool, ...]] = field(default_factory=list)
    neither: list[int] = field(default_factory=list)

    def note(self, changes: int, before: Picture, pictures: list[Picture]) -> None:
        self.seen.append(tuple(picture.is_after(before) for picture in pictures))
        if not all(picture.is_before(before) or picture.is_after(before) for picture in pictures):
            self.neither.append(changes)


def killed_after_each_change(recorder: Path, tmp_path: Path, fault: str = "", *, beside: bool) -> Course:
    first, folder, course = make(tmp_path / "first"), tmp_path / "spool", Course()
    folder.mkdir()
    with command(recorder, folder, fault) as rename:
        for changes in count(1):
            shutil.rmtree(folder)
            shutil.copytree(tmp_path / "first", folder)
            with ExitStack() as stack:
                store = stack.enter_context(closing(opened(folder)))
                edge = Edge(store, deepcopy(first.tally), list(first.rows))
                edge.take("roof", 30)
                before = Picture.of(store)
                if not beside:
                    store.close()
                status = rename.run(changes)
                if status >= 0:
                    assert status == 1  # some are left
                    return course
                assert status == -signal.SIGKILL
                if not beside:
                    edge.store = stack.enter_context(closing(opened(folder)))
                pictures = [Picture.of(edge.store), *([look_alone(folder)] if beside else [])]
                course.note(changes, before, pictures)
                if course.neither:
                    return course
                if beside or changes % _SOME == 1:
                    require_finished(edge, rename, before)
    raise AssertionError("unreachable")


def require_finished(edge: Edge, rename: Command, before: Picture) -> None:
    """Go on, say it once more, and see that nothing is lost, doubled or altered."""
    assert rename.run() == 1
    assert Picture.of(edge.store).is_after(before)
    edge.take("roof", 31)
    account = edge.judged()
    assert account.lost == [f"held/roof/{number}: nowhere" for number in BOTH]
    assert len(account.findings) == len(account.lost), account.findings
    there = [record.entry for record in edge.store.records(0, 1_000) if record.entry.device_id == HELD]
    assert [keys_of(json.loads(entry.content))[0].number for entry in there] == BOTH
    assert [entry.ts_ms for entry in there] == [NOON_MS + 5000 * number for number in BOTH]


@pytest.mark.parametrize("beside", [True, False], ids=["beside an edge", "alone"])
def test_a_renaming_killed_at_any_moment_has_happened_or_not(
    recorder: Path,
    tmp_path: Path,
    beside: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    course = killed_after_each_change(recorder, tmp_path, beside=beside)
    assert not course.neither
    for seen in zip(*course.seen, strict=True):
        assert list(seen) == sorted(seen), "what was done is undone"
    assert not any(course.seen[0])
    assert course.seen[-1][-1], "it was never killed after its commit"


def test_a_renaming_in_two_goes_is_caught(recorder: Path, tmp_path: Path) -> None:
    assert killed_after_each_change(recorder, tmp_path, "renames in two goes", beside=True).neither
