"""The battery beside a hybrid: a Modbus unit of its own, found by asking, remembered, read at leisure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sungrow_lib.errors import DeviceError, UnknownFamilyError
from sungrow_lib.modbus.backoff import Backoff
from sungrow_lib.modbus.careful import CarefulReader
from sungrow_lib.modbus.discovery import recognise_unit
from sungrow_lib.modbus.learning import SLOW_INTERVAL_S, UnitPlan
from sungrow_lib.modbus.notes import DeviceNotes
from sungrow_lib.modbus.session import DeviceSession
from sungrow_lib.modbus.tiers import TierPlans
from sungrow_lib.modbus.unit import UnitReader
from sungrow_lib.normalizer import Normalizer
from sungrow_lib.quantities import Family, Tier
from sungrow_lib.registers.applies import ConnectionPath, DeviceContext
from sungrow_lib.registers.identity import Identity
from sungrow_lib.registers.plan import ReadPlan
from sungrow_lib.registers.words import RegisterWords

LAN_UNIT: Final = 200
"""Where the first battery answers on an inverter's own port and on the serial bus."""
DONGLE_UNIT: Final = 2
"""Where a WiNet-S usually puts it."""

_TIMEOUT_S: Final = 1.0
"""A battery that answers does so within a second; a unit that is not there must not cost the next pass."""
_MARGIN_S: Final = 0.2
_ASKED_AGAIN_S: Final = 7 * 86_400.0
"""A unit that was no battery may have become one: batteries are added to standing plants."""
_FIRST_REST_S: Final = 300.0
_LONGEST_REST_S: Final = 3600.0
"""Silence costs the connection, so a battery that stops answering is asked rarely."""


def usual_units(path: ConnectionPath) -> tuple[int, ...]:
    """Unit ids under which a battery may answer on this path, likeliest first."""
    usual = {ConnectionPath.LAN: (LAN_UNIT,), ConnectionPath.WINET_S: (DONGLE_UNIT,)}
    return usual.get(path, (LAN_UNIT, DONGLE_UNIT))


class BatteryReader:
    """Finds the battery's unit and reads it, one visit a pass, each within the time that is left.

    Args:
        session: the device.
        inverter: notes on the inverter beside it, which remember where the battery answers.
        units: unit ids to try.
        names: quantities wanted of it.
        path: how the device is reached.
    """

    def __init__(
        self,
        session: DeviceSession,
        inverter: DeviceNotes,
        *,
        units: Collection[int],
        names: Collection[str],
        path: ConnectionPath,
    ) -> None:
        self.identity: Identity | None = None
        """What the battery is, once it was found in this run."""
        self._session = session
        self._notes = inverter
        self._units = units
        self._names = names
        self._path = path
        self._reader: UnitReader | None = None
        self._backoff = Backoff(_FIRST_REST_S, _LONGEST_REST_S)
        self._due_at = session.clock.boottime()

    async def visit(self, deadline: float) -> RegisterWords:
        """Look for the battery or read it, when that is due and ends by ``deadline`` (boot-time seconds).

        Returns:
            What was read of its values; nothing in most passes.
        """
        now = self._session.clock.boottime()
        timeout_s = min(_TIMEOUT_S, deadline - now - self._session.read_s - _MARGIN_S)
        is_resting = self._backoff.remaining_s(now) or self._session.refusals.remaining_s(now)
        if now < self._due_at or is_resting or timeout_s < _TIMEOUT_S / 2:
            return RegisterWords()
        if self._reader is None:
            await self._find(timeout_s)
            return RegisterWords()
        return await self._read(self._reader)

    async def _find(self, timeout_s: float) -> None:
        unit = self._next_unit()
        if unit is None:
            self._due_at = self._session.clock.boottime() + SLOW_INTERVAL_S
            return
        reader = CarefulReader(self._session, unit, timeout_s=timeout_s)
        try:
            identity = await recognise_unit(reader, family=Family.BATTERY)
        except (DeviceError, UnknownFamilyError):
            self._give_up(unit)
            return
        if identity.device is None and identity.serial is None:  # another unit, or a hole
            self._give_up(unit)
            return
        self._notes.battery_unit = unit
        self.identity = identity
        self._reader = self._make_reader(identity, reader)

    @property
    def is_searching(self) -> bool:
        """Whether it is not found yet, and may be."""
        return self._reader is None and self._next_unit() is not None

    def _next_unit(self) -> int | None:
        """Where it is, else where it may be."""
        untried = (unit for unit in self._units if not self._was_tried(unit))
        return next(untried, None) if self._notes.battery_unit is None else self._notes.battery_unit

    def _was_tried(self, unit: int) -> bool:
        tried_at = self._notes.no_battery.get(unit)
        wall = self._session.clock.wall().timestamp()
        return tried_at is not None and abs(wall - tried_at) < _ASKED_AGAIN_S

    def _give_up(self, unit: int) -> None:
        """A unit known to be a battery is only silent now; another one is none."""
        if unit == self._notes.battery_unit:
            self._backoff.failed(self._session.clock.boottime())
        else:
            self._notes.no_battery[unit] = self._session.clock.wall().timestamp()

    def _make_reader(self, identity: Identity, found: CarefulReader) -> UnitReader:
        plan = ReadPlan.for_quantities(
            Family.BATTERY,
            DeviceContext(identity.device, self._path),
            tiers=(Tier.FAST, Tier.SLOW),
            names=self._names,
            refused=found.notes.refused,
        )
        unit_plan = UnitPlan(unit=found.unit, fast=plan, notes=found.notes)
        return UnitReader(unit_plan, self._session, backoff=self._backoff, timeout_s=_TIMEOUT_S)

    async def _read(self, reader: UnitReader) -> RegisterWords:
        reader.begin()
        await reader.read_fast()
        await reader.read_further()
        reader.memory.notes.save()
        words = reader.result().words
        if words:
            self._due_at = self._session.clock.boottime() + SLOW_INTERVAL_S
        elif reader.memory.dating is None:  # it serves nothing that is wanted
            self._due_at = self._session.clock.boottime() + _ASKED_AGAIN_S
        return words


