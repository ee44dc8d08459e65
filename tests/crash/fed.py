"""The fed edges: processes that take readings whose values follow from the seed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import anyio

from sungrow_lib.demo.processes import Child, python
from sungrow_lib.demo.setup import clean_environment
from sungrow_lib.spool import DurableSpool, SpoolOptions
from tests.crash.card import Card, Carried
from tests.crash.chain import kill, spool_command
from tests.crash.edge import DELIVERED, HURRY, STATUS, EdgeOrder
from tests.crash.failing import FailingDisk
from tests.crash.machine import SmallDisk, preloaded
from tests.crash.readings import Tally, key_of, read_ledger


@dataclass(frozen=True, slots=True)
class EdgeKind:
    """One fed edge: devices, pace of readings and uploads, and a deliberate fault of the product, if any."""

    name: str
    devices: tuple[str, ...]
    pause_s: float
    hurry_s: float = 0.0
    grid_ms: int = 1
    fault: str = ""
    max_bytes: int | None = None
    has_small_disk: bool = False
    step_ms: int = 0
    answer_s: float = 4.0
    batch_size: int = 40
    upload_interval_s: float = 0.2


NARROWED: Final = "guest"
"""Name of the edge that has a line of its own, which gets narrow."""
EDGES: Final = (
    EdgeKind("plain", ("crash-a", "crash-b"), 0.02),
    EdgeKind("damaged", ("crash-c",), 0.04),
    EdgeKind("twin-1", ("crash-d",), 0.2, grid_ms=100),
    EdgeKind("twin-2", ("crash-d",), 0.2, grid_ms=100),
    EdgeKind("clock", ("crash-e",), 0.05),
    EdgeKind("small", ("crash-f",), 0.2, 0.02, max_bytes=180_000, step_ms=5000),
    EdgeKind(NARROWED, ("crash-h",), 0.2, 0.005, answer_s=8.0, batch_size=1000),
    EdgeKind("full", ("crash-g",), 0.2, 0.005, has_small_disk=True, step_ms=5000),
)
"""One with two devices, one whose spool is damaged, two twins of one device, one with a bad clock, one whose
spool may not grow, one whose spool gets into the place of others' and
whose line gets narrow, one whose disk gets full. The two with the least room hurry only while they are to run
out of it, and that with the narrow line until it has more to send than fits into a batch."""


class FedEdge:
    """A process of `edge.py`, and what the harness did to its spool.

    Args:
        order: what the process is told.
        stack: ends it.
        failing: its disk, where that may fail.
    """

    label: Final = ""
    """What stands before the names of what is done to it."""
    few: Final = 10
    """So many readings more wait in its spool before something happens to that."""

    def __init__(self, order: EdgeOrder, stack: ExitStack, failing: FailingDisk | None = None) -> None:
        self.order, self._stack, self.failing = order, stack, failing
        self.folder, self.disk = Path(order.folder), Path(order.disk)
        self.folder.mkdir()
        self._environment = clean_environment()
        if order.has_small_disk:
            self.small_disk = SmallDisk(self.disk, self.folder / "shim", stack)
            self._environment |= self.small_disk.environment
        else:
            self.disk.mkdir()
        if failing is not None:
            self._environment |= preloaded(failing.environment)
        lets_go = bool(order.max_bytes or order.has_small_disk)
        self.card = Card(self.disk, Carried(), lets_go=lets_go)
        self.no_room_until = math.inf if order.max_bytes else 0.0
        """s since 1970 until which it had to do without room."""
        self.is_misled = False
        """Whether its clock was ever set wrong."""
        self.starts, self.ended = 0, list[str]()
        self.start()

    def start(self) -> None:
        """Start the process."""
        if self.card.wants_resend:
            self.card.wants_resend = False
            anyio.run(self._offer_all_again)
        self.starts += 1
        self.child = Child(
            f"edge {self.order.name}",
            python("tests.crash.edge", json.dumps(asdict(self.order))),
            self.folder / "log",
            environment=self._environment,
        )
        self._stack.callback(kill, self.child)

    def kill(self, *, may_have_ended: bool = False) -> None:
        """Kill the process, and look what it leaves."""
        kill(self.child, None if may_have_ended else self.ended)
        self.card.look()

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """Let it take readings faster."""
        (self.folder / HURRY).touch()
        try:
            yield
        finally:
            (self.folder / HURRY).unlink()

    @property
    def log(self) -> Path:
        """What it says."""
        return self.child.log

    def accepted(self) -> int:
        """How many readings its spool has accepted so far."""
        ledger = self.folder / "ledger"
        return ledger.read_bytes().count(b"\nhas ") if ledger.exists() else 0

    def delivered(self, device_id: str) -> int:
        """How many of a device's readings it has called delivered; it may be killed before it says so."""
        file = self.folder / DELIVERED.format(device_id)
        return file.stat().st_size if file.exists() else 0

    @staticmethod
    def device_of(contents: Sequence[dict[str, Any]]) -> str:
        """Return whose readings these are: they say so."""
        key = key_of(contents[0])
        assert key is not None, f"no reading of a fed edge: {contents[0]}"
        return key.device_id

    def said(self, *command: str, environment: dict[str, str] | None = None) -> str | None:
        """Run a spool command on its spool; return what it printed, or None when it failed."""
        return spool_command(*command, "--spool", str(self.card.path), environment=environment)

    def ledger(self) -> Tally:
        """What became of its readings."""
        return read_ledger(self.folder / "ledger")

    def steer_clock(self, offset_ms: int, *, synchronised: bool) -> None:
        """Set its clock wrong, or right again."""
        self.is_misled = True
        draft = self.folder / "clock.new"
        draft.write_text(json.dumps({"offset_ms": offset_ms, "synchronised": synchronised}))
        draft.replace(self.folder / "clock.json")

    async def _offer_all_again(self) -> None:
        """Do what `sungrow-edge spool resend` does."""
        options = SpoolOptions(recover=True)
        async with DurableSpool.open(self.disk / "spool.sqlite", options=options) as spool:
            for device_id in self.order.devices:
                await spool.reoffer(device_id)

    def stuck(self) -> str:
        """Say what is left and what it last said, when it does not come to its end."""
        status = self.folder / STATUS
        said = status.read_text() if status.exists() else "it has not begun to drain"
        return f"{self.child.name}: {said}\nthe end of {self.child.log}:\n{self.child.tail()}"
