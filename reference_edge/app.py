"""The edge daemon: every reading of every inverter into the spool, everything in the spool to the server."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from reference_edge.account import DeviceAccount
from reference_edge.config import EdgeSettings
from reference_edge.health import HealthReport
from reference_edge.intake import Intake
from reference_edge.leaving import LastWords
from reference_edge.lock import SpoolLock
from reference_edge.memory import keep_small
from reference_edge.opening import tell_of_opening
from reference_edge.owner import OwnerFile
from reference_edge.probe import DiskProbe
from reference_edge.station import Station, by_address, device_info
from reference_edge.survey import Survey
from sungrow_lib.cli.guard import first_of
from sungrow_lib.errors import ConfigurationError, SpoolError, SpoolUnavailableError
from sungrow_lib.service_manager import ServiceManager
from sungrow_lib.spool import DurableSpool, SpoolOpening, SpoolOptions
from sungrow_lib.spool.disk import is_passing, is_setting, missing_place
from sungrow_lib.upload import BatchUploader, UploadSettings, UploadStatus
from sungrow_lib.upload.http import IngestTransport
from sungrow_lib.upload.status import StatusBoard

_LOG: Final = logging.getLogger("sungrow_edge")
_LAST_PASS_S: Final = 5.5
"""Seconds the pass under way may take to end when the daemon is told to stop: a request waits five."""
_FLUSH_S: Final = 2.0
"""Seconds the uploader gets then; what is left stays in the spool. A slow disk needs the rest of the ten."""
_LAST_WRITE_S: Final = 6.0
"""Seconds after the signal until the spool no longer waits for another program that blocks it."""
_LAST_TRY_S: Final = 8.0
"""Seconds after the signal until a spool must be open, for readings in memory to be put into it."""
_ANEW_S: Final = 5.0
"""Seconds before a spool found damaged is opened anew."""
_OPEN_AGAIN_S: Final = 30.0
"""Seconds between two attempts to open a spool whose disk fails; no inverter is polled during one."""
SPOOL: Final = SpoolOptions(recover=True, reserve_bytes=8_000_000, merge_when_full=True)
"""A damaged spool is set aside and what is readable taken over; a full disk loses nothing silently."""


async def run_edge(settings: EdgeSettings, lock: SpoolLock) -> None:
    """Poll and upload until SIGTERM or SIGINT, then finish what is under way and return.

    Where that cannot be finished within the ten seconds promised, because the disk hangs, it says what may be
    lost and waits for it.

    A spool that proves to be damaged on the way is recovered at once, as at a start. While its disk fails, so
    that this cannot be done, readings wait in memory; also where it fails, or is not mounted, from the start.

    Raises:
        SpoolError: the spool cannot be opened, and no disk that works will change that; or another daemon
            has got hold of it.
        ConfigurationError: a certificate, token file, port or lock folder cannot be used.
    """
    accounts = {
        device.device_id: DeviceAccount(device.device_id, f"{device.host}:{device.port}")
        for device in settings.inverters
    }
    for words in settings.slowed:
        _LOG.warning("poll interval", extra={"reason": words})
    owner_file = OwnerFile(settings.spool_path)
    edge = _Edge(
        settings,
        accounts,
        Intake(accounts, settings.commit_interval_s),
        Survey(owner_file.folder, owner_file=owner_file),
        lock,
        owner_file,
    )
    stopping = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(edge.watch_signals, stopping)
        tasks.start_soon(edge.watch_lock, stopping)
        edge.show_metrics(tasks)
        try:
            while not stopping.is_set():
                failure = await edge.run(stopping)
                if failure is not None:
                    await edge.hold_out(failure, stopping)
                with anyio.move_on_after(0 if stopping.is_set() or failure is not None else _ANEW_S):
                    await stopping.wait()
        finally:  # whatever the reason for the end
            with anyio.CancelScope(shield=True):
                await edge.save_last(stopping)
                await edge.say_last()
        tasks.cancel_scope.cancel()
    if edge.lost is not None:
        raise edge.lost
    edge.last_words.spare()


@dataclass
class _Edge:
    """What outlives a spool that has to be opened anew."""

    settings: EdgeSettings
    accounts: dict[str, DeviceAccount]
    intake: Intake
    survey: Survey
    lock: SpoolLock
    owner_file: OwnerFile
    lost: SpoolError | None = None
    was_open: bool = False
    damage: str | None = None
    _too_late_at: float = 0.0
    """When it is too late to open the spool for what waits in memory; 0 where that is not to be tried."""

    def __post_init__(self) -> None:
        self.service = ServiceManager()
        self.last_words = LastWords(self.intake)
        self._opening = SpoolOpening()
        self._probe = DiskProbe(self.settings.spool_path)
        self._upload_status: Callable[[], UploadStatus] = StatusBoard().snapshot
        self._health = HealthReport(
            self.settings.health_path,
            self.accounts,
            self.survey,
            self._say_of_upload,
            lambda: len(self.intake),
        )

    def _say_of_upload(self) -> UploadStatus:
        return self._upload_status()

    async def watch_signals(self, stopping: anyio.Event) -> None:
        """Stop when told to."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                self.last_words.prepare()
                _LOG.info("stopping", extra={"signal": signal.Signals(number).name})
                self.service.say(STOPPING="1", STATUS="stopping")
                self._opening.hurries_at = min(self._opening.hurries_at, time.monotonic() + _LAST_WRITE_S)
                self._end(stopping)

    def _end(self, stopping: anyio.Event) -> None:
        self._too_late_at = self._too_late_at or anyio.current_time() + _LAST_TRY_S
        stopping.set()

    async def say_last(self) -> None:
        """Say in the health file what became of every poll, now that none is under way."""
        if any(account.polled for account in self.accounts.values()):
            self.survey.judge(self.intake)
            await self._health.write_last()

    async def watch_lock(self, stopping: anyio.Event) -> None:
        """End if another daemon gets hold of the lock."""
        try:
            await self.lock.watch()
        except SpoolError as error:
            _LOG.error("another daemon works on this spool; this one ends", extra={"reason": str(error)})
            self.lost = error
            stopping.set()

    def show_metrics(self, tasks: TaskGroup) -> None:
        """Let ``tasks`` answer Prometheus, whatever becomes of the spool, where that is wanted."""
        if not self.settings.metrics_port:
            return
        from reference_edge.metrics import (  # noqa: PLC0415 - memory, only where wanted
            EdgeCollector,
            metrics_listener,
            serve_metrics,
        )

        intervals = {device.device_id: device.poll_interval_s for device in self.settings.inverters}
        collector = EdgeCollector(
            self.accounts, intervals, self.survey, self._say_of_upload, lambda: len(self.intake)
        )
        tasks.start_soon(serve_metrics, metrics_listener(self.settings.metrics_port), collector)

    async def run(self, stopping: anyio.Event) -> SpoolError | None:
        """Work until ``stopping`` is set or the spool is found damaged.

        Returns:
            Why the spool cannot be opened now; None for any other end.
        """
        failure: SpoolError | None = None
        try:
            async with AsyncExitStack() as stack:
                spool = await self._open(stack, stopping)
                if spool is not None:
                    await self._use(stack, spool, stopping)
        except* SpoolError as group:
            failure = first_of(group)
            is_lasting = not self.was_open and not await anyio.to_thread.run_sync(
                is_passing, failure, self.settings.spool_path
            )
            if is_lasting:
                raise
        if failure is not None and not self.was_open:
            self._require_settings()
        return failure

    def _require_settings(self) -> None:
        """Try what else a start needs: better now than with readings in memory that nothing else has."""
        try:
            IngestTransport(upload_settings(self.settings))
        except ConfigurationError as error:
            if not isinstance(error.__context__, OSError) or is_setting(error.__context__):
                raise

    async def _use(self, stack: AsyncExitStack, spool: DurableSpool, stopping: anyio.Event) -> None:
        spool.guard_place(self.lock.holds)
        self.intake.use(spool)
        await self.intake.flush()  # whatever fails next, what waited in memory is safe
        uploader = await stack.enter_async_context(BatchUploader(spool, upload_settings(self.settings)))
        self._upload_status = lambda: uploader.status
        try:
            await self._work(stopping, spool, uploader)
            await self._note(spool.damage)
            # A spool that takes nothing lets nothing be offered either, and the ten seconds are short.
            is_done = self.intake.refusal is None and await uploader.flush(_FLUSH_S)
            _LOG.info("stopped", extra={"everything_delivered": is_done, **await _left(spool)})
        finally:
            await self._note(spool.damage)

    async def _note(self, damage: str | None) -> None:
        """Remember, over the end of this process too, that the spool is damaged, or no longer."""
        self.damage = damage
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.owner_file.note_damage, damage)

    async def hold_out(self, failure: SpoolError, stopping: anyio.Event) -> None:
        """Poll into memory until the spool's disk seems to work: it cannot be opened."""
        self.intake.refuse(failure)
        if not self.was_open:
            self.service.say(READY="1", STATUS=self._status_line())
        stations = self._stations(None)
        self._upload_status = StatusBoard().snapshot
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._health.run)
            beside.start_soon(self.service.run, self._status_line, lambda: _stuck(stations))
            beside.start_soon(self.survey.watch, self.intake)
            await self._poll(stations, stopping.wait, self._wait_for_disk)
            beside.cancel_scope.cancel()

    async def save_last(self, stopping: anyio.Event) -> None:
        """Put what waits in memory into the spool, opened anew, if its disk works; say what is lost."""
        self._end(stopping)
        try:
            if await self._is_worth_a_last_try():
                async with AsyncExitStack() as stack:
                    spool = await self._open(stack, stopping)
                    if spool is not None:
                        spool.guard_place(self.lock.holds)
                        self.intake.use(spool)
                        await self.intake.flush()
        except* SpoolError as group:
            self.intake.refuse(first_of(group))
        finally:
            self.intake.close()

    async def _is_worth_a_last_try(self) -> bool:
        if len(self.intake) and self.lost is None:
            with anyio.CancelScope(deadline=self._too_late_at):  # a disk that hangs is not waited for
                return await self._probe.may_work()
        return False

    async def _wait_for_disk(self) -> None:
        """Return when it may be worth while to try; no inverter is polled during that."""
        is_worth_it = False
        while not is_worth_it:
            await anyio.sleep(_OPEN_AGAIN_S)
            is_worth_it = await self._probe.may_work()

    async def _open(self, stack: AsyncExitStack, stopping: anyio.Event) -> DurableSpool | None:
        """Open the spool, for the stack to close; None if the daemon was told to stop before it was open."""
        self.intake.spool = None
        spool, opening = None, SpoolOpening()
        opening.hurries_at, self._opening = self._opening.hurries_at, opening
        async with anyio.create_task_group() as beside:
            beside.start_soon(_cancel_after, beside.cancel_scope, partial(self._too_late, stopping))
            # A disk that hangs holds up the end no longer than this, and nothing good is said meanwhile.
            await anyio.to_thread.run_sync(self._look_first, abandon_on_cancel=True)
            beside.start_soon(tell_of_opening, opening, self.service, self.survey, self._health)
            spool = await stack.enter_async_context(
                DurableSpool.open(
                    self.settings.spool_path,
                    options=replace(SPOOL, owner=self.owner_file.owner),
                    damage=self.damage,
                    opening=opening,
                )
            )
            beside.cancel_scope.cancel()
        if spool is not None:
            self.was_open = True
            with suppress(SpoolError):  # the first look says so again
                await anyio.to_thread.run_sync(self.owner_file.remember, await spool.owner())
            await self._note(None)
        else:
            _LOG.info("stopped before the spool was open; what was begun on it begins anew at the next start")
        return spool

    async def _too_late(self, stopping: anyio.Event) -> None:
        """Return when the spool need not be open any more: at once, unless readings wait for it."""
        await stopping.wait()
        if len(self.intake) and self.lost is None:
            await anyio.sleep_until(self._too_late_at)

    def _look_first(self) -> None:
        """See to what has to be known before the spool is opened: that it is ours alone, and what it is."""
        if (why := missing_place(self.settings.spool_path)) is not None:
            raise SpoolUnavailableError(why)
        self.lock.require()
        self.owner_file.read()
        if not self.was_open:
            self.damage = self.owner_file.damage

    def _stations(self, uploader: BatchUploader | None) -> list[Station]:
        return [
            Station(devices, self.settings, self.intake, uploader)
            for devices in by_address(self.settings.inverters)
        ]

    async def _work(self, stopping: anyio.Event, spool: DurableSpool, uploader: BatchUploader) -> None:
        stations = self._stations(uploader)
        async with anyio.create_task_group() as beside:
            beside.start_soon(uploader.run)
            beside.start_soon(keep_small)
            beside.start_soon(self._health.run)
            beside.start_soon(self.intake.run)
            beside.start_soon(self.intake.watch)
            beside.start_soon(self.survey.watch, self.intake)
            beside.start_soon(self.survey.run, spool, uploader, self.accounts, self.intake)
            beside.start_soon(self.service.run, self._status_line, lambda: _stuck(stations))
            _LOG.info("started", extra={"devices": list(self.accounts)})
            self.service.say(READY="1", STATUS="started")
            await self._poll(stations, stopping.wait, spool.wait_damaged)
            beside.cancel_scope.cancel()
        if stopping.is_set():
            await self.intake.flush()

    async def _poll(self, stations: list[Station], *ends: Callable[[], Awaitable[None]]) -> None:
        """Poll until one of ``ends`` returns."""
        ending = anyio.Event()
        async with anyio.create_task_group() as polling, anyio.create_task_group() as watching:
            for station in stations:
                polling.start_soon(station.run, ending)
            for end in ends:
                watching.start_soon(_set_after, ending, end)
            await ending.wait()
            watching.cancel_scope.cancel()
            polling.cancel_scope.deadline = anyio.current_time() + _LAST_PASS_S

    def _status_line(self) -> str:
        """One line for `systemctl status`."""
        reading = sum(account.reason is None and account.at is not None for account in self.accounts.values())
        backlog = sum(account.counts.undelivered for account in self.accounts.values() if account.counts)
        accepted = sum(account.accepted for account in self.accounts.values())
        held = (
            f"the spool takes no reading, {len(self.intake)} wait in memory; " if self.intake.refusal else ""
        )
        return (
            f"{held}{reading} of {len(self.accounts)} inverters read, {accepted} readings accepted, "
            f"{backlog} to be delivered"
        )


async def _set_after(event: anyio.Event, wait: Callable[[], Awaitable[None]]) -> None:
    await wait()
    event.set()


async def _cancel_after(scope: anyio.CancelScope, wait: Callable[[], Awaitable[None]]) -> None:
    await wait()
    scope.cancel()


async def _left(spool: DurableSpool) -> dict[str, int]:
    """How many readings the server lacks, and how many it did not take; nothing when that cannot be told."""
    with suppress(SpoolError):
        counts = await spool.counts()
        return {"undelivered": counts.undelivered, "quarantined": counts.quarantined}
    return {}


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