class BatteryBeside:
    """The battery beside an inverter, as far as it adds to the inverter's samples.

    Args:
        session: the device.
        units: unit ids to look at; none to leave it alone, None for the usual ones of the path.
        fields: quantities wanted, by name; None for all.
    """

    def __init__(
        self, session: DeviceSession, units: Collection[int] | None, fields: Collection[str] | None
    ) -> None:
        self.is_there = False
        """Whether the inverter's last reading knew a battery."""
        self.supplied: frozenset[str] = frozenset()
        """Quantities that it has had a value of."""
        self._units = units
        self._session = session
        self._fields = fields
        self._names: frozenset[str] = frozenset()
        self._reader: BatteryReader | None = None
        self._words = RegisterWords()

    def forget(self) -> None:
        """Look for it anew."""
        self._reader = None
        self.supplied = frozenset()

    async def visit(self, deadline: float, notes: DeviceNotes, identity: Identity, plans: TierPlans) -> None:
        """Look for it, or read it, when that is due."""
        units = usual_units(identity.path) if self._units is None else self._units
        if not units or not (self.is_there or self._fields):
            return
        if self._reader is None:
            self._names = plans.beside(self._fields)
            self._reader = BatteryReader(
                self._session, notes, units=units, names=self._names, path=identity.path
            )
        if self._names:
            self._words |= await self._reader.visit(deadline)

    @property
    def is_searching(self) -> bool:
        """Whether it is being looked for and not found yet."""
        return self._reader is not None and self._reader.is_searching

    @property
    def has_words(self) -> bool:
        """Whether this pass read something of it."""
        return bool(self._words)

    def take(self) -> RegisterWords:
        """Return what this pass read, once."""
        words, self._words = self._words, RegisterWords()
        return words

    def values(self, words: RegisterWords) -> dict[str, Any]:
        """Return what the battery adds to the inverter's sample; nothing that the inverter says itself."""
        if not words or self._reader is None or self._reader.identity is None:
            return {}
        normalizer = Normalizer("battery", self._reader.identity)
        values = normalizer.values(words)
        found = {name: values[name] for name in self._names if values[name] is not None}
        if not self.supplied >= found.keys():
            self.supplied |= found.keys()
        return found
