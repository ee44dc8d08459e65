"""What inverters were found to refuse: a line of the log when that changes, and what `status` says of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sungrow_lib.logs import Repeated
from sungrow_lib.modbus.refusals import Refusal
from sungrow_lib.registers.words import Block

_LOG: Final = logging.getLogger("sungrow_edge")
_MOST: Final = 10
"""So many registers and values are named."""
_FEW: Final = 3
"""So many registers are named in a line for people."""


class RefusalLog:
    """What one inverter is known to refuse.

    Args:
        device_id: which.
    """

    def __init__(self, device_id: str) -> None:
        self._device_id = device_id
        self._refused: tuple[Refusal, ...] = ()
        self._known: set[tuple[str, Block]] = set()
        self._said = Repeated()

    def see(self, refused: tuple[Refusal, ...]) -> None:
        """Note what a reading tells; say once what is new, and what is no longer so."""
        if refused == self._refused:
            return
        before, self._refused = self._refused, refused
        self._say("refused", _beyond(refused, before))
        self._say("no longer refused", _beyond(before, refused))

    def _say(self, event: str, refusals: Sequence[Refusal]) -> None:
        if refusals:
            told = named(refusals)
            said_anew = {(event, refusal.block) for refusal in refusals} - self._known
            self._known |= said_anew
            # Who changes its mind all the time fills no log.
            times = self._said.count(f"{event} {told}") or (1 if said_anew else None)
            extra = {"device_id": self._device_id, "times": times, **told}
            _LOG.log(logging.INFO if times else logging.DEBUG, event, extra=extra)

    def told(self) -> dict[str, Any]:
        """Name what is refused, for the health file."""
        return named(self._refused)


def _beyond(these: Iterable[Refusal], others: Iterable[Refusal]) -> list[Refusal]:
    known = {refusal.block for refusal in others}
    return [refusal for refusal in these if refusal.block not in known]


def named(refusals: Sequence[Refusal]) -> dict[str, Any]:
    """Name the first of the registers, and of the values that are not there for them; count the others."""
    registers = [_register(refusal) for refusal in refusals]
    fields = list(dict.fromkeys(field for refusal in refusals for field in refusal.fields))
    return {
        "registers": registers[:_MOST],
        "more_registers": len(registers[_MOST:]),
        "fields": fields[:_MOST],
        "more_fields": len(fields[_MOST:]),
    }


def _register(refusal: Refusal) -> str:
    first, *others = refusal.registers
    block = refusal.block
    place = f"{block.space.name.lower()} {block.first}" if block.count == 1 else str(block)
    return f"{place} ({_listed([first], len(others))})"


def refused_words(told: dict[str, Any]) -> str | None:
    """Say for people what `RefusalLog.told` returned; None where nothing is refused."""
    if not told["registers"]:
        return None
    first, others = told["registers"][:_FEW], told["registers"][_FEW:]
    registers = _listed(first, len(others) + told["more_registers"])
    if not told["fields"]:
        return f"it refuses {registers}; no value is missing for that"
    return f"missing, as the inverter refuses it: {_listed(told['fields'], told['more_fields'])}; {registers}"


def _listed(names: Iterable[str], more: int) -> str:
    return ", ".join(names) + (f" and {more} more" if more else "")
