"""The edge daemon: every reading of every inverter into the spool, everything in the spool to the server."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable
from typing import Final

import anyio

from reference_edge.advice import advise
from reference_edge.config import DeviceSettings, EdgeSettings
from reference_edge.health import HealthReport
from sungrow_lib.errors import DeviceError, SpoolError
from sungrow_lib.inverter import InverterReader, Reading, UnitSettings
from sungrow_lib.modbus.clock import SystemClock
from sungrow_lib.modbus.connection import ConnectionState
from sungrow_lib.modbus.settings import ConnectionSettings
from sungrow_lib.registers.identity import Identity
from sungrow_lib.sample import format_ts
from sungrow_lib.spool import BootStamp, DurableSpool, SpoolOptions
from sungrow_lib.upload import BatchUploader, UploadSettings
from sungrow_lib.wire import DeviceInfo

_LOG: Final = logging.getLogger("sungrow_edge")
_LAST_PASS_S: Final = 6.0
"""Seconds the pass under way may take to end when the daemon is told to stop."""
_FLUSH_S: Final = 3.0
"""Seconds the uploader gets then; what is left stays in the spool."""
_SPOOL: Final = SpoolOptions(recover=True, reserve_bytes=8_000_000, merge_when_full=True)
"""A damaged spool is set aside and what is readable taken over; a full disk loses nothing silently."""


async def run_edge(settings: EdgeSettings) -> None:
    """Poll and upload until SIGTERM or SIGINT, then finish what is under way and return.

    Raises:
        SpoolError: the spool cannot be opened.
        ConfigurationError: a certificate, token file or lock folder cannot be used.
    """
    async with (
        DurableSpool.open(settings.spool_path, options=_SPOOL) as spool,
        BatchUploader(spool, upload_settings(settings)) as uploader,
    ):
        _LOG.info("started", extra={"devices": [device.device_id for device in settings.inverters]})
        health = HealthReport(settings.health_path, lambda: uploader.status)
        async with anyio.create_task_group() as beside:
            beside.start_soon(uploader.run)
            beside.start_soon(health.run)
            await _poll_until_told(settings, spool, uploader, health)
            beside.cancel_scope.cancel()
        is_done = await uploader.flush(_FLUSH_S)
        _LOG.info("stopped", extra={"everything_delivered": is_done})


async def _poll_until_told(
    settings: EdgeSettings, spool: DurableSpool, uploader: BatchUploader, health: HealthReport
) -> None:
    stopping = anyio.Event()
    async with anyio.create_task_group() as polling:
        for devices in by_address(settings.inverters):
            station = _Station(devices, settings, spool, uploader, health)
            polling.start_soon(station.run, stopping)
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                _LOG.info("stopping", extra={"signal": signal.Signals(number).name})
                stopping.set()
                break
        polling.cancel_scope.deadline = anyio.current_time() + _LAST_PASS_S


def by_address(devices: Iterable[DeviceSettings]) -> list[list[DeviceSettings]]:
    """Group inverters by host and port: those of one group share a connection and its passes."""
    groups: dict[tuple[str, int], list[DeviceSettings]] = {}
    for device in devices:
        groups.setdefault((device.host, device.port), []).append(device)
    return list(groups.values())


def connection_settings(devices: list[DeviceSettings], settings: EdgeSettings) -> ConnectionSettings:
    """Return the manners for one address: the gentlest any of its inverters asks for."""
    return ConnectionSettings(
        host=devices[0].host,
        port=devices[0].port,
        timeout_s=max(device.timeout_s for device in devices),
        request_gap_s=max(device.inter_register_delay_ms for device in devices) / 1000,
        poll_interval_s=max(device.poll_interval_s for device in devices),
        lock_dir=settings.sungrow_lock_dir,
        state_dir=settings.state_dir,
    )


def units(devices: list[DeviceSettings]) -> list[UnitSettings]:
    """Return the inverters of one address as its reader knows them."""
    return [
        UnitSettings(
            device_id=device.device_id,
            unit=device.unit,
            family=device.register_family,
            battery_units=device.battery_units,
        )
        for device in devices
    ]


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


def device_info(device: DeviceSettings) -> DeviceInfo:
    """Return what the settings say of a device."""
    return DeviceInfo(
        timezone=device.timezone,
        poll_interval_s=device.poll_interval_s,
        name=device.name,
        plant=device.plant,
    )


class _Station:
    """The inverters behind one address: polls them and puts their readings into the spool."""

    def __init__(
        self,
        devices: list[DeviceSettings],
        settings: EdgeSettings,
        spool: DurableSpool,
        uploader: BatchUploader,
        health: HealthReport,
    ) -> None:
        self._devices = {device.device_id: device for device in devices}
        self._connection = connection_settings(devices, settings)
        self._units = units(devices)
        self._spool = spool
        self._uploader = uploader
        self._health = health
        self._clock = SystemClock()
        self._identified: dict[str, Identity] = {}
        self._asleep: set[str] = set()

    async def run(self, stopping: anyio.Event) -> None:
        """Poll until ``stopping`` is set; the pass under way is finished first."""
        async with InverterReader(self._connection, self._units, clock=self._clock) as reader:
            while not await _is_set_before(stopping, reader):
                try:
                    readings = await reader.poll()
                except anyio.get_cancelled_exc_class():
                    for unit in self._units:
                        self._log_lost(unit.device_id, "stopped", "the daemon was stopped during the poll")
                    raise
                for reading in readings:
                    await self._keep(reading)

    async def _keep(self, reading: Reading) -> None:
        self._introduce(reading)
        self._watch_sleep(reading)
        address = f"{self._connection.host}:{self._connection.port}"
        if reading.sample is None or reading.boottime is None:
            self._health.note_poll(address, reading)
            self._log_lost(reading.device_id, str(reading.outcome), str(reading.error or DeviceError()))
            return
        stamp = BootStamp(self._clock.boot_id, int(reading.boottime * 1000))
        try:
            entry = await self._spool.append(reading.sample, boot=stamp)
        except SpoolError as error:
            self._health.note_poll(address, reading, refusal=str(error))
            self._log_lost(reading.device_id, "spool refused", str(error))
            return
        self._health.note_poll(address, reading)
        _LOG.debug(
            "poll",
            extra={
                "device_id": reading.device_id,
                "outcome": "accepted",
                "seq": entry.seq,
                "ts": format_ts(entry.ts),
                "missing": [str(missing.block) for missing in reading.missing],
            },
        )

    def _introduce(self, reading: Reading) -> None:
        """Tell the server what the device is, once that is known and whenever it changed."""
        identity = reading.identity
        if identity is None or identity == self._identified.get(reading.device_id):
            return
        self._identified[reading.device_id] = identity
        known = {"model": identity.model, "serial": identity.serial, "firmware": identity.firmware}
        _LOG.info(
            "identified",
            extra={
                "device_id": reading.device_id,
                "family": str(identity.family),
                "path": str(identity.path),
                **known,
            },
        )
        info = device_info(self._devices[reading.device_id])
        self._uploader.set_device_info(reading.device_id, info.model_copy(update=known))

    def _watch_sleep(self, reading: Reading) -> None:
        """Say once that a device went to sleep with its sun, and once that it is awake again."""
        is_asleep = reading.state is ConnectionState.ASLEEP
        if is_asleep == (reading.device_id in self._asleep) or not (is_asleep or reading.sample):
            return
        if is_asleep:
            self._asleep.add(reading.device_id)
        else:
            self._asleep.remove(reading.device_id)
        _LOG.info("asleep" if is_asleep else "awake", extra={"device_id": reading.device_id})

    def _log_lost(self, device_id: str, outcome: str, reason: str) -> None:
        """Account for a poll that brought no accepted reading: each one is a line, also at night."""
        _LOG.warning("poll", extra={"device_id": device_id, "outcome": outcome, "reason": advise(reason)})


async def _is_set_before(stopping: anyio.Event, reader: InverterReader) -> bool:
    """Wait for the next slot of ``reader``; return whether ``stopping`` was set before it came."""
    async with anyio.create_task_group() as waiting:

        async def interrupt() -> None:
            await stopping.wait()
            waiting.cancel_scope.cancel()

        waiting.start_soon(interrupt)
        await reader.wait_turn()
        waiting.cancel_scope.cancel()
    return stopping.is_set()
