"""Inverters as a stream of samples: poller, discovery, read plan and normalizer put together.

:class:`InverterReader` reads all units behind one address, pass after pass; :class:`SungrowInverter` is
the same for a single inverter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from sungrow_lib.errors import DeviceError, SungrowError
from sungrow_lib.modbus.backoff import Backoff
from sungrow_lib.modbus.battery import BatteryBeside
from sungrow_lib.modbus.careful import CarefulReader
from sungrow_lib.modbus.clock import Clock
from sungrow_lib.modbus.connection import ConnectionState
from sungrow_lib.modbus.discovery import PathGuesses, Patience, firmware_of, recognise_unit, remembered
from sungrow_lib.modbus.learning import UnitPlan
from sungrow_lib.modbus.night import Night
from sungrow_lib.modbus.notes import DeviceNotes
from sungrow_lib.modbus.poller import ModbusPoller
from sungrow_lib.modbus.refusals import Refusal, Refusals
from sungrow_lib.modbus.results import MissingBlock, Outcome, UnitResult
from sungrow_lib.modbus.session import DeviceSession
from sungrow_lib.modbus.settings import ConnectionSettings, require_unit
from sungrow_lib.modbus.tiers import TierPlans, require_fields
from sungrow_lib.normalizer import Normalizer
from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import ConnectionPath
from sungrow_lib.registers.identity import Identity
from sungrow_lib.registers.words import RegisterWords
from sungrow_lib.sample import SungrowSample

_MOST_INTERVALS: Final = 3
"""A reading stands for no more than this many poll intervals."""

_SHORT_TIMEOUT_S: Final = 1.0
"""Longest wait for an answer that must not cost the next pass."""

_ALWAYS: Final = frozenset({"device_id", "ts", "interval_s", "sample_count", "clock_source"})
"""What a sample says whichever values are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """One inverter behind an address.

    Attributes:
        device_id: goes into its samples.
        unit: Modbus unit id.
        family: register map; None to go by what the device says of itself.
        battery_units: Modbus unit ids under which the battery of a hybrid is looked for; empty to leave it
            alone, None for the usual one of the connection path (200 on the LAN port, 2 behind a WiNet-S).
    """

    device_id: str
    unit: int = 1
    family: Family | None = None
    battery_units: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One unit in one poll: a sample, or why there is none.

    Attributes:
        device_id: which inverter.
        outcome: what became of the poll.
        sample: the values; None unless the outcome is a reading.
        boottime: boot-time clock, in seconds, when the fast block arrived; None without a sample.
        missing: what was due and did not arrive.
        refused: what the device was found to refuse, now or earlier: it is not due; empty without a sample.
        error: why there is no sample.
        identity: what the device is, once it is known.
        state: what the connection was doing after the poll. ``ASLEEP`` is a device that has been silent for
            minutes after its sun had set, which is no failure; by day it is ``BACKING_OFF``.
    """

    device_id: str
    outcome: Outcome
    sample: SungrowSample | None = None
    boottime: float | None = None
    missing: tuple[MissingBlock, ...] = ()
    refused: tuple[Refusal, ...] = ()
    error: SungrowError | None = None
    identity: Identity | None = None
    state: ConnectionState = ConnectionState.IDLE


class _Unit:
    """What is known of one unit from poll to poll."""

    def __init__(
        self, settings: UnitSettings, session: DeviceSession, fields: Collection[str] | None
    ) -> None:
        self.settings = settings
        self.backoff = Backoff()
        self.plan: UnitPlan | None = None
        """What to read; None until the unit is known, another one whenever more is known."""
        self._session = session
        self._fields = fields
        self._notes = DeviceNotes()
        self._normalizer: Normalizer | None = None
        self._guesses = PathGuesses(session, _SHORT_TIMEOUT_S)
        self._refusals = Refusals()
        self._battery = BatteryBeside(session, settings.battery_units, fields)
        self._longest_s = _MOST_INTERVALS * session.settings.poll_interval_s
        self._patience = Patience(session.clock)
        self._last: float | None = None
        self.night = Night(session.settings, settings.unit, session.clock)
        self._is_firmware_known = False

    @property
    def identity(self) -> Identity | None:
        return self._normalizer.identity if self._normalizer else None

    def rests(self) -> bool:
        """Whether the unit is left alone for now, because it did not say what it is."""
        return self.backoff.remaining_s(self._session.clock.boottime()) > 0

    async def discover(self, deadline: float | None = None) -> Reading:
        """Find out what the unit is and read it for the first time; inside a pass.

        Args:
            deadline: when silence has lasted long enough (boot-time seconds); None for the usual time-out.
        """
        clock = self._session.clock
        timeout_s = None if deadline is None else max(_SHORT_TIMEOUT_S, deadline - clock.boottime())
        reader = CarefulReader(self._session, require_unit(self.settings.unit), timeout_s=timeout_s)
        try:
            reading = await self._discover(reader)
        except SungrowError as error:
            self.backoff.failed(clock.boottime())
            return self.no_reading(error)
        self.backoff.succeeded()
        return reading

    async def _discover(self, reader: CarefulReader) -> Reading:
        async with self._patience.with_questions(reader, self.settings.family):
            identity = await recognise_unit(reader, family=self.settings.family)
            self._notes = reader.notes
            plans = TierPlans.of(identity, self._notes, self._fields)
            first = await reader.read_plan(plans.fast)
        self._know(identity)
        self._notes.save()
        if first.arrived_at is None or first.arrived_boottime is None:
            return self.no_reading(first.error or DeviceError("the device serves no power values"))
        outcome = Outcome.PARTIAL if first.missing else Outcome.READ
        return self._reading(outcome, first.words, first.arrived_at, first.arrived_boottime, first.missing)

    def _know(self, identity: Identity) -> None:
        """Read the unit from now on as what it is, with all that the notes say."""
        self._normalizer = Normalizer(self.settings.device_id, identity, self._notes.signed_battery)
        self._read_by(TierPlans.of(identity, self._notes, self._fields))

    def _read_by(self, plans: TierPlans) -> None:
        self._plans = plans = plans.avoiding(self._notes.refused)
        self.plan = plans.for_unit(self.settings.unit, self._notes)

    def reading(self, result: UnitResult) -> Reading:
        """Make a sample of what a poll brought."""
        if result.arrived_at is None or result.arrived_boottime is None:
            if result.is_dry:
                self._begin_anew()
            error = result.error or DeviceError()
            state = None if result.is_dry else result.state
            return self.no_reading(error, result.outcome, result.missing, state)
        return self._reading(
            result.outcome, result.words, result.arrived_at, result.arrived_boottime, result.missing
        )

    def _begin_anew(self) -> None:
        """Forget what was learnt: a device that was still starting may have refused everything."""
        self._notes.forget()
        self.night.note(self._notes)
        self._notes.save()
        self.plan = None
        self.backoff.failed(self._session.clock.boottime())

    def no_reading(
        self,
        error: SungrowError,
        outcome: Outcome = Outcome.SILENT,
        missing: tuple[MissingBlock, ...] = (),
        state: ConnectionState | None = None,
    ) -> Reading:
        self._battery.take()  # belongs to no reading
        return Reading(
            device_id=self.settings.device_id,
            outcome=outcome,
            missing=missing,
            error=error,
            identity=self.identity,
            state=self.night.judge(state or self._resting_state()),
        )

    def _resting_state(self) -> ConnectionState:
        if not self.rests():
            return self._session.state
        return ConnectionState.ASLEEP if self.backoff.at_longest else ConnectionState.BACKING_OFF

    def _reading(
        self,
        outcome: Outcome,
        words: RegisterWords,
        arrived_at: datetime,
        boottime: float,
        missing: tuple[MissingBlock, ...] = (),
    ) -> Reading:
        interval_s = None if self._last is None else min(boottime - self._last, self._longest_s)
        self._last = boottime
        sample = self._sample(words, arrived_at, interval_s)
        self.night.note(self._notes)
        self._notes.save()
        return Reading(
            device_id=self.settings.device_id,
            outcome=outcome,
            sample=sample,
            boottime=boottime,
            missing=missing,
            refused=self._refusals.of(self._plans, self._notes.refused.keys(), self._battery.supplied),
            identity=self.identity,
            state=self._session.state,
        )

    def _sample(self, words: RegisterWords, ts: datetime, interval_s: float | None) -> SungrowSample:
        assert self._normalizer is not None
        if self._fields is not None and (plans := self._plans.with_neighbours(words)) is not self._plans:
            words = self._plans.decided(words)  # unknown until the next poll has read what stands beside it
            self._read_by(plans)
        self._normalizer = self._normalizer.learning(words)
        self._notes.signed_battery = self._normalizer.signed_battery
        sample = self._normalizer.normalize(words, ts=ts, interval_s=interval_s, firmware=True)
        self.night.see(sample.pv_power_w, self._normalizer.identity)
        self._battery.is_there = sample.battery_soc_pct is not None
        changes = self._battery.values(self._battery.take())
        if not self._see_firmware(words):
            changes["firmware"] = None
        if holes := self._plans.holes(words) - self._notes.holes.keys():
            self._notes.see_holes(holes, ts.timestamp())
            self._read_by(self._plans.beyond(holes))
        if self._fields is not None:
            others = SungrowSample.model_fields.keys() - _ALWAYS - set(self._fields)
            changes |= dict.fromkeys(others)
        return sample.model_copy(update=changes)

    def _see_firmware(self, words: RegisterWords) -> bool:
        """Note the firmware that was read; return whether it is another one than was known.

        Another firmware may serve other registers: all is found out anew. What was a hole may be filled now.
        """
        assert self._normalizer is not None
        identity = self._normalizer.identity
        texts = self._plans.firmware_texts(words)
        if not texts or identity is None:
            return False
        before = firmware_of(identity.family, self._notes.firmware)
        is_other = self._notes.see_firmware(texts)
        identity = remembered(identity, self._notes)
        if is_other or self._is_firmware_known:
            self._notes.holes.clear()
            self._know(identity)
        if is_other:
            self._battery.forget()
        self._is_firmware_known = True
        self._normalizer = replace(self._normalizer, identity=identity)
        return identity.firmware != before

    async def errand(self, deadline: float) -> None:
        """Use what is left of a pass to find out more of the unit, or to ask its battery."""
        identity = self.identity
        if self.plan is None or identity is None:
            return
        reader = CarefulReader(self._session, self.settings.unit, timeout_s=_SHORT_TIMEOUT_S)
        reader.notes = self._notes
        if await reader.ask_again(self._plans.wants, deadline):
            self._know(identity)
        if identity.family is not Family.SH or not self._session.is_open:
            return
        if identity.path is ConnectionPath.UNKNOWN and self._fields is None:
            path = await self._guesses.guess(reader, identity.family, deadline)
            if path is not ConnectionPath.UNKNOWN:
                self._know(replace(identity, path=path))
        else:
            await self._battery.visit(deadline, self._notes, identity, self._plans)


class InverterReader:
    """Reads all inverters behind one address at the polite rate. An async context manager.

    What each unit is, is found out in its first pass; a unit that does not answer then is asked again
    after a growing pause, while the others are read. What a unit serves and refuses is remembered on disk
    and used at the next start; when its firmware changes, it is found out anew.

    Power values are read in every poll, energies, settings and the battery's cells once a minute, and
    firmware a few times a day. Where a pass has no time for all of it, the slower ones wait.

    Args:
        settings: the address and the manners.
        units: the inverters.
        fields: quantities to read, by name; None for everything. With them only those registers are read
            that they need, and samples hold nothing else.
        clock: the clocks; another one only in tests.

    Raises:
        UsageError: there is no such field.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        units: Sequence[UnitSettings],
        *,
        fields: Collection[str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        require_fields(fields or ())
        self._settings = settings
        self._session = DeviceSession(settings, clock)
        alone = len(units) == 1
        self._units = [_Unit(unit if alone else _own_battery(unit), self._session, fields) for unit in units]
        self._poller: ModbusPoller | None = None
        self._planned: dict[int, UnitPlan] = {}
        self._found: list[Reading] = []
        self._not_before = self._session.clock.boottime()

    @property
    def state(self) -> ConnectionState:
        """What the connection is doing; ``ASLEEP`` is said only of devices whose sun had set."""
        state = (self._poller or self._session).state
        for unit in self._units:
            state = unit.night.judge(state)
        return state

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
        readings = await self._pass(self._poller) if self._poller else await self._discover()
        self._set_plans()
        return readings

    async def _pass(self, poller: ModbusPoller) -> tuple[Reading, ...]:
        """Poll the units that are known; what time is left goes to the others, and to errands."""
        by_unit = {unit.settings.unit: unit for unit in self._units}
        self._found = []
        poll = await poller.poll(self._errands)
        return (*(by_unit[result.unit].reading(result) for result in poll.units), *self._found)

    async def _errands(self, deadline: float) -> None:
        unknown = next((unit for unit in self._units if unit.plan is None and not unit.rests()), None)
        if unknown is not None:
            self._found.append(await unknown.discover(deadline))
            return
        for unit in self._units:
            if self._session.is_open:
                await unit.errand(deadline)

    async def _discover(self) -> tuple[Reading, ...]:
        """Use one pass to find out what units are."""
        unknown = [unit for unit in self._units if not unit.rests()]
        if not unknown:
            silent = DeviceError("the device was silent; it is asked again after a pause", was_asked=False)
            return tuple(unit.no_reading(silent) for unit in self._units)
        try:
            async with self._session.one_pass():
                return tuple([await unit.discover() for unit in unknown])
        except DeviceError as error:
            return tuple(unit.no_reading(error) for unit in unknown)

    def _set_plans(self) -> None:
        """Let the poller read each unit as it is known now."""
        plans = {unit.settings.unit: unit.plan for unit in self._units if unit.plan is not None}
        if not plans:
            self._poller = None
        elif self._poller is None:
            self._poller = ModbusPoller(self._settings, list(plans.values()), session=self._session)
        else:
            for number in self._planned.keys() - plans.keys():
                self._poller.drop(number)
            for number, plan in plans.items():
                if plan is not self._planned.get(number):
                    self._poller.set_plan(plan)
        self._planned = plans


def _own_battery(unit: UnitSettings) -> UnitSettings:
    """Of several inverters behind one address nobody knows whose a battery is, unless the user says so."""
    return unit if unit.battery_units is not None else replace(unit, battery_units=())


class SungrowInverter:
    """One inverter as a stream of samples. An async context manager.

    Args:
        settings: the address and the manners.
        device_id: goes into the samples.
        unit: Modbus unit id.
        family: register map; None to go by what the device says of itself.
        battery_units: where to look for the battery; see `UnitSettings`.
        fields: quantities to read, by name; see `InverterReader`.

    Raises:
        UsageError: there is no such field.

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
        battery_units: tuple[int, ...] | None = None,
        fields: Collection[str] | None = None,
    ) -> None:
        one = UnitSettings(device_id=device_id, unit=unit, family=family, battery_units=battery_units)
        self._reader = InverterReader(settings, [one], fields=fields)

    @property
    def state(self) -> ConnectionState:
        """What the connection is doing."""
        return self._reader.state

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
