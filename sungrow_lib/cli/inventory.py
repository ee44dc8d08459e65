"""Reading everything a device documents: what `dump` and `probe` have in common."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sungrow_lib.cli.connection import check_family, tell
from sungrow_lib.modbus.discovery import CarefulReader, guess_path, recognise_unit
from sungrow_lib.modbus.notes import DeviceNotes
from sungrow_lib.modbus.settings import REFUSED_READ_INTERVAL_S
from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import Presence
from sungrow_lib.registers.identity import Identity, identify
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Access
from sungrow_lib.registers.plan import ReadPlan
from sungrow_lib.registers.words import Space


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
    path = await guess_path(reader, identity.family)
    return identify(reader.words, family=identity.family, path=path), reader.notes


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


def announce(identity: Identity, plan: ReadPlan) -> None:
    """Tell the person waiting how long it may take."""
    tell(
        f"{identity.model or 'unknown model'}: reading what is documented in {len(plan.blocks)} requests; "
        f"each one that is refused takes {REFUSED_READ_INTERVAL_S:.0f} s longer and may lead to more"
    )
