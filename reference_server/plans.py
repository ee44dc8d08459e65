"""What several requests want stored, and one transaction that stores it.

Most requests bring a block: readings of one device, in order and new. Blocks are stored as they are, and a
repeated one is known by its bytes. What is not so simple (a block that shares a span of time with another
request, or with stored readings that differ; readings of several devices; unusual ones) goes row by row.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Final

from reference_server.storage.arrivals import LateBatch
from reference_server.storage.blocks import Block
from reference_server.storage.codec import Row
from reference_server.storage.connection import Connection
from reference_server.storage.devices import KnownDevice
from reference_server.storage.samples import (
    Aside,
    Key,
    Span,
    copy_blocks,
    copy_rows,
    insert_rows,
    mark,
    sorted_out,
    standing_rows,
    stored_rows,
)
from reference_server.verdicts import Verdicts
from sungrow_lib.wire import Envelope

_MOST_STAMPS: Final = 100
"""Readings of a batch up to which each one's time is told apart: a larger one is no poll, but a backlog."""
_MOST_DEVICES: Final = 100_000
_NEVER: Final = 2**63
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)


class OutdatedPlanError(Exception):
    """One of the devices was deleted since the plan was made: nothing is stored."""


@dataclass(slots=True)
class Plan:
    """What a batch asks of the database: repeatable, because a transaction may run twice.

    Attributes:
        envelope: what came beside the samples.
        speaker: the device the envelope is about, if any.
        edge_is_due: whether to note that the edge still speaks for it.
        horizon: what is older is kept aside.
        block: its readings, when they may be stored as they are.
        fresh: its readings otherwise, each with its place in the batch.
        old: those behind the horizon.
        asides: what else to keep.
    """

    envelope: Envelope
    speaker: KnownDevice | None
    edge_is_due: bool
    horizon: datetime
    block: Block | None = None
    fresh: list[tuple[int, Row]] = field(default_factory=list)
    old: list[Row] = field(default_factory=list)
    asides: list[Aside] = field(default_factory=list)

    @property
    def weight(self) -> int:
        """How much work it is."""
        return 1 + (len(self.fresh) if self.block is None else len(self.block))

    @property
    def devices(self) -> set[int]:
        """Those of which something may be written down."""
        found = {row.device for _, row in self.fresh} | {row.device for row in self.old}
        found |= {aside.device for aside in self.asides}
        if self.block is not None:
            found.add(self.block.device)
        if self.speaker is not None and not self.speaker.deleted:
            found.add(self.speaker.key)
        return found

    @property
    def rows(self) -> list[tuple[int, Row]]:
        """Its readings, each with its place in the batch."""
        if self.block is not None and not self.fresh:
            self.fresh = list(enumerate(self.block.rows()))
        return self.fresh

    def believed(self) -> list[Key]:
        """Keys the edge believes delivered, inside the horizon."""
        if self.speaker is None or self.speaker.deleted:
            return []
        return [(self.speaker.key, ts) for ts in self.envelope.last_delivered or () if ts >= self.horizon]


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of the readings of plans.

    Attributes:
        stored: blocks that were stored as they are.
        repeated: blocks that stood before, exactly so.
        standing: of all other readings, the rows that stood before under their keys.
    """

    stored: frozenset[Block | None]
    repeated: frozenset[Block | None]
    standing: dict[Key, Row]

    def judge(self, plan: Plan, verdicts: Verdicts) -> tuple[list[LateBatch], list[Aside]]:
        """Give the verdicts; return what arrived, and what to keep aside. Call it in the plans' order."""
        if plan.block is not None and plan.block in self.repeated:
            verdicts.duplicates += len(plan.block)
            return [], []
        if plan.block is not None and plan.block in self.stored:
            verdicts.inserted += len(plan.block)
            stamps = array("q", plan.block.stamps.tobytes())
            return [_arrived(Span.of_block(plan.block), stamps)], []
        inserted, asides = self._judge_rows(plan, verdicts)
        verdicts.inserted += len(inserted)
        taken: defaultdict[int, array[int]] = defaultdict(partial(array, "q"))
        for row in inserted:
            taken[row.device].append((row.ts - _EPOCH) // _US)
        return [_arrived(span, taken[span.device]) for span in Span.of_rows(inserted)], asides

    def _judge_rows(self, plan: Plan, verdicts: Verdicts) -> tuple[list[Row], list[Aside]]:
        """The same row by row; those it stores stand for all that come after them."""
        inserted: list[Row] = []
        asides: list[Aside] = []
        for index, row in plan.rows:
            stands = self.standing.setdefault(row.key, row)
            if stands is row:
                inserted.append(row)
            elif (aside := verdicts.compare(stands, index, row)) is not None:
                asides.append(aside)
        return inserted, asides


def _arrived(span: Span, stamps: array[int]) -> LateBatch:
    """Say what arrived; it is kept for a while, and there may be a great many: so in few bytes."""
    return LateBatch(*span, len(stamps), stamps if 1 < len(stamps) <= _MOST_STAMPS else ())


async def store(connection: Connection, plans: Sequence[Plan], *, careful: bool) -> Fates:
    """Insert what is new of the plans' readings, and ask for the rollups of their time.

    Args:
        connection: in a transaction.
        plans: in the order of their requests.
        careful: whether others may be inserting the same keys just now.

    When others did, and it was not, the database refuses; nothing is stored, and the next attempt is careful.
    """
    blocks = [] if careful else lone_blocks(plans)
    free, repeated = await sorted_out(connection, blocks)
    whole = {*free, *repeated}
    left = [plan for plan in reversed(plans) if plan.block is None or plan.block not in whole]
    new = {row.key: row for plan in left for _, row in reversed(plan.rows)}
    if careful:
        inserted = await insert_rows(connection, list(new.values()))
        standing = await stored_rows(connection, new.keys() - inserted)
    else:
        standing = await standing_rows(connection, new.values())
        inserted = new.keys() - standing.keys()
        await copy_rows(connection, [new[key] for key in inserted])
        await copy_blocks(connection, free)
    await mark(connection, inserted, free)
    return Fates(frozenset(free), frozenset(repeated), standing)


class Stored:
    """Up to when this process has stored blocks of each device.

    What comes after them is most likely new. Another process may have stored it, though: nobody needs to look
    first, as long as somebody does when the database says that a key is taken.
    """

    def __init__(self) -> None:
        self._until: dict[int, int] = {}

    def is_before(self, blocks: Iterable[Block]) -> bool:
        """Whether all these begin after what was stored."""
        return all(int(block.stamps[0]) > self._until.get(block.device, _NEVER) for block in blocks)

    def note(self, blocks: Iterable[Block]) -> None:
        """Note that these are stored."""
        if len(self._until) >= _MOST_DEVICES:
            self._until.clear()
        for block in blocks:
            self._until[block.device] = max(int(block.stamps[-1]), self._until.get(block.device, 0))


def lone_blocks(plans: Sequence[Plan]) -> list[Block]:
    """Blocks that share no span of time with another reading of their device, in the order of the key."""
    by_device: defaultdict[int, list[Block]] = defaultdict(list)
    for plan in plans:
        if plan.block is not None:
            by_device[plan.block.device].append(plan.block)
    for device in {row.device for plan in plans if plan.block is None for _, row in plan.fresh}:
        by_device.pop(device, None)
    found: list[Block] = []
    for _, blocks in sorted(by_device.items()):
        blocks.sort(key=lambda block: block.first)
        if all(one.last < other.first for one, other in pairwise(blocks)):
            found += blocks
    return found
