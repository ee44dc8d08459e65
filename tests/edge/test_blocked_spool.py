"""Another program blocks the spool as the daemon is told to stop: every poll has its line, and soon."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Self, cast

import anyio
import pytest

from reference_edge import station as module
from reference_edge.account import STOPPED, DeviceAccount
from reference_edge.config import DeviceSettings, EdgeSettings
from reference_edge.intake import Intake
from reference_edge.station import Station
from sungrow_lib.errors import DeviceError, SpoolUnavailableError
from sungrow_lib.inverter import Reading
from sungrow_lib.modbus.results import Outcome
from sungrow_lib.spool import SpoolOptions, SystemClock
from sungrow_lib.spool.opening import SpoolOpening
from sungrow_lib.spool.store import SpoolStore
from tests.edge.test_parts import taken

pytestmark = pytest.mark.anyio


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
    await intake.close()
    accounts["roof"].polled += 1  # the first one was none of the station's
    assert [account.polled for account in accounts.values()] == [2, 1, 1]
    assert [account.not_accepted for account in accounts.values()] == [
        {STOPPED: 2},
        {STOPPED: 1},
        {str(Outcome.SILENT): 1},
    ]


async def test_told_to_hurry_nothing_waits_for_another_program_any_more(tmp_path: Path) -> None:
    path, opening = tmp_path / "spool.db", SpoolOpening()
    with closing(
        SpoolStore(path, SpoolOptions(busy_timeout_s=3600), SystemClock(), opening=opening)
    ) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as tasks:

                async def append() -> None:
                    with pytest.raises(SpoolUnavailableError, match="locked"):
                        await anyio.to_thread.run_sync(store.renew_generation)

                tasks.start_soon(append)
                await anyio.sleep(0.5)  # it waits by then, or begins later: both have to end
                opening.hurries_at = 0
            other.execute("ROLLBACK")
        store.renew_generation()
