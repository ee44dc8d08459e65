"""Inverters as a stream of samples: poller, discovery, read plan and normalizer put together.

:class:`InverterReader` reads all units behind one address, pass after pass; :class:`SungrowInverter` is
the same for a single inverter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from sungrow_lib.errors import DeviceError, SungrowError
from sungrow_lib.modbus.backoff import Backoff
from sungrow_lib.modbus.clock import Clock
from sungrow_lib.modbus.connection import ConnectionState
from sungrow_lib.modbus.discovery import CarefulReader, identify_unit
from sungrow_lib.modbus.learning import UnitPlan
from sungrow_lib.modbus.poller import ModbusPoller
from sungrow_lib.modbus.results import MissingBlock, Outcome, UnitResult
from sungrow_lib.modbus.session import DeviceSession
from sungrow_lib.modbus.settings import ConnectionSettings, require_unit
from sungrow_lib.normalizer import Normalizer
from sungrow_lib.quantities import Family, Tier
from sungrow_lib.registers.identity import Identity
from sungrow_lib.registers.plan import ReadPlan
from sungrow_lib.registers.words import RegisterWords
from sungrow_lib.sample import SungrowSample

_MOST_INTERVALS: Final = 3
"""A reading stands for no more than this many poll intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """One inverter behind an address.

    Attributes:
        device_id: goes into its samples.
        unit: Modbus unit id.
        family: register map; None to go by what the device says of itself.
    """

    device_id: str
    unit: int = 1
    family: Family | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One unit in one poll: a sample, or why there is none.

    Attributes:
        device_id: which inverter.
        outcome: what became of the poll.
        sample: the values; None unless the outcome is a reading.
        boottime: boot-time clock, in seconds, when the fast block arrived; None without a sample.
        missing: what was due and did not arrive.
        error: why there is no sample.
        identity: what the device is, once it is known.
    """

    device_id: str
    outcome: Outcome
    sample: SungrowSample | None = None
    boottime: float | None = None
    missing: tuple[MissingBlock, ...] = ()
    error: SungrowError | None = None
    identity: Identity | None = None


class _Unit:
    """What is known of one unit from poll to poll."""

    def __init__(self, settings: UnitSettings, poll_interval_s: float) -> None:
        self.settings = settings
        self.backoff = Backoff()
        self.plan: UnitPlan | None = None
        self._normalizer: Normalizer | None = None
        self._longest_s = _MOST_INTERVALS * poll_interval_s
        self._last: float | None = None

    @property
    def identity(self) -> Identity | None:
        return self._normalizer.identity if self._normalizer else None

    async def discover(self, session: DeviceSession) -> Reading:
        """Find out what the unit is and read it for the first time; inside a pass."""
        reader = CarefulReader(session, require_unit(self.settings.unit))
        identity = await identify_unit(reader, family=self.settings.family)
        fast = ReadPlan.for_quantities(identity.family, identity.context, tiers=(Tier.FAST,))
        first = await reader.read_plan(fast)
        slow = ReadPlan.for_quantities(identity.family, identity.context, tiers=(Tier.SLOW,))
        self._normalizer = Normalizer(self.settings.device_id, identity)
        self.plan = UnitPlan(unit=self.settings.unit, fast=first.plan, slow=slow)
        if first.arrived_at is None or first.arrived_boottime is None:
            return self.no_reading(first.error or DeviceError("the device serves no power values"))
        outcome = Outcome.PARTIAL if first.error else Outcome.READ
        return self._reading(outcome, first.words, first.arrived_at, first.arrived_boottime)

    def reading(self, result: UnitResult) -> Reading:
        """Make a sample of what a poll brought."""
        if result.arrived_at is None or result.arrived_boottime is None:
            return self.no_reading(result.error or DeviceError(), result.outcome, result.missing)
        return self._reading(
            result.outcome, result.words, result.arrived_at, result.arrived_boottime, result.missing
        )

    def no_reading(
        self,
        error: SungrowError,
        outcome: Outcome = Outcome.SILENT,
        missing: tuple[MissingBlock, ...] = (),
    ) -> Reading:
        return Reading(
            device_id=self.settings.device_id,
            outcome=outcome,
            missing=missing,
            error=error,
            identity=self.identity,
        )

    def _reading(
        self,
        outcome: Outcome,
        words: RegisterWords,
        arrived_at: datetime,
        boottime: float,
        missing: tuple[MissingBlock, ...] = (),
    ) -> Reading:
        assert self._normalizer is not None
        self._normalizer = self._normalizer.learning(words)
        interval_s = None if self._last is None else min(boottime - self._last, self._longest_s)
        self._last = boottime
        return Reading(
            device_id=self.settings.device_id,
            outcome=outcome,
            sample=self._normalizer.normalize(words, ts=arrived_at, interval_s=interval_s),
            boottime=boottime,
            missing=missing,
            identity=self.identity,
        )


class InverterReader:
    """Reads all inverters behind one address at the polite rate. An async context manager.

    What each unit is, is found out in its first pass; a unit that does not answer then is asked again
    after a growing pause, while the others are read.

    Args:
        settings: the address and the manners.
        units: the inverters.
        clock: the clocks; another one only in tests.
    """

    def __init__(
        self, settings: ConnectionSettings, units: Sequence[UnitSettings], *, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._session = DeviceSession(settings, clock)
        self._units = [_Unit(unit, settings.poll_interval_s) for unit in units]
        self._poller: ModbusPoller | None = None
        self._not_before = self._session.clock.boottime()

    @property
    def state(self) -> ConnectionState:
        """What the connection is doing."""
        return self._session.state

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.close()

    async def wait_turn(self) -> None:
        """Wait until the next pass is due. To stop between two passes, cancel this, not :meth:`poll`."""
        clock = self._session.clock
        while (wait_s := self._not_before - clock.boottime()) > 0:
            await clock.sleep(wait_s)

    async def poll(self) -> tuple[Reading, ...]:
        """Wait for the next slot and make one pass; never raises for anything a device can do.

        Returns:
            One reading for each unit asked in this pass.

        Raises:
            ConfigurationError: the lock folder cannot be used.
        """
        await self.wait_turn()
        self._not_before = self._session.clock.boottime() + self._settings.poll_interval_s
        unknown = [unit for unit in self._units if unit.plan is None and not self._rests(unit)]
        if unknown:
            return await self._discover(unknown)
        if self._poller is None:
            silent = DeviceError("the device was silent; it is asked again after a pause")
            return tuple(unit.no_reading(silent) for unit in self._units)
        by_unit = {unit.settings.unit: unit for unit in self._units}
        poll = await self._poller.poll()
        return tuple(by_unit[result.unit].reading(result) for result in poll.units)

    def _rests(self, unit: _Unit) -> bool:
        return unit.backoff.remaining_s(self._session.clock.boottime()) > 0

    async def _discover(self, unknown: Sequence[_Unit]) -> tuple[Reading, ...]:
        """Use one pass to find out what units are."""
        try:
            async with self._session.one_pass():
                readings = [await self._discover_unit(unit) for unit in unknown]
        except DeviceError as error:
            readings = [unit.no_reading(error) for unit in unknown]
        known = [unit.plan for unit in self._units if unit.plan is not None]
        if known:
            self._poller = ModbusPoller(self._settings, known, session=self._session)
        return tuple(readings)

    async def _discover_unit(self, unit: _Unit) -> Reading:
        try:
            reading = await unit.discover(self._session)
        except SungrowError as error:
            unit.backoff.failed(self._session.clock.boottime())
            return unit.no_reading(error)
        unit.backoff.succeeded()
        return reading


class SungrowInverter:
    """One inverter as a stream of samples. An async context manager.

    Args:
        settings: the address and the manners.
        device_id: goes into the samples.
        unit: Modbus unit id.
        family: register map; None to go by what the device says of itself.

    Examples:
        async with SungrowInverter(ConnectionSettings(host="192.168.1.20"), device_id="roof") as inverter:
            async for sample in inverter.samples():
                print(sample.ts, sample.pv_power_w)
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        *,
        device_id: str,
        unit: int = 1,
        family: Family | None = None,
    ) -> None:
        self._reader = InverterReader(settings, [UnitSettings(device_id=device_id, unit=unit, family=family)])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._reader.__aexit__(exc_type, exc, traceback)

    async def read(self) -> SungrowSample:
        """Read once, after the device's next slot has come.

        Raises:
            DeviceError: there is no reading; says why.
            UnknownFamilyError: it answers, but nothing it says tells the register family.
        """
        readings = await self._reader.poll()
        for reading in readings:
            if reading.sample is not None:
                return reading.sample
            if reading.error is not None:
                raise reading.error
        raise DeviceError

    async def samples(self) -> AsyncIterator[SungrowSample]:
        """Read for ever at the polite rate; polls without a reading are passed over."""
        while True:
            for reading in await self._reader.poll():
                if reading.sample is not None:
                    yield reading.sample
