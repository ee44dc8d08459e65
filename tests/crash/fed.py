"""The fed edges: processes that take readings whose values follow from the seed."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import anyio

from sungrow_lib.demo.processes import Child, python
from sungrow_lib.demo.setup import clean_environment
from sungrow_lib.spool import DurableSpool, SpoolOptions, SpoolState
from tests.crash.account import keys_in, spool_records
from tests.crash.chain import kill
from tests.crash.damage import REWINDING, Damage, Files, fold, pages_overwritten, touched
from tests.crash.edge import HURRY, STATUS, EdgeOrder
from tests.crash.machine import SmallDisk
from tests.crash.readings import Key, Tally, keys_of, read_ledger

NEWER_THAN_COPY: Final = "taken from a spool: newer than the copy it put back"
COPIED_OVER: Final = "taken from a spool: replaced by a copy of another edge's"
DAMAGED: Final = "taken from a spool: on pages and in frames it damaged or took away, and on no other"
FULL_AND_RESTORED: Final = "delivered, let go by a full spool, then taken from the server by an older backup"
LET_GO_UNASKED: Final = (
    "delivered, taken from the server by an older backup, let go by a full spool before it asked"
)
"""Why a reading can be nowhere although nothing of the product failed."""
_FEW_FRAMES: Final = 8
"""A log with fewer has hardly begun."""


@dataclass(frozen=True, slots=True)
class EdgeKind:
    """One fed edge: its devices, the pace of its readings, and a deliberate fault of the product, if any."""

    name: str
    devices: tuple[str, ...]
    pause_s: float
    hurry_s: float = 0.0
    grid_ms: int = 1
    fault: str = ""
    max_bytes: int | None = None
    has_small_disk: bool = False
    step_ms: int = 0


EDGES: Final = (
    EdgeKind("plain", ("crash-a", "crash-b"), 0.02),
    EdgeKind("damaged", ("crash-c",), 0.04),
    EdgeKind("twin-1", ("crash-d",), 0.2, grid_ms=100),
    EdgeKind("twin-2", ("crash-d",), 0.2, grid_ms=100),
    EdgeKind("clock", ("crash-e",), 0.05),
    EdgeKind("small", ("crash-f",), 0.2, 0.01, max_bytes=180_000, step_ms=5000),
    EdgeKind("full", ("crash-g",), 0.2, 0.005, has_small_disk=True, step_ms=5000),
)
"""One with two devices, one whose spool is damaged, two twins of one device, one with a bad clock, one whose
spool may not grow, one whose disk gets full. The last two hurry only while they are to run out of room."""


class FedEdge:
    """A process of `edge.py`, and what the harness did to its spool."""

    def __init__(self, order: EdgeOrder, stack: ExitStack) -> None:
        self.order, self._stack = order, stack
        self.folder, self.disk = Path(order.folder), Path(order.disk)
        self.folder.mkdir()
        self._environment = clean_environment()
        if order.has_small_disk:
            self.small_disk = SmallDisk(self.disk, self.folder / "shim", stack)
            self._environment |= self.small_disk.environment
        else:
            self.disk.mkdir()
        self.taken: dict[Key, bool] = {}
        """Readings the harness took from the spool; whether the server has had them ever since."""
        self._why: dict[Key, str] = {}
        self._older = Files(b"")
        self.touched = set[Key]()
        """Readings of which it damaged a page, of whatever version."""
        self.undone = set[Key]()
        """Readings that went from the server when an older backup came back."""
        self._nowhere = set[Key]()
        """Those of them that the spool, for want of room, had not kept."""
        self.no_room_until = math.inf if order.max_bytes else 0.0
        """s since 1970 until which it had to do without room."""
        self.is_misled = False
        """Whether its clock was ever set wrong."""
        self.copied: Path | None = None
        self._server_went_back = False
        self.starts, self.ended = 0, list[str]()
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.starts += 1
        self.child = Child(
            f"edge {self.order.name}",
            python("tests.crash.edge", json.dumps(asdict(self.order))),
            self.folder / "log",
            environment=self._environment,
        )
        self._stack.callback(kill, self.child)

    @property
    def lets_go(self) -> bool:
        """Whether its spool cannot keep what is delivered."""
        return bool(self.order.max_bytes or self.order.has_small_disk)

    def kill(self, *, may_have_ended: bool = False) -> None:
        """Kill the process, and look what it leaves: what waits in the spool is not taken away any more."""
        kill(self.child, None if may_have_ended else self.ended)
        if self.lets_go and self.undone:
            states = keys_in(self.disk)
            self.undone -= {key for key, state in states.items() if state is not SpoolState.DELIVERED}

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """Let it take readings faster."""
        (self.folder / HURRY).touch()
        try:
            yield
        finally:
            (self.folder / HURRY).unlink()

    def ledger(self) -> Tally:
        """What became of its readings."""
        return read_ledger(self.folder / "ledger")

    def steer_clock(self, offset_ms: int, *, synchronised: bool) -> None:
        """Set its clock wrong, or right again."""
        self.is_misled = True
        draft = self.folder / "clock.new"
        draft.write_text(json.dumps({"offset_ms": offset_ms, "synchronised": synchronised}))
        draft.replace(self.folder / "clock.json")

    def copy_spool(self) -> None:
        """Keep a copy of the spool to restore later; the process must not run."""
        self.copied = self.folder.with_name(f"{self.folder.name}-copy")
        self._server_went_back = False
        shutil.rmtree(self.copied, ignore_errors=True)
        self.copied.mkdir()
        for file in self.disk.glob("spool.sqlite*"):
            shutil.copy(file, self.copied)

    def restore_spool(self) -> None:
        """Put the copy in the place of the spool, and note what that takes away."""
        assert self.copied is not None
        before, kept = keys_in(self.disk), keys_in(self.copied)
        self._note_taken({key: state for key, state in before.items() if key not in kept}, NEWER_THAN_COPY)
        for file in self.disk.glob("spool.sqlite*"):
            file.unlink()
        for file in self.copied.iterdir():
            shutil.copy(file, self.disk)
        if self._server_went_back:  # the copy cannot know; the runbook says what to do
            anyio.run(self._offer_all_again)

    def take_over(self, other: FedEdge) -> None:
        """Replace the spool by a copy of another edge's, as a copied card does; neither process may run."""
        before, copied = keys_in(self.disk), keys_in(other.disk)
        self._note_taken({key: state for key, state in before.items() if key not in copied}, COPIED_OVER)
        for file in self.disk.glob("spool.sqlite*"):
            file.unlink()
        for file in other.disk.glob("spool.sqlite*"):
            shutil.copy(file, self.disk)

    async def _offer_all_again(self) -> None:
        """Do what `sungrow-edge spool resend` does."""
        options = SpoolOptions(recover=True)
        async with DurableSpool.open(self.disk / "spool.sqlite", options=options) as spool:
            for device_id in self.order.devices:
                await spool.reoffer(device_id)

    def damage(self, damage: Damage, draw: random.Random) -> bool:
        """Damage the spool's files, and note which readings are on none of them any more.

        Returns:
            Whether there was anything to damage.
        """
        path = self.disk / "spool.sqlite"
        if damage is pages_overwritten and draw.random() < 0.5:
            fold(path)
        before, files = keys_in(self.disk), Files.read(path)
        older, self._older = self._older, files
        after = damage(files, older, draw)
        there = files.keys()
        hit = there - after.keys()
        assert before.keys() <= there, "the harness does not find what the spool has"
        after.write(path)
        self.touched |= touched(files, after)
        gone = {key: state for key, state in before.items() if key in hit}
        self._note_taken(gone, DAMAGED)
        if damage in REWINDING and self.undone:  # it cannot know either; the runbook says what to do
            anyio.run(self._offer_all_again)
        return after != files and (damage is pages_overwritten or files.frames >= _FEW_FRAMES)

    def note_server_restored(self, gone: set[Key]) -> None:
        """Note which readings went from the server: what was taken from the spool is nowhere now."""
        self._server_went_back = True
        if self.lets_go:  # it does not run
            self._nowhere |= gone - keys_in(self.disk).keys()
        self.undone |= gone - self._nowhere
        self.taken |= dict.fromkeys(gone & self.taken.keys(), False)

    def stuck(self) -> str:
        """Say what is left and what it last said, when it does not come to its end."""
        status = self.folder / STATUS
        said = status.read_text() if status.exists() else "it has not begun to drain"
        return f"{self.child.name}: {said}\nthe end of {self.child.log}:\n{self.child.tail()}"

    def destroyed(self) -> dict[Key, str]:
        """Readings that were nowhere any more once the harness was done, and why; the process has ended."""
        let_go = self.undone - keys_in(self.disk).keys() if self.lets_go else set[Key]()
        taken = {key: self._why[key] for key, delivered in self.taken.items() if not delivered}
        restored = dict.fromkeys(self._nowhere, FULL_AND_RESTORED)
        return dict.fromkeys(let_go, LET_GO_UNASKED) | restored | taken

    def set_apart(self) -> set[Key]:
        """Readings a recovery kept and did not send: it could not know whether they had been sent already."""
        records = spool_records(self.disk)
        return {key for r in records if r.code == "doubtful" for key in keys_of(json.loads(r.entry.content))}

    def _note_taken(self, gone: dict[Key, SpoolState], why: str) -> None:
        # What is called delivered may have gone from the server, and not have been asked for again yet.
        self._why |= dict.fromkeys(gone, why)
        self.taken |= {
            key: state is SpoolState.DELIVERED and key not in self.undone for key, state in gone.items()
        }
