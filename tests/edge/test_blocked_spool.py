"""Another program blocks the spool as the daemon is told to stop: every poll has its line, and soon."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, cast

import anyio
import pytest

from reference_edge import app, station as module
from reference_edge.account import STOPPED, DeviceAccount
from reference_edge.config import DeviceSettings, EdgeSettings
from reference_edge.intake import Intake
from reference_edge.lock import SpoolLock
from reference_edge.owner import OwnerFile
from reference_edge.station import Station
from reference_edge.survey import Survey
from sungrow_lib.errors import DeviceError, SpoolUnavailableError
from sungrow_lib.inverter import Reading
from sungrow_lib.modbus.results import Outcome
from sungrow_lib.spool import DurableSpool, SpoolOptions, SystemClock
from sungrow_lib.spool.opening import SpoolOpening
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.upload.status import StatusBoard
from tests.edge.test_parts import taken

pytestmark = pytest.mark.anyio
LONG_S: Final = 60.0
"""Nothing waits so long that is told to end."""


class Blocked:
    """A spool that answers when it is let go, and then refuses."""

    def __init__(self) -> None:
        self.is_asked, self.may_answer = anyio.Event(), anyio.Event()

    async def append_many(self, _: list[Any]) -> list[Any]:
        self.is_asked.set()
        with anyio.CancelScope(shield=True):
            await self.may_answer.wait()
        raise SpoolUnavailableError("The spool is locked by another program; try again.")


class Reader:
    """Answers one poll for three units behind one address."""

    def __init__(self, *_: object, **__: object) -> None:
        self.is_polled = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def wait_turn(self) -> None:
        if self.is_polled:
            await anyio.sleep(math.inf)

    async def poll(self) -> list[Reading]:
        self.is_polled = True
        samples = {name: taken(1).sample.model_copy(update={"device_id": name}) for name in ("roof", "shed")}
        return [
            *(
                Reading(device_id=name, outcome=Outcome.READ, sample=sample, boottime=1.0)
                for name, sample in samples.items()
            ),
            Reading(device_id="barn", outcome=Outcome.SILENT, error=DeviceError("silent")),
        ]


async def test_what_is_polled_while_another_reading_waits_for_the_spool_is_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "InverterReader", Reader)
    names = ("roof", "shed", "barn")
    accounts = {name: DeviceAccount(name, "192.168.1.20:502") for name in names}
    intake, spool = Intake(accounts), Blocked()
    intake.use(cast("Any", spool))
    devices = [
        DeviceSettings(host="192.168.1.20", device_id=name, unit=unit) for unit, name in enumerate(names, 1)
    ]
    settings = EdgeSettings(
        server_url="https://127.0.0.1:1",
        device_token="edge-token-0123456789",
        devices=devices,
        spool_path=tmp_path / "spool.sqlite",
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(intake.put, taken(0))
        await spool.is_asked.wait()
        try:
            async with anyio.create_task_group() as polling:
                polling.start_soon(Station(devices, settings, intake, None).run, anyio.Event())
                await anyio.wait_all_tasks_blocked()
                polling.cancel_scope.cancel()
        finally:
            spool.may_answer.set()
    assert len(intake) == 3
    intake.close()
    accounts["roof"].polled += 1  # the first one was none of the station's
    assert [account.polled for account in accounts.values()] == [2, 1, 1]
    assert [account.not_accepted for account in accounts.values()] == [
        {STOPPED: 2},
        {STOPPED: 1},
        {str(Outcome.SILENT): 1},
    ]


@pytest.mark.parametrize("refusal", [None, "The spool is locked by another program; try again."])
async def test_nothing_is_sent_at_the_end_from_a_spool_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str | None
) -> None:
    """It could not be noted as offered, and only takes time that a stop does not have."""
    flushed: list[float] = []

    class Uploader:
        def __init__(self, *_: object) -> None:
            self.status = StatusBoard().snapshot()

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def flush(self, deadline_s: float) -> bool:
            flushed.append(deadline_s)
            return True

    async def work(self: app._Edge, *_: object) -> None:
        self.intake.refusal = refusal

    monkeypatch.setattr(app, "BatchUploader", Uploader)
    monkeypatch.setattr(app._Edge, "_work", work)
    settings = EdgeSettings(
        server_url="https://127.0.0.1:1",
        device_token="edge-token-0123456789",
        devices=[DeviceSettings(host="192.168.1.20", device_id="roof")],
        spool_path=tmp_path / "spool.sqlite",
    )
    owner_file = OwnerFile.read_at(settings.spool_path)
    survey = Survey(tmp_path, owner_file=owner_file)
    with closing(SpoolLock(settings.spool_path)) as lock:
        edge = app._Edge(settings, {}, Intake({}), survey, lock, owner_file)
        async with DurableSpool.open(settings.spool_path) as spool, AsyncExitStack() as stack:
            await edge._use(stack, spool, anyio.Event())
    assert bool(flushed) is (refusal is None)


class Watched(SpoolOpening):
    """Tells that something waits for another program."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Event()

    def step(self) -> None:
        super().step()
        self.waits.set()

    def may_wait(self, until: float) -> bool:
        self.waits.set()
        return super().may_wait(until)


