"""The edge daemon: every reading of every inverter into the spool, everything in the spool to the server."""

from __future__ import annotations

import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Final

import anyio

from reference_edge.account import DeviceAccount
from reference_edge.config import EdgeSettings
from reference_edge.health import HealthReport
from reference_edge.intake import Intake
from reference_edge.lock import SpoolLock
from reference_edge.opening import tell_of_opening
from reference_edge.owner import OwnerFile
from reference_edge.station import Station, by_address, device_info
from reference_edge.survey import Survey
from sungrow_lib.errors import SpoolError
from sungrow_lib.service_manager import ServiceManager
from sungrow_lib.spool import DurableSpool, SpoolOpening, SpoolOptions
from sungrow_lib.upload import BatchUploader, UploadSettings
from sungrow_lib.upload.status import StatusBoard

_LOG: Final = logging.getLogger("sungrow_edge")
_LAST_PASS_S: Final = 5.5
"""Seconds the pass under way may take to end when the daemon is told to stop: a request waits five."""
_FLUSH_S: Final = 2.0
"""Seconds the uploader gets then; what is left stays in the spool. A slow disk needs the rest of the ten."""
_ANEW_S: Final = 5.0
"""Seconds before a spool found damaged is opened anew."""
_SPOOL: Final = SpoolOptions(recover=True, reserve_bytes=8_000_000, merge_when_full=True)
"""A damaged spool is set aside and what is readable taken over; a full disk loses nothing silently."""


async def run_edge(settings: EdgeSettings, lock: SpoolLock) -> None:
    """Poll and upload until SIGTERM or SIGINT, then finish what is under way and return.

    A spool that proves to be damaged on the way is recovered at once, as at a start.

    Raises:
        SpoolError: the spool cannot be opened, or another daemon has got hold of it.
        ConfigurationError: a certificate, token file, port or lock folder cannot be used.
    """
    accounts = {
        device.device_id: DeviceAccount(device.device_id, f"{device.host}:{device.port}")
        for device in settings.inverters
    }
    owner_file = OwnerFile(settings.spool_path)
    edge = _Edge(
        settings,
        accounts,
        Intake(accounts, settings.commit_interval_s),
        Survey(settings.spool_path.absolute().parent, owner_file=owner_file),
        lock,
        owner_file,
    )
    stopping = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch_signals, stopping, edge.service)
        tasks.start_soon(edge.watch_lock, stopping)
        while not stopping.is_set():
            await edge.run(stopping)
            with anyio.move_on_after(0 if stopping.is_set() else _ANEW_S):
                await stopping.wait()
        tasks.cancel_scope.cancel()
    if edge.lost is not None:
        raise edge.lost


async def _watch_signals(stopping: anyio.Event, service: ServiceManager) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            _LOG.info("stopping", extra={"signal": signal.Signals(number).name})
            service.say(STOPPING="1", STATUS="stopping")
            stopping.set()


