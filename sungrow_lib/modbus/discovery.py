"""Finding out what answers at an address, with at most one refused read in five seconds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

from sungrow_lib.errors import DeviceError, DeviceTimeoutError, RegisterRefusedError, UnknownFamilyError
from sungrow_lib.modbus.backoff import Backoff
from sungrow_lib.modbus.careful import CarefulReader
from sungrow_lib.modbus.clock import Clock
from sungrow_lib.modbus.notes import DeviceNotes
from sungrow_lib.modbus.session import DeviceSession
from sungrow_lib.quantities import QUANTITY_BY_NAME, Family
from sungrow_lib.registers.applies import ConnectionPath
from sungrow_lib.registers.identity import Identity, family_by_answers, family_of, identify
from sungrow_lib.registers.words import WORD_MAX, Block, RegisterWords, Space

_INVERTER_PLATE: Final = Block(Space.INPUT, 4990, 13)
"""Serial number, type code, nominal power, output type: the same on hybrids and string inverters."""

_PLATES: Final = {
    Family.SH: _INVERTER_PLATE,
    Family.SG: _INVERTER_PLATE,
    Family.IHM: Block(Space.INPUT, 8000, 5),
    Family.BATTERY: Block(Space.INPUT, 10710, 11),
}
"""Where a device says what it is, in the order in which an unknown one is asked."""

_USUAL_UNITS: Final = {Family.BATTERY: range(200, 208), Family.IHM: range(247, 248)}
"""Unit ids under which these usually answer, where no dongle is between: they are asked as that first."""

_ONLY_BY_DONGLE: Final = frozenset({"SG-RS", "SG-RT"})
"""Product lines without a network port of their own."""

_TELLTALES: Final = (
    Block(Space.INPUT, 13008, 2),
    Block(Space.INPUT, 5031, 2),
    Block(Space.INPUT, 13000, 48),
)
"""Load power, which only hybrids have; active power of a string inverter; whatever else a hybrid fills."""

_FIRMWARE_REGISTERS: Final = {
    family: tuple(
        dict.fromkeys(
            source.register
            for item in QUANTITY_BY_NAME["firmware"].sources.get(family, ())
            for source in item
        )
    )
    for family in Family
}
"""By family, where its firmware stands, best first."""

_LONGEST_GUESS_REST_S: Final = 3600.0

_FIRST_REST_S: Final = 600.0
_LONGEST_REST_S: Final = 6 * 3600.0

_HISTORY: Final = Block(Space.INPUT, 6100, 1)
"""First register of the yield history: the LAN port and the serial bus serve it, no dongle forwards it."""


async def identify_unit(
    reader: CarefulReader, *, family: Family | None = None, path: ConnectionPath = ConnectionPath.UNKNOWN
) -> Identity:
    """Find out what a unit is: family, model, serial number.

    Args:
        reader: reads the unit; inside a pass.
        family: register map, where the user names it.
        path: how the device is reached, where that is known.

    Raises:
        UnknownFamilyError: it answers, but nothing it says tells the family.
        DeviceError: it does not answer.
    """
    try:
        words, told = await _read_plate(reader, family)
        if told is None:
            words = await _read_telltales(reader, words)
    except (DeviceTimeoutError, RegisterRefusedError) as error:
        raise DeviceTimeoutError(
            f"the connection stands, but unit {reader.unit} does not answer; check --unit (an inverter is "
            "usually 1, an iHomeManager 247), that --port is the Modbus port, and that no other program "
            "reads the device"
        ) from error
    return identify(words, family=told, path=path)


async def _read_plate(reader: CarefulReader, family: Family | None) -> tuple[RegisterWords, Family | None]:
    """Read where a device says what it is; with the family, if that is already told by it."""
    if family is not None:  # the user knows better than a plate that is not forwarded
        return await reader.read(_PLATES[family]) or RegisterWords(), family
    usual = _usual_family(reader.unit)
    plates: dict[Block, RegisterWords | None] = {}
    if usual is not None:
        words = plates[_PLATES[usual]] = await reader.read(_PLATES[usual])
        if words and family_of(words) is usual:
            return words, usual
    for block in dict.fromkeys(_PLATES.values()):
        words = plates[block] if block in plates else await reader.read(block)
        if words and set(words.values()) != {WORD_MAX}:
            others = next(name for name, plate in _PLATES.items() if plate == block)
            return words, family_of(words) or (None if block == _INVERTER_PLATE else others)
    return RegisterWords(), None


def _usual_family(unit: int) -> Family | None:
    return next((kind for kind, units in _USUAL_UNITS.items() if unit in units), None)


async def _read_telltales(reader: CarefulReader, words: RegisterWords) -> RegisterWords:
    """Read what only one family has, for a type code that nobody knows or that is not served."""
    for block in _TELLTALES:
        words |= await reader.read(block) or {}
        if family_by_answers(words):
            return words
    if not reader.words:
        raise DeviceError(
            f"it refuses every question what it is ({reader.refusal}); check --unit, try again later, "
            "or name its register map with --family"
        )
    raise UnknownFamilyError


class Patience:
    """Who refused every question, such as a string inverter by night, is asked all of them rarely again.

    Args:
        clock: the clocks.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rest = Backoff(_FIRST_REST_S, _LONGEST_REST_S)

    @asynccontextmanager
    async def with_questions(
        self, reader: CarefulReader, family: Family | None
    ) -> AsyncGenerator[None, None]:
        """Be with the questions what a unit is; meanwhile one that hardly any device refuses comes first.

        Raises:
            DeviceError: it does not answer, or refuses that one still.
        """
        if self._rest.remaining_s(self._clock.boottime()):
            plate = _PLATES[family or _usual_family(reader.unit) or Family.SH]
            if await reader.read(plate) is None:
                raise DeviceError(f"it still refuses to say what it is ({reader.refusal}); is it asleep?")
        try:
            yield
        finally:
            if reader.words:
                self._rest.succeeded()
            elif reader.refusal:
                self._rest.failed(self._clock.boottime())


