"""A process with a spool and an uploader of the product, fed with many readings a second: `edge.py SETTINGS`.

It runs until the file `finish` appears in its folder; then it takes one last reading of each device and ends
when all are delivered.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import anyio

from reference_edge.owner import OwnerFile
from sungrow_lib.errors import SpoolCorruptError, SpoolError, SpoolUnavailableError
from sungrow_lib.logs import configure_logging
from sungrow_lib.spool import BootStamp, DurableSpool, SpoolOptions, SpoolState
from sungrow_lib.spool.clock import ClockReading
from sungrow_lib.upload import BatchUploader, UploadSettings, backoff
from sungrow_lib.upload.status import StatusBoard
from tests.crash.readings import Key, Ledger, read_ledger, reading

FINISH: Final = "finish"
"""Name of the file that ends it."""
DELIVERED: Final = "delivered-{}"
"""Name of the file of a device that gets a byte for each of its readings that proves delivered."""
HURRY: Final = "hurry"
"""Name of the file while which is there it takes readings faster."""
STATUS: Final = "status.json"
"""Name of the file in which it says, while it ends, what is left and how the uploader fares."""
_LOOK_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
"""Instead of minutes: it is to come back into the faults, not to wait until they are over."""
_PATIENT_S: Final = 60.0
"""So long it waits for an answer at the end: none is lost any more, and a busy machine takes its time."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class EdgeOrder:
    """What such a process is told.

    Attributes:
        name: of this edge.
        folder: where ledger and clock are.
        disk: where the spool is.
        url, ca, token_file: of the server.
        devices: whose readings it takes.
        seed: of the readings' values.
        pause_s: between two readings.
        hurry_s: the same while the file `hurry` is in its folder; 0 for no other pace.
        grid_ms: in every fourth second dates are multiples of this, so that two edges of one device meet;
            not always, for a server restored from a backup knows edges by their dates.
        max_bytes: limit of its spool's file.
        has_small_disk: whether its spool lies on a disk that gets full.
        step_ms: its readings are dated so far apart, from `begin_ms` on; 0 for the date they are taken at.
        fault: a deliberate fault of the product to run with; "" for none.
        disk_may_fail: whether to try again, instead of ending, when its spool cannot be used.
        answer_s: how long it waits for an answer.
        batch_size: so many readings go into one request at most.
        upload_interval_s: between two uploads.
    """

    name: str
    folder: str
    disk: str
    url: str
    ca: str
    token_file: str
    devices: tuple[str, ...]
    seed: int
    pause_s: float = 0.01
    hurry_s: float = 0.0
    grid_ms: int = 1
    max_bytes: int | None = None
    has_small_disk: bool = False
    step_ms: int = 0
    begin_ms: int = 0
    fault: str = ""
    disk_may_fail: bool = False
    answer_s: float = 4.0
    batch_size: int = 40
    upload_interval_s: float = 0.2

    @property
    def is_twin(self) -> bool:
        """Whether there is another edge of the same device."""
        return self.grid_ms > 1


