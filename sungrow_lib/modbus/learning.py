"""What one unit serves, learned from what it refused; and what to ask it next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

from sungrow_lib.modbus.backoff import Backoff
from sungrow_lib.modbus.notes import DeviceNotes
from sungrow_lib.modbus.settings import REFUSED_READ_INTERVAL_S
from sungrow_lib.registers.words import Block

PERMANENT_CODES: Final = frozenset({0, 1, 2, 3})
"""Exception codes that mean "not here", as far as one can know; every other one means "not now"."""

SLOW_INTERVAL_S: Final = 60.0
"""Seconds between two reads of a slow block, unless said otherwise."""

IDENTITY_INTERVAL_S: Final = 4 * 3600.0
"""Seconds between two reads of what changes only with the firmware, unless said otherwise."""

_LONGEST_BLOCK_DELAY_S: Final = 600.0
_MARGIN_S: Final = 0.01


class BlockPlan(Protocol):
    """Requests that can learn; :class:`~sungrow_lib.registers.plan.ReadPlan` is one."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The requests, the one that dates a reading first."""
        ...

    def without(self, refused: Block) -> Self:
        """Return the plan that has learnt that the device refused this request."""
        ...


@dataclass(frozen=True, slots=True)
class FixedBlocks:
    """A plan of hand-picked blocks; a refused one is cut in half until single registers are left.

    Attributes:
        blocks: the requests, the one that dates a reading first.
    """

    blocks: tuple[Block, ...]

    def without(self, refused: Block) -> FixedBlocks:
        """Return the plan with ``refused`` cut in two, or left out when it cannot be cut."""
        return FixedBlocks(
            tuple(
                part for block in self.blocks for part in (_halves(block) if block == refused else (block,))
            )
        )


def _halves(block: Block) -> tuple[Block, ...]:
    half = block.count // 2
    if half == 0:
        return ()
    return (
        Block(block.space, block.first, half),
        Block(block.space, block.first + half, block.count - half),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPlan:
    """What to read of one unit.

    Attributes:
        unit: Modbus unit id.
        fast: requests of every poll; the first one dates the reading, and without it there is none.
        slow: requests that are enough every `slow_interval_s`. A pass that has no time left puts them off
            until they have waited that long once more.
        slow_interval_s: seconds.
        identity: requests that are enough every `identity_interval_s`; they wait like slow ones.
        identity_interval_s: seconds.
        notes: experience with the unit, which is used and added to; None to begin without any.
    """

    unit: int
    fast: BlockPlan
    slow: BlockPlan = FixedBlocks(())
    slow_interval_s: float = SLOW_INTERVAL_S
    identity: BlockPlan = FixedBlocks(())
    identity_interval_s: float = IDENTITY_INTERVAL_S
    notes: DeviceNotes | None = field(default=None, compare=False)


class RefusalBudget:
    """Repeated refused reads crash dongles: after one, nothing untried is asked for a while.

    Shared by all units behind one dongle.
    """

    def __init__(self) -> None:
        self._last = self._one_before = -math.inf

    def spent(self, at: float) -> None:
        """Note a refused read (boot-time seconds); one that is known already is no second one."""
        if at > self._last + _MARGIN_S:
            self._last, self._one_before = at, self._last

    def remaining_s(self, now: float) -> float:
        """Seconds until the next read that may be refused."""
        return _rest_s(self._last, now)

    def remaining_of_any_s(self, now: float) -> float:
        """Seconds for which nothing is asked at all, not even what was served before.

        Two in a row are no whim: something changed, and everything may be refused.
        """
        return _rest_s(self._one_before, now)


def _rest_s(refused_at: float, now: float) -> float:
    return max(0.0, refused_at + REFUSED_READ_INTERVAL_S + _MARGIN_S - now)


@dataclass(slots=True)
class Experience:
    """What is known of one block.

    Attributes:
        proven: whether it was ever served.
        due_at: when it is next to be read, in boot-time seconds.
        waits_since: since when it is due but no pass had time for it, in boot-time seconds; None when it
            does not wait.
        backoff: waits after failures.
    """

    proven: bool = False
    due_at: float = -math.inf
    waits_since: float | None = None
    backoff: Backoff = field(default_factory=Backoff)


class UnitMemory:
    """One unit's plans and the experience with their blocks.

    Args:
        plan: what to read, and the notes on what the unit served and refused before.
    """

    def __init__(self, plan: UnitPlan) -> None:
        self.notes = plan.notes or DeviceNotes()
        self._fast = plan.fast
        self._slow = plan.slow
        self._identity = plan.identity
        self._slow_interval_s = plan.slow_interval_s
        self._identity_interval_s = plan.identity_interval_s
        self._known: dict[Block, Experience] = {}

    @property
    def dating(self) -> Block | None:
        """The request that dates a reading; None when the unit refused all that could."""
        return next(iter(self._fast.blocks), None)

    @property
    def further(self) -> Sequence[Block]:
        """The other requests of every poll."""
        return self._fast.blocks[1:]

    def due(self, now: float) -> Sequence[Block]:
        """The requests of the slower tiers that are due at ``now`` (boot-time seconds)."""
        # The firmware first: whatever is learnt of the rest counts for this firmware only.
        slower = dict.fromkeys((*self._identity.blocks, *self._slow.blocks))
        return [block for block in slower if block not in self._fast.blocks and now >= self.of(block).due_at]

    def inherit(self, before: UnitMemory) -> None:
        """Go on with the experience of another plan for the same unit, as far as the notes still hold it."""
        for block, known in before._known.items():
            known.proven = self.notes.has_answered(block)
            self._known[block] = known

    def of(self, block: Block) -> Experience:
        """The experience with one block."""
        known = self._known.get(block)
        if known is None:
            # A reading hangs on the block that dates it, so that one is never left alone for long.
            backoff = Backoff() if block == self.dating else Backoff(longest_s=_LONGEST_BLOCK_DELAY_S)
            known = Experience(proven=self.notes.has_answered(block), backoff=backoff)
            self._known[block] = known
        return known

    def must_wait(self, block: Block, now: float) -> bool:
        """Whether a block for which the pass has no time waits on; not when it waited for long already."""
        known = self.of(block)
        if known.waits_since is None:
            known.waits_since = now
        return now - known.waits_since < self._slow_interval_s

    def served(self, block: Block, now: float) -> None:
        """Note that a block was read at ``now``."""
        known = self.of(block)
        known.proven = True
        known.waits_since = None
        known.backoff.succeeded()
        known.due_at = now + self._interval_s(block)
        self.notes.add(block)

    def _interval_s(self, block: Block) -> float:
        """Seconds between two reads of a block; only asked about for the slower tiers."""
        return self._slow_interval_s if block in self._slow.blocks else self._identity_interval_s

    def refuse(self, block: Block, code: int, now: float, at: float) -> None:
        """Learn from a refused read at ``now`` (boot-time seconds), which is ``at`` in Unix seconds."""
        known = self.of(block)
        if known.proven or code not in PERMANENT_CODES:
            known.backoff.failed(now)  # it may well be served again
            return
        self.notes.add(block, code, at)
        self._fast = _learnt(self._fast, block)
        self._slow = _learnt(self._slow, block)
        self._identity = _learnt(self._identity, block)


def _learnt(plan: BlockPlan, refused: Block) -> BlockPlan:
    return plan.without(refused) if refused in plan.blocks else plan
