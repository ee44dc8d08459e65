"""The inverters behind one address: polled by a task of their own, so that none waits for another's."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

import anyio

from reference_edge.account import STOPPED, DeviceAccount
from reference_edge.config import DeviceSettings, EdgeSettings
from reference_edge.intake import Intake, Taken
from sungrow_lib.errors import DeviceError
from sungrow_lib.inverter import InverterReader, Reading, UnitSettings
from sungrow_lib.modbus.clock import SystemClock
from sungrow_lib.modbus.connection import ConnectionState
from sungrow_lib.modbus.settings import ConnectionSettings
from sungrow_lib.registers.identity import Identity
from sungrow_lib.spool import BootStamp, SystemClock as SpoolClock
from sungrow_lib.upload import BatchUploader
from sungrow_lib.wire import DeviceInfo

_LOG: Final = logging.getLogger("sungrow_edge")
_LONGEST_STEP_S: Final = 120.0
"""A pass, or its readings' way into the spool, that takes this long beyond its pause hangs."""


def by_address(devices: Iterable[DeviceSettings]) -> list[list[DeviceSettings]]:
    """Group inverters by host and port: those of one group share a connection and its passes."""
    groups: dict[tuple[str, int], list[DeviceSettings]] = {}
    for device in devices:
        groups.setdefault(device.address, []).append(device)
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


def device_info(device: DeviceSettings) -> DeviceInfo:
    """Return what the settings say of a device."""
    return DeviceInfo(
        timezone=device.timezone,
        poll_interval_s=device.poll_interval_s,
        name=device.name,
        plant=device.plant,
    )


class Station:
    """Polls the inverters behind one address and hands their readings to the intake.

    Args:
        devices: they share host and port.
        settings: the edge's.
        intake: takes the readings.
        uploader: is told what each device is; None while there is none.
    """

    def __init__(
        self,
        devices: list[DeviceSettings],
        settings: EdgeSettings,
        intake: Intake,
        uploader: BatchUploader | None,
    ) -> None:
        self._devices = {device.device_id: device for device in devices}
        self._connection = connection_settings(devices, settings)
        self._units = units(devices)
        self._intake = intake
        self._uploader = uploader
        self._clock = SystemClock()
        self._boot_id = self._clock.boot_id or SpoolClock().stamp().boot_id
        self._identified: dict[str, Identity] = {}
        self._asleep: set[str] = set()
        self._busy_since: float | None = None

    @property
    def stuck(self) -> str | None:
        """Which address hangs, if this one does."""
        if self._busy_since is None:
            return None
        busy_s = anyio.current_time() - self._busy_since
        is_stuck = busy_s > self._connection.poll_interval_s + _LONGEST_STEP_S
        return f"{self._connection.host}:{self._connection.port} for {busy_s:.0f} s" if is_stuck else None

    async def run(self, stopping: anyio.Event) -> None:
        """Poll until ``stopping`` is set; the pass under way is finished first."""
        async with InverterReader(self._connection, self._units, clock=self._clock) as reader:
            while not await _is_set_before(stopping, reader):
                self._busy_since = anyio.current_time()
                try:
                    readings = await reader.poll()
                except anyio.get_cancelled_exc_class():
                    for unit in self._units:
                        account = self._account(unit.device_id)
                        account.polled += 1
                        account.lost(STOPPED, "the daemon was stopped during the poll")
                    raise
                # All of them are accounted for before anything is waited for: that may be cut short.
                if taken := [found for reading in readings if (found := self._taken(reading))]:
                    await self._intake.put(*taken)
                self._busy_since = None
            for unit in self._units:
                self._account(unit.device_id).say_rest()

    def _account(self, device_id: str) -> DeviceAccount:
        return self._intake.accounts[device_id]

    def _taken(self, reading: Reading) -> Taken | None:
        """Account for what a poll brought; return what is to be kept of it."""
        self._introduce(reading)
        self._watch_sleep(reading)
        account = self._account(reading.device_id)
        account.polled_now(reading)
        if reading.sample is None or reading.boottime is None:
            was_asked = not isinstance(reading.error, DeviceError) or reading.error.was_asked
            account.lost(str(reading.outcome), account.reason or str(DeviceError()), was_asked=was_asked)
            return None
        stamp = BootStamp(self._boot_id, int(reading.boottime * 1000))
        missing = tuple(missing.block for missing in reading.missing)
        return Taken(reading.device_id, reading.sample, stamp, missing)

    def _introduce(self, reading: Reading) -> None:
        """Tell the server what the device is, once that is known and whenever it changed."""
        identity = reading.identity
        if self._uploader is None or identity is None or identity == self._identified.get(reading.device_id):
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