async def recognise_unit(reader: CarefulReader, *, family: Family | None = None) -> Identity:
    """Find out what a unit is, with what is remembered of it from before.

    From then on the reader goes by these notes and adds to them.

    Args:
        reader: reads the unit; inside a pass.
        family: register map, where the user names it.

    Raises:
        UnknownFamilyError: it answers, but nothing it says tells the family.
        DeviceError: it does not answer.
    """
    identity = await identify_unit(reader, family=family)
    reader.recall(identity)
    if reader.notes.connection is ConnectionPath.UNKNOWN:
        reader.notes.connection = _only_path(identity, reader.unit)
    return remembered(identity, reader.notes)


def _only_path(identity: Identity, unit: int) -> ConnectionPath:
    """The path that a device is reached by because there is hardly another; unknown where there are several.

    A serial gateway in front of a string inverter for houses looks like its dongle, and forwards as much.
    """
    if identity.family is Family.IHM:
        return ConnectionPath.LAN
    if identity.family is Family.BATTERY:
        return ConnectionPath.LAN if unit in _USUAL_UNITS[Family.BATTERY] else ConnectionPath.WINET_S
    return ConnectionPath.WINET_S if identity.context.line in _ONLY_BY_DONGLE else ConnectionPath.UNKNOWN


def remembered(identity: Identity, notes: DeviceNotes) -> Identity:
    """Return the identity with what earlier readings told: the connection path and the firmware."""
    firmware = firmware_of(identity.family, notes.firmware)
    return replace(identity, path=notes.connection, firmware=firmware or identity.firmware)


def firmware_of(family: Family, texts: Mapping[str, str]) -> str | None:
    """Return the firmware that a sample reports, of all firmware texts by register."""
    return next((texts[name] for name in _FIRMWARE_REGISTERS[family] if name in texts), None)


class PathGuesses:
    """Guesses how a device is reached; after each attempt that told nothing there is a longer rest.

    Args:
        session: the device.
        read_s: seconds that an attempt needs.
    """

    def __init__(self, session: DeviceSession, read_s: float) -> None:
        self._session = session
        self._read_s = read_s
        self._rest = Backoff(longest_s=_LONGEST_GUESS_REST_S)

    async def guess(self, reader: CarefulReader, family: Family, deadline: float) -> ConnectionPath:
        """Guess if it is time, and there is time until ``deadline`` (boot-time seconds); inside a pass."""
        now = self._session.clock.boottime()
        wait_s = self._rest.remaining_s(now) or self._session.refusals.remaining_s(now)
        if wait_s or deadline - now < self._read_s:
            return ConnectionPath.UNKNOWN
        self._rest.failed(now)  # unless it succeeds, it is tried again after a rest
        with suppress(DeviceError):
            return await guess_path(reader, family)
        return ConnectionPath.UNKNOWN


async def guess_path(reader: CarefulReader, family: Family) -> ConnectionPath:
    """Guess how a hybrid is reached, once: the notes remember it. Others do not tell.

    Raises:
        DeviceError: it does not answer.
    """
    notes = reader.notes
    if family is not Family.SH:
        return notes.connection
    if notes.connection is ConnectionPath.UNKNOWN:
        if _HISTORY not in notes.refused and await reader.read(_HISTORY) is not None:
            notes.connection = ConnectionPath.LAN
        elif _HISTORY in notes.refused:  # else it was only busy
            notes.connection = ConnectionPath.WINET_S
    return notes.connection