@dataclass
class _Edge:
    """What outlives a spool that has to be opened anew."""

    settings: EdgeSettings
    accounts: dict[str, DeviceAccount]
    intake: Intake
    survey: Survey
    lock: SpoolLock
    owner_file: OwnerFile
    damage: str | None = None
    lost: SpoolError | None = None

    def __post_init__(self) -> None:
        self.service = ServiceManager()

    async def watch_lock(self, stopping: anyio.Event) -> None:
        """End if another daemon gets hold of the lock."""
        try:
            await self.lock.watch()
        except SpoolError as error:
            _LOG.error("another daemon works on this spool; this one ends", extra={"reason": str(error)})
            self.lost = error
            stopping.set()

    async def run(self, stopping: anyio.Event) -> None:
        """Work until ``stopping`` is set or the spool is found damaged."""
        settings = self.settings
        async with AsyncExitStack() as stack:
            spool = await self._open(stack, stopping)
            if spool is None:
                return
            spool.guard_place(self.lock.holds)
            uploader = await stack.enter_async_context(BatchUploader(spool, upload_settings(settings)))
            intervals = {device.device_id: device.poll_interval_s for device in settings.inverters}
            with self._metrics(intervals, uploader):
                await self._work(stopping, spool, uploader)
            is_done = await uploader.flush(_FLUSH_S)
            self.damage = spool.damage
            _LOG.info("stopped", extra={"everything_delivered": is_done})

    async def _open(self, stack: AsyncExitStack, stopping: anyio.Event) -> DurableSpool | None:
        """Open the spool, for the stack to close; None if the daemon was told to stop before it was open."""
        self.intake.spool = None
        spool, opening = None, SpoolOpening()
        health = HealthReport(self.settings.health_path, self.accounts, self.survey, StatusBoard().snapshot)
        async with anyio.create_task_group() as beside:
            beside.start_soon(tell_of_opening, opening, self.service, self.survey, health)
            beside.start_soon(_cancel_after, beside.cancel_scope, stopping.wait)
            spool = await stack.enter_async_context(
                DurableSpool.open(
                    self.settings.spool_path,
                    options=replace(_SPOOL, owner=self.owner_file.owner),
                    damage=self.damage,
                    opening=opening,
                )
            )
            beside.cancel_scope.cancel()
        if spool is None:
            await self.intake.close()
            _LOG.info("stopped before the spool was open; what was begun on it begins anew at the next start")
        return spool

    def _metrics(
        self, intervals: Mapping[str, float], uploader: BatchUploader
    ) -> AbstractContextManager[None]:
        if not self.settings.metrics_port:
            return nullcontext()
        from reference_edge.metrics import EdgeCollector, serving  # noqa: PLC0415 - memory, only where wanted

        collector = EdgeCollector(
            self.accounts, intervals, self.survey, lambda: uploader.status, lambda: len(self.intake)
        )
        return serving(self.settings.metrics_port, collector)

    async def _work(self, stopping: anyio.Event, spool: DurableSpool, uploader: BatchUploader) -> None:
        self.intake.use(spool)
        stations = [
            Station(devices, self.settings, self.intake, uploader)
            for devices in by_address(self.settings.inverters)
        ]
        health = HealthReport(self.settings.health_path, self.accounts, self.survey, lambda: uploader.status)
        async with anyio.create_task_group() as beside:
            beside.start_soon(uploader.run)
            beside.start_soon(health.run)
            beside.start_soon(self.intake.run)
            beside.start_soon(self.intake.watch)
            beside.start_soon(self.survey.run, spool, uploader, self.accounts, self.intake)
            beside.start_soon(self.service.run, self._status_line, lambda: _stuck(stations))
            _LOG.info("started", extra={"devices": list(self.accounts)})
            self.service.say(READY="1", STATUS="started")
            await self._poll(stations, stopping, spool)
            beside.cancel_scope.cancel()
        if stopping.is_set():
            await self.intake.close()

    async def _poll(self, stations: list[Station], stopping: anyio.Event, spool: DurableSpool) -> None:
        ending = anyio.Event()
        async with anyio.create_task_group() as polling, anyio.create_task_group() as watching:
            for station in stations:
                polling.start_soon(station.run, ending)
            watching.start_soon(_set_after, ending, stopping.wait)
            watching.start_soon(_set_after, ending, spool.wait_damaged)
            await ending.wait()
            watching.cancel_scope.cancel()
            polling.cancel_scope.deadline = anyio.current_time() + _LAST_PASS_S

    def _status_line(self) -> str:
        """One line for `systemctl status`."""
        reading = sum(account.reason is None and account.at is not None for account in self.accounts.values())
        backlog = sum(account.counts.undelivered for account in self.accounts.values() if account.counts)
        accepted = sum(account.accepted for account in self.accounts.values())
        return (
            f"{reading} of {len(self.accounts)} inverters read, {accepted} readings accepted, "
            f"{backlog} to be delivered"
        )


async def _set_after(event: anyio.Event, wait: Callable[[], Awaitable[None]]) -> None:
    await wait()
    event.set()


async def _cancel_after(scope: anyio.CancelScope, wait: Callable[[], Awaitable[None]]) -> None:
    await wait()
    scope.cancel()


def _stuck(stations: list[Station]) -> str | None:
    return next((station.stuck for station in stations if station.stuck), None)


def upload_settings(settings: EdgeSettings) -> UploadSettings:
    """Return what the uploader needs to know."""
    token = settings.device_token
    return UploadSettings(
        server_url=settings.server_url,
        token=token.get_secret_value() if token else None,
        token_file=settings.device_token_file,
        ca_file=settings.ca_file,
        batch_size=settings.batch_size,
        upload_interval_s=settings.upload_interval_s,
        devices={device.device_id: device_info(device) for device in settings.inverters},
        edge_id=settings.edge_id,
    )
