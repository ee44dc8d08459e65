"""The fed edges: processes that take readings whose values follow from the seed."""

from __future__ import annotations

import json
import random
import shutil
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import anyio

from sungrow_lib.demo.processes import Child, python
from sungrow_lib.demo.setup import clean_environment
from sungrow_lib.spool import DurableSpool, SpoolState
from sungrow_lib.spool.packing import unpack
from sungrow_lib.spool.pages import Pages
from tests.crash.account import keys_in
from tests.crash.chain import kill
from tests.crash.edge import STATUS, EdgeOrder
from tests.crash.machine import SmallDisk
from tests.crash.readings import Key, Tally, key_of, read_ledger

FROM_SPOOL: Final = "taken from a spool: on pages it damaged, or newer than the copy it put back"
FULL_AND_RESTORED: Final = "delivered, let go by a full spool, then gone with an older backup of the server"
"""Why a reading can be nowhere although nothing of the product failed."""
_PAGE: Final = 1024


@dataclass(frozen=True, slots=True)
class EdgeKind:
    """One fed edge: its devices, the pace of its readings, and a deliberate fault of the product, if any."""

    name: str
    devices: tuple[str, ...]
    pause_s: float
    grid_ms: int = 1
    fault: str = ""
    max_bytes: int | None = None
    has_small_disk: bool = False
    step_ms: int = 0


EDGES: Final = (
    EdgeKind("plain", ("crash-a", "crash-b"), 0.02),
    EdgeKind("damaged", ("crash-c",), 0.04),
    EdgeKind("twin-1", ("crash-d",), 0.2, 100),
    EdgeKind("twin-2", ("crash-d",), 0.2, 100),
    EdgeKind("clock", ("crash-e",), 0.05),
    EdgeKind("small", ("crash-f",), 0.01, max_bytes=180_000, step_ms=5000),
    EdgeKind("full", ("crash-g",), 0.02, has_small_disk=True, step_ms=5000),
)
"""One with two devices, one whose spool is damaged, two twins of one device, one with a bad clock, one whose
spool may not grow, one whose disk gets full."""


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
        self.undone = set[Key]()
        """Readings that went from the server when an older backup came back."""
        self.copied: Path | None = None
        self._server_went_back = False
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.child = Child(
            f"edge {self.order.name}",
            python("tests.crash.edge", json.dumps(asdict(self.order))),
            self.folder / "log",
            environment=self._environment,
        )
        self._stack.callback(kill, self.child)

    def ledger(self) -> Tally:
        """What became of its readings."""
        return read_ledger(self.folder / "ledger")

    def steer_clock(self, offset_ms: int, *, synchronised: bool) -> None:
        """Set its clock wrong, or right again."""
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
        self._note_taken({key: state for key, state in before.items() if key not in kept})
        for file in self.disk.glob("spool.sqlite*"):
            file.unlink()
        for file in self.copied.iterdir():
            shutil.copy(file, self.disk)
        if self._server_went_back:  # the copy cannot know; the runbook says what to do
            anyio.run(self._offer_all_again)

    async def _offer_all_again(self) -> None:
        """Do what `sungrow-edge spool resend` does."""
        async with DurableSpool.open(self.disk / "spool.sqlite") as spool:
            for device_id in self.order.devices:
                await spool.reoffer(device_id)

    def damage_spool(self, draw: random.Random) -> None:
        """Overwrite some pages, and note which readings stood on them."""
        before = keys_in(self.disk)
        file = self.disk / "spool.sqlite"
        content = bytearray(file.read_bytes())
        pages = len(content) // _PAGE
        chosen = draw.sample(range(1, pages), min(3, max(0, pages - 1)))
        readable = _readable(file)
        for page in chosen:
            content[page * _PAGE : (page + 1) * _PAGE] = draw.randbytes(_PAGE)
        file.write_bytes(content)
        hit = readable - _readable(file)
        self._note_taken({key: state for key, state in before.items() if key in hit})

    def note_server_restored(self, gone: set[Key]) -> None:
        """Note which readings went from the server: what was taken from the spool is nowhere now."""
        self._server_went_back = True
        self.undone |= gone
        self.taken |= dict.fromkeys(gone & self.taken.keys(), False)

    def stuck(self) -> str:
        """Say what is left and what it last said, when it does not come to its end."""
        status = self.folder / STATUS
        said = status.read_text() if status.exists() else "it has not begun to drain"
        return f"{self.child.name}: {said}\nthe end of {self.child.log}:\n{self.child.tail()}"

    def destroyed(self) -> dict[Key, str]:
        """Readings that were nowhere any more once the harness was done, and why; the process has ended."""
        lets_go = self.order.max_bytes or self.order.has_small_disk
        undone = self.undone - keys_in(self.disk).keys() if lets_go else set[Key]()
        taken = {key for key, delivered in self.taken.items() if not delivered}
        return dict.fromkeys(undone, FULL_AND_RESTORED) | dict.fromkeys(taken, FROM_SPOOL)

    def _note_taken(self, gone: dict[Key, SpoolState]) -> None:
        # What is called delivered may have gone from the server, and not have been asked for again yet.
        self.taken |= {
            key: state is SpoolState.DELIVERED and key not in self.undone for key, state in gone.items()
        }


def _readable(file: Path) -> set[Key]:
    """Keys of the readings on sound pages of a spool's file; its log is left out of account."""
    alone = file.with_name("pages")
    shutil.copy(file, alone)
    found: set[Key | None] = set()
    with closing(Pages(alone)) as pages:
        for row in pages.rows():
            kept = row.values[-1]
            if row.rowid is not None and isinstance(kept, bytes):
                with suppress(ValueError):
                    found.add(key_of(json.loads(unpack(kept))))
    alone.unlink()
    return {key for key in found if key is not None}