@contextmanager
def locked(path: Path, how: str) -> Iterator[None]:
    """Let another program lock a spool: against writing, or altogether."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        if how == "altogether":
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def ends_soon(job: Callable[[], object], waits: threading.Event, end: Callable[[], None]) -> None:
    """See that what waits for another program is refused soon after it was told to end."""
    async with anyio.create_task_group() as tasks:

        async def work() -> None:
            with pytest.raises(SpoolUnavailableError):
                await anyio.to_thread.run_sync(job)

        tasks.start_soon(work)
        waits.clear()
        assert await anyio.to_thread.run_sync(waits.wait, LONG_S)
        end()
        told_at = anyio.current_time()
    assert anyio.current_time() < told_at + LONG_S / 2  # a machine that is busy takes its time


async def test_told_to_hurry_nothing_waits_for_another_program_any_more(tmp_path: Path) -> None:
    path, opening = tmp_path / "spool.db", Watched()
    with closing(
        SpoolStore(path, SpoolOptions(busy_timeout_s=LONG_S), SystemClock(), opening=opening)
    ) as store:
        with locked(path, "against writing"):
            await ends_soon(store.renew_generation, opening.waits, partial(hurry, opening))
        store.renew_generation()


def hurry(opening: SpoolOpening) -> None:
    opening.hurries_at = 0.0


@pytest.mark.parametrize("end", [hurry, SpoolOpening.end], ids=["hurry", "end"])
@pytest.mark.parametrize("how", ["against writing", "altogether"])
@pytest.mark.parametrize("recover", [True, False])
async def test_opening_a_locked_spool_ends_soon_when_told_to(
    tmp_path: Path,
    how: str,
    end: Callable[[SpoolOpening], None],
    recover: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    path, opening = tmp_path / "spool.db", Watched()
    options = SpoolOptions(busy_timeout_s=LONG_S, recover=recover)
    SpoolStore(path, options, SystemClock()).close()
    before = path.read_bytes()
    with locked(path, how):
        job = partial(SpoolStore, path, options, SystemClock(), opening=opening)
        await ends_soon(job, opening.waits, partial(end, opening))
    assert path.read_bytes() == before
    SpoolStore(path, options, SystemClock()).close()


async def test_a_spool_that_is_locked_for_a_moment_is_opened(tmp_path: Path) -> None:
    path, opening = tmp_path / "spool.db", Watched()
    options = SpoolOptions(busy_timeout_s=LONG_S)
    SpoolStore(path, options, SystemClock()).close()
    opened: list[SpoolStore] = []
    async with anyio.create_task_group() as tasks:
        with locked(path, "altogether"):
            job = partial(SpoolStore, path, options, SystemClock(), opening=opening)
            tasks.start_soon(anyio.to_thread.run_sync, lambda: opened.append(job()))
            opening.waits.clear()
            assert await anyio.to_thread.run_sync(opening.waits.wait, LONG_S)
    opened[0].close()


@pytest.mark.parametrize("is_hurried", [False, True])
async def test_room_on_a_full_disk_waits_for_who_reads_and_holds_the_log(
    tmp_path: Path,
    is_hurried: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    path, opening = tmp_path / "spool.db", Watched()
    options = SpoolOptions(busy_timeout_s=LONG_S)

    def size() -> int:
        return Path(f"{path}-wal").stat().st_size

    with (
        closing(SpoolStore(path, options, SystemClock(), opening=opening)) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM reading").fetchall()
        store.renew_generation()
        opening.waits.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, partial(store.relief.make_room, settling=True))
            assert await anyio.to_thread.run_sync(opening.waits.wait, LONG_S)
            assert size()
            if is_hurried:
                hurry(opening)
            else:
                other.execute("COMMIT")
        if is_hurried:
            other.execute("COMMIT")
            store.relief.make_room(settling=True)
        store._database.fold_log()
        assert not size()
