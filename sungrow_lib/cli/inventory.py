"""Reading everything a device documents: what `dump` and `probe` have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from sungrow_lib.cli.connection import check_family, tell
from sungrow_lib.errors import DeviceError, DeviceUnreachableError
from sungrow_lib.modbus.careful import CarefulReader, PlanReading
from sungrow_lib.modbus.discovery import guess_path, recognise_unit
from sungrow_lib.modbus.notes import DeviceNotes
from sungrow_lib.modbus.session import DeviceSession
from sungrow_lib.modbus.settings import REFUSED_READ_INTERVAL_S
from sungrow_lib.modbus.tiers import TierPlans
from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import Presence
from sungrow_lib.registers.identity import Identity, identify
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Access
from sungrow_lib.registers.plan import ReadPlan
from sungrow_lib.registers.words import Block, Space

_TRIES: Final = 3
"""Passes in a row that may bring nothing."""
_TRIES_OF_A_BLOCK: Final = 2
_RECONNECT_S: Final = 10.0
"""Seconds to wait for a device that is gone; a dongle takes half a minute to start."""


async def identify_with_path(
    reader: CarefulReader, family: Family | None, *, afresh: bool = False
) -> tuple[Identity, DeviceNotes]:
    """Find out what the device is and how it is reached, and what is known of it from before.

    Args:
        reader: reads the unit; inside a pass.
        family: register map, where the user names it.
        afresh: forget what is known from before.

    Raises:
        DeviceError: it does not answer.
        UnknownFamilyError: it does not say what it is.
        UsageError: it says that it is not of ``family``.
    """
    identity = await recognise_unit(reader, family=family)
    check_family(family, reader.words)
    if afresh:
        reader.notes.forget()
    await _see_firmware(reader, identity)
    try:
        path = await guess_path(reader, identity.family)
    except DeviceError:  # it answered before: reading it goes on, by whatever path
        path = reader.notes.connection
    return identify(reader.words, family=identity.family, path=path), reader.notes


async def _see_firmware(reader: CarefulReader, identity: Identity) -> None:
    """Ask for the firmware: under another one, what is known from before counts for nothing."""
    plans = TierPlans.of(identity, reader.notes, ("firmware",))
    reading = await reader.read_plan(plans.identity, known=reader.words)
    reader.notes.see_firmware(plans.firmware_texts(reading.words))


def documented_plan(identity: Identity, notes: DeviceNotes, spaces: Collection[Space]) -> ReadPlan:
    """Plan to read every documented register the device may have, except what it refused before."""
    names = [
        register.name
        for register in RegisterMap.for_family(identity.family)
        if register.space in spaces
        and register.access is not Access.WRITE
        and register.applies.presence(identity.context) is not Presence.ABSENT
    ]
    plan = ReadPlan.for_registers(identity.family, names, identity.context)
    return replace(plan, refused=plan.refused | notes.refused.keys())


async def read_on(session: DeviceSession, reader: CarefulReader, reading: PlanReading) -> PlanReading:
    """Go on with a thorough reading that was cut short, in passes of their own, until no more is to be had.

    A request that fails twice is left out, and a device that does not answer at all any more ends it.

    Args:
        session: the device; between passes.
        reader: made the reading.
        reading: as far as it went.

    Raises:
        DeviceError: the device does not answer any more.
    """
    failed: Counter[Block] = Counter()
    in_vain = 0
    while left := [block for block in reading.unread if failed[block] < _TRIES_OF_A_BLOCK]:
        if in_vain == _TRIES and reading.error is not None:
            raise reading.error
        failed.update(left if reading.error is None else left[:1])  # all were refused for now, or one failed
        avoid = [block for block, times in failed.items() if times == _TRIES_OF_A_BLOCK]
        tell(f"{reading.error or 'some requests are still open'}; going on in some seconds")
        before = len(reading.words)
        reading = await _another_part(session, reader, reading, avoid)
        in_vain = 0 if len(reading.words) > before else in_vain + 1
    if reading.unread:
        tell(f"never answered: {', '.join(map(str, reading.unread))}")
    return reading


async def _another_part(
    session: DeviceSession, reader: CarefulReader, reading: PlanReading, avoid: Collection[Block]
) -> PlanReading:
    try:
        async with session.one_pass():
            return await reader.read_plan(reading.plan, thorough=True, known=reading.words, avoid=avoid)
    except DeviceUnreachableError as error:
        await session.clock.sleep(_RECONNECT_S)
        return replace(reading, error=error)


def announce(identity: Identity, plan: ReadPlan) -> None:
    """Tell the person waiting how long it may take."""
    tell(
        f"{identity.model or 'unknown model'}: reading what is documented in {len(plan.blocks)} requests; "
        f"each one that is refused takes {REFUSED_READ_INTERVAL_S:.0f} s longer and may lead to more"
    )
