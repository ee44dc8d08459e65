"""What a WiNet-S does beyond refusing: it serves a copy, to one client, and restarts when it is pestered."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sungrow_lib.errors import UnknownFamilyError
from sungrow_lib.quantities import Family
from sungrow_lib.registers.identity import identify
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Register
from sungrow_lib.registers.words import WORD_MAX, RegisterWords, Space

Image = Mapping[tuple[Space, int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DongleHabits:
    """How a dongle behaves.

    Attributes:
        copy_s: seconds for which it answers from its copy of the inverter's registers.
        refusals: refused reads it survives ...
        within_s: ... in this many seconds. One more and it restarts.
        restart_s: seconds for which it is away then.
    """

    copy_s: float = 5.0
    refusals: int = 4
    within_s: float = 5.0
    restart_s: float = 30.0


class Dongle:
    """A dongle's memory of what it copied and of how it was treated.

    Args:
        habits: how it behaves.
        clock: seconds on any steady clock; replaced in tests.
    """

    def __init__(self, habits: DongleHabits, clock: Callable[[], float] = time.monotonic) -> None:
        self._habits = habits
        self._clock = clock
        self._copies: dict[int, tuple[float, Image]] = {}
        self._refused: deque[float] = deque(maxlen=habits.refusals + 1)
        self._away_until = clock()
        self.crashes = 0
        """How often it had enough."""

    @property
    def is_away(self) -> bool:
        """Whether it is restarting."""
        return self._clock() < self._away_until

    def words(self, unit: int, read: Callable[[], Image]) -> Image:
        """Return the dongle's copy of a unit's registers; ``read`` gets a new one when it is too old."""
        now = self._clock()
        copied_at, copy = self._copies.get(unit, (-math.inf, {}))
        if now - copied_at >= self._habits.copy_s:
            copy = forwarded(read())
            self._copies[unit] = (now, copy)
        return copy

    def refused(self) -> bool:
        """Note a refused read; return whether that was one too many."""
        now = self._clock()
        self._refused.append(now)
        if len(self._refused) <= self._habits.refusals or now - self._refused[0] > self._habits.within_s:
            return False
        self._refused.clear()
        self._copies.clear()
        self._away_until = now + self._habits.restart_s
        self.crashes += 1
        return True


def forwarded(words: Image) -> Image:
    """Leave out what a hybrid's dongle lacks: registers it does not forward, and holes between registers."""
    try:
        family = identify(RegisterWords(words)).family
    except UnknownFamilyError:
        return words
    if family is not Family.SH:  # dongles of string inverters were seen to fill holes, as a LAN port does
        return words
    table = RegisterMap.for_family(family)
    return {
        (space, number): word
        for (space, number), word in words.items()
        if _is_forwarded(table.at(space, number), word)
    }


def _is_forwarded(register: Register | None, word: int) -> bool:
    return word != WORD_MAX if register is None else register.applies.winet