class SteeredClock:
    """A clock that goes wrong when a file beside the spool says so.

    Args:
        file: JSON: `offset_ms` of the wall clock, `synchronised`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> ClockReading:
        """Read both clocks now."""
        state: dict[str, Any] = {"offset_ms": 0, "synchronised": True}
        if self._file.exists():
            state = json.loads(self._file.read_text())
        wall_ms = time.time_ns() // 1_000_000 + int(state["offset_ms"])
        return ClockReading(
            wall_ms, BootStamp("boot", time.monotonic_ns() // 1_000_000), state["synchronised"]
        )


class _Feeder:
    def __init__(self, order: EdgeOrder, spool: DurableSpool, clock: SteeredClock) -> None:
        self._order, self._spool, self._clock = order, spool, clock
        file, self._hurry = Path(order.folder, "ledger"), Path(order.folder, HURRY)
        tried = read_ledger(file).tried
        self._next = {
            device: 1 + max((key.number for key in tried if key.device_id == device), default=0)
            for device in order.devices
        }
        self._ledger = Ledger(file)

    async def feed(self, stopping: anyio.Event) -> None:
        """Take readings of all devices in turn."""
        while not stopping.is_set():
            for device in self._order.devices:
                await self.take(device)
                await anyio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        return self._order.hurry_s if self._order.hurry_s and self._hurry.exists() else self._order.pause_s

    async def take(self, device_id: str) -> None:
        """Take one reading, and write down what became of it."""
        key = Key(self._order.name, device_id, self._next[device_id])
        self._next[device_id] += 1
        now = self._clock.read()
        order, true_ms, wall_ms = self._order, time.time_ns() // 1_000_000, now.wall_ms
        if order.step_ms:
            true_ms = wall_ms = order.begin_ms + key.number * order.step_ms
        if wall_ms // 1000 % 4 == 0:
            wall_ms -= wall_ms % order.grid_ms
        date = _EPOCH + timedelta(milliseconds=wall_ms)
        self._ledger.note("try", key, f"{true_ms} {time.time():.3f}")
        is_final = bool(order.step_ms)
        try:
            entry = await self._spool.append(
                reading(order.seed, key, date), boot=now.stamp, ts_is_final=is_final
            )
        except SpoolError as error:
            self._ledger.note("no", key, error)
            return
        self._ledger.note("has", key, entry.ts_ms if entry.state is SpoolState.PENDING else "")


async def _upload(spool: DurableSpool, settings: UploadSettings, until: anyio.Event) -> None:
    async with BatchUploader(spool, settings) as uploader, anyio.create_task_group() as tasks:
        tasks.start_soon(uploader.run)
        await until.wait()
        tasks.cancel_scope.cancel()


async def _drain(spool: DurableSpool, settings: UploadSettings, folder: Path) -> None:
    """Deliver all there is, with a new uploader: whatever the old one waited for."""
    deferred = [record.entry.seq async for record in spool.records(SpoolState.DEFERRED)]
    await spool.requeue(deferred)
    async with BatchUploader(spool, settings) as uploader, anyio.create_task_group() as tasks:
        tasks.start_soon(uploader.run)
        while (counts := await spool.counts()).undelivered:
            draft = folder / f"{STATUS}.new"
            state = {"spool": asdict(counts), "uploader": asdict(uploader.status)}
            draft.write_text(json.dumps(state, default=str))
            draft.replace(folder / STATUS)
            await anyio.sleep(_LOOK_S)
        tasks.cancel_scope.cancel()


async def run(order: EdgeOrder) -> None:
    """Take and deliver readings until told to stop; then deliver the rest. A damaged spool is opened anew."""
    clock = SteeredClock(Path(order.folder, "clock.json"))
    options = SpoolOptions(
        recover=True,
        reserve_bytes=0 if order.max_bytes else 5_000_000 if order.has_small_disk else 1_000_000,
        max_bytes=order.max_bytes,
        merge_when_full=True,
    )
    path, damage, is_done = Path(order.disk, "spool.sqlite"), None, False
    owner_file = None if order.is_twin else OwnerFile(path)  # a twin may get the other's card
    while not is_done:
        try:
            if owner_file is not None:
                owner_file.read()  # a disk that failed at the start had not told
                options = replace(options, owner=owner_file.owner)
            async with DurableSpool.open(path, options=options, clock=clock, damage=damage) as spool:
                try:
                    await _work(order, spool, clock, owner_file)
                except* SpoolCorruptError:  # alone, or of some task
                    assert spool.damage is not None
                damage = spool.damage
                is_done = damage is None
        except* SpoolUnavailableError as error:
            if not order.disk_may_fail:
                raise
            print(f"once more: {error.exceptions[0]}", file=sys.stderr)  # noqa: T201 - its log
            await anyio.sleep(_LOOK_S)


async def _work(
    order: EdgeOrder, spool: DurableSpool, clock: SteeredClock, owner_file: OwnerFile | None
) -> None:
    folder = Path(order.folder)
    settings = UploadSettings(
        server_url=order.url,
        token_file=Path(order.token_file),
        ca_file=Path(order.ca),
        batch_size=order.batch_size,
        upload_interval_s=order.upload_interval_s,
        request_timeout_s=order.answer_s,
    )
    stopping = anyio.Event()
    feeder = _Feeder(order, spool, clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feeder.feed, stopping)
        tasks.start_soon(_upload, spool, settings, stopping)
        while not ((folder / FINISH).exists() or spool.damage):
            with suppress(SpoolError):  # whoever needs the spool says so
                await spool.keep_place()
                if owner_file is not None:
                    owner_file.remember(await spool.owner())
            await anyio.sleep(_LOOK_S)
        stopping.set()
    if spool.damage is None:
        for device in order.devices:
            await feeder.take(device)
        await _drain(spool, replace(settings, request_timeout_s=max(order.answer_s, _PATIENT_S)), folder)


def note_deliveries(folder: Path) -> None:
    """Write down how many readings the uploader calls delivered, as soon as the spool knows."""
    note = StatusBoard.delivered

    def delivered(self: StatusBoard, device_id: str, count: int, server_version: str | None) -> None:
        note(self, device_id, count, server_version)
        with (folder / DELIVERED.format(device_id)).open("ab", buffering=0) as file:
            file.write(b"." * count)

    StatusBoard.delivered = delivered  # type: ignore[method-assign]


if __name__ == "__main__":
    configure_logging("WARNING")
    vars(backoff)["LIMIT_S"] = _LONGEST_PAUSE_S
    told = EdgeOrder(**json.loads(sys.argv[1]))
    note_deliveries(Path(told.folder))
    if told.fault:
        from tests.crash import broken

        broken.apply(told.fault, told.devices)
    anyio.run(run, told)
