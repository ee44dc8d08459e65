"""Reads that may be refused or lost, made one after the other with the manners a dongle needs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sungrow_lib.errors import DeviceError, RegisterRefusedError
from sungrow_lib.modbus.learning import PERMANENT_CODES
from sungrow_lib.modbus.notes import DeviceNotes
from sungrow_lib.modbus.results import MissingBlock, MissingReason
from sungrow_lib.modbus.session import DeviceSession
from sungrow_lib.registers.identity import Identity
from sungrow_lib.registers.plan import ReadPlan
from sungrow_lib.registers.words import Block, RegisterWords, Space
from sungrow_lib.sample import whole_milliseconds

_UNIT_SILENT_CODES: Final = frozenset({10, 11})

_TRIES: Final = 3
"""Times a request whose answer is lost is made in one reading; an urgent one also when the device is busy."""
_MOST_SPLITS: Final = 10
"""Refusals in one reading that lead to smaller requests, which may be refused as well."""
_IN_VAIN: Final = 2
"""Lost answers in a row after which the device is taken for gone."""
NOT_ASKED: Final = "not asked, to spare the device further refusals"
"""What is said of a part of a refused request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReading:
    """What reading a whole plan brought.

    Attributes:
        words: everything read.
        plan: the plan, which has learnt what was refused.
        arrived_at: aware UTC time, whole milliseconds, of the block that dates the reading; None without.
        arrived_boottime: the same on the boot-time clock, in seconds.
        error: what ended the reading early; None when it did not.
        failed: requests that brought nothing though the plan still has them, and why.
    """

    words: RegisterWords
    plan: ReadPlan
    arrived_at: datetime | None = None
    arrived_boottime: float | None = None
    error: DeviceError | None = None
    failed: Mapping[Block, DeviceError] = field(default_factory=dict)

    @property
    def unread(self) -> tuple[Block, ...]:
        """Requests the plan still has: parts of refused ones, not made yet to spare the dongle."""
        return tuple(block for block in self.plan.blocks if not _has(self.words, block))

    @property
    def missing(self) -> tuple[MissingBlock, ...]:
        """What did not arrive though the plan still has it, and why."""
        return tuple(self._missing(block) for block in self.unread)

    def _missing(self, block: Block) -> MissingBlock:
        failed = (error for asked, error in self.failed.items() if asked.covers(block))
        error = self.failed.get(block) or next(failed, self.error)
        if error is None:
            return MissingBlock(block, MissingReason.POSTPONED, None, NOT_ASKED)
        code = error.code if isinstance(error, RegisterRefusedError) else None
        return MissingBlock(block, MissingReason.of(error), code, str(error))


def _nobody(_text: str) -> None:
    """Tell nobody."""


class CarefulReader:
    """Reads of one unit that the device may refuse. Use it inside a pass of the session.

    Args:
        session: the device.
        unit: Modbus unit id.
        tell: called with a line for people whenever something takes seconds.
        timeout_s: seconds to wait for an answer, where that is less than the settings allow.
        reconnects: how often to connect again, after a pause, when an answer was lost: where nobody reads
            the device again in five seconds, the rest of the pass is worth it.
    """

    def __init__(
        self,
        session: DeviceSession,
        unit: int,
        *,
        tell: Callable[[str], None] = _nobody,
        timeout_s: float | None = None,
        reconnects: int = 0,
    ) -> None:
        self.unit = unit
        self.words = RegisterWords()
        """Everything read so far."""
        self.notes = DeviceNotes()
        """What was served and refused; set notes that last once the device is identified."""
        self.refusal: RegisterRefusedError | None = None
        """The latest refusal."""
        self.reconnects = reconnects
        """How often it may still connect again."""
        self.left = ""
        """How much there is to do, for people."""
        self._session = session
        self._timeout_s = timeout_s
        self._tell = tell

    def recall(self, identity: Identity) -> None:
        """Use the lasting notes on the device that was found here."""
        settings = self._session.settings
        self.notes = DeviceNotes.load(
            settings.host, settings.port, self.unit, identity, folder=settings.state_dir
        )
        self.notes.expire_holes(self._session.clock.wall().timestamp())

    def see_holes(self, names: Iterable[str]) -> None:
        """Note registers that just read as holes."""
        self.notes.see_holes(names, self._session.clock.wall().timestamp())

    async def read(self, block: Block) -> RegisterWords | None:
        """Read a block, after the distance to the last refused read; None when it is refused.

        Raises:
            DeviceError: no answer, or a damaged one.
        """
        clock = self._session.clock
        await self._reconnect()
        if wait_s := self._session.refusals.remaining_s(clock.boottime()):
            reason = f"{self.refusal}; " if self.refusal else ""
            self._tell(f"{reason}going on in {wait_s:.0f} s, for refusals are hard on a dongle{self.left}")
            await clock.sleep(wait_s)
        try:
            words = await self._session.read(self.unit, block, timeout_s=self._timeout_s)
        except RegisterRefusedError as error:
            self._session.after_refusal()
            if error.code in _UNIT_SILENT_CODES:
                raise
            if error.code in PERMANENT_CODES and block not in self.notes.answered:
                self.notes.add(block, error.code, clock.wall().timestamp())
            self.refusal = error
            return None
        except DeviceError:
            if block not in self.notes.answered:  # the answer that was lost may have been a refusal
                self._session.after_refusal()
            raise
        self.notes.add(block)
        self.words |= words
        return words

    async def ask_again(
        self, is_wanted: Callable[[Block], bool], deadline: float = math.inf
    ) -> frozenset[Block]:
        """Make requests that were refused before once more, as far as the notes say that it is time.

        The first that is refused again ends it. A request that may last beyond ``deadline`` is not made.

        Args:
            is_wanted: tells whether a request would bring something.
            deadline: boot-time seconds.

        Returns:
            What is served now.
        """
        clock = self._session.clock
        served: set[Block] = set()
        while (block := self.notes.to_ask_again(clock.wall().timestamp(), is_wanted)) is not None:
            now = clock.boottime()
            if self._session.refusals.remaining_s(now) or now + (self._timeout_s or 0.0) > deadline:
                break
            try:
                words = await self.read(block)
            except DeviceError:
                words = None
            if words is None:
                self.notes.put_off(block, clock.wall().timestamp())
                break
            served.add(block)
        self.notes.save()
        return frozenset(served)

    async def _reconnect(self) -> None:
        if self.reconnects and await self._session.has_hung_up():
            self.reconnects -= 1
            await self._session.reconnect()

    async def read_plan(
        self,
        plan: ReadPlan,
        *,
        thorough: bool = False,
        urgent: Collection[str] = (),
        known: RegisterWords | None = None,
        avoid: Collection[Block] = (),
    ) -> PlanReading:
        """Read every block of a plan. An error after the first answer does not void the reading.

        It ends the reading, unless there are reconnects left.

        Args:
            plan: what to read.
            thorough: ask what is refused again in smaller pieces, down to single registers, which takes 5 s
                for each refusal. Else only the block that dates the reading is worth that, ...
            urgent: ... and those that hold one of these registers, which are read before the others.
            known: what an earlier part of the reading brought.
            avoid: blocks to leave out.

        Raises:
            DeviceError: nothing was answered, in no part of the reading.
        """
        way = _Way(plan, known or RegisterWords(), avoid, urgent, thorough=thorough)
        while (block := way.next()) is not None:
            self.left = f"; requests left: {way.left}" if thorough else ""
            try:
                words = await self.read(block)
            except DeviceError as error:
                if self._may_go_on(way.lost(block, error), error):
                    continue
                if not way.words:
                    raise
                return way.reading(error)
            if words is None:
                way.refused(block, self.refusal, for_good=block in self.notes.refused)
                if way.serves_no_setting:
                    self._learn(way.settings_given_up(), self.refusal)
            else:
                way.answered(block, words, self._now())
        return way.reading()

    def _learn(self, blocks: Iterable[Block], refusal: RegisterRefusedError | None) -> None:
        """Note that requests need not be made: others like them were refused."""
        self._tell(f"unit {self.unit} serves no settings: the rest of them is not asked for")
        for block in blocks:
            self.notes.infer(block, refusal.code if refusal else 0)

    def _may_go_on(self, in_a_row: int, error: DeviceError) -> bool:
        if not self.reconnects or in_a_row >= _IN_VAIN:
            return False
        self._tell(f"{error}; going on in some seconds")
        return True

    def _now(self) -> tuple[datetime, float]:
        clock = self._session.clock
        return whole_milliseconds(clock.wall()), clock.boottime()


class _Way:
    """How far the reading of a plan has come."""

    def __init__(
        self,
        plan: ReadPlan,
        words: RegisterWords,
        avoid: Iterable[Block],
        urgent: Collection[str],
        *,
        thorough: bool,
    ) -> None:
        self.words = words
        self.left = 0
        """Requests still to be made."""
        self._plan = plan
        self._avoided = set(avoid)
        self._urgent = urgent
        self._thorough = thorough
        self._learnt: list[Block] = []
        self._failed: dict[Block, DeviceError] = {}
        self._losses: Counter[Block] = Counter()
        self._in_vain = 0
        self._splits = 0
        self._told: set[Block] = set()
        self._arrived: tuple[datetime, float] | None = None

    def next(self) -> Block | None:
        """The request to make now: urgent ones first, and of equals a lost one last, the dating one first."""
        left = [block for block in self._plan.blocks if not _has(self.words, block) and self._is_due(block)]
        self.left = len(left)
        best = min(left, key=self._rank, default=None)
        if best is not None and best.space is Space.HOLDING and self._doubts_settings:
            return next((block for block in self._plan.telltale_settings if self._is_due(block)), best)
        return best

    @property
    def _doubts_settings(self) -> bool:
        """Whether settings were refused and none was served."""
        is_refused = any(block.space is Space.HOLDING for block in self._plan.refused)
        return self._thorough and is_refused and not any(of is Space.HOLDING for of, _ in self.words)

    @property
    def serves_no_setting(self) -> bool:
        """Whether what any path that serves settings would serve was refused, too."""
        asked = self._told.issuperset(self._plan.telltale_settings)
        return self._doubts_settings and bool(self._told) and asked

    def settings_given_up(self) -> frozenset[Block]:
        """Leave out all settings; return the requests this means."""
        before = self._plan.refused
        self._plan = self._plan.without_settings()
        return self._plan.refused - before

    def _is_due(self, block: Block) -> bool:
        return block not in self._avoided and self._losses[block] < _TRIES

    def _rank(self, block: Block) -> tuple[bool, int, bool]:
        dates = block == self._plan.fast
        return not (dates or self._is_urgent(block)), self._losses[block], not dates

    def _is_urgent(self, block: Block) -> bool:
        return any(row.name in self._urgent and block.covers(row.block) for row in self._plan.registers)

    def answered(self, block: Block, words: RegisterWords, now: tuple[datetime, float]) -> None:
        """Note an answer."""
        self._in_vain = 0
        self.words |= words
        self._failed.pop(block, None)
        if block == self._plan.fast:
            self._arrived = now

    def lost(self, block: Block, error: DeviceError) -> int:
        """Note that there was no answer; return for how many requests in a row."""
        self._losses[block] += 1
        self._failed[block] = error
        self._in_vain += 1
        return self._in_vain

    def refused(self, block: Block, error: RegisterRefusedError | None, *, for_good: bool) -> None:
        """Note a refusal; what is worth it is asked again in smaller pieces."""
        self._in_vain = 0
        if for_good and block in self._plan.telltale_settings:
            self._told.add(block)
        if for_good and (self._thorough or self._is_worth_splitting(block)):
            self._splits += 1
            self._plan = self._plan.without(block)
            return
        if not for_good and self._is_urgent(block):
            self._losses[block] += 1
        else:
            self._avoided.add(block)
        if for_good:
            self._learnt.append(block)
        elif error is not None:
            self._failed[block] = error

    def _is_worth_splitting(self, block: Block) -> bool:
        is_urgent = self._is_urgent(block) and self._splits < _MOST_SPLITS
        return is_urgent or block == self._plan.fast

    def reading(self, error: DeviceError | None = None) -> PlanReading:
        """What it came to, ended early by ``error``."""
        plan = self._plan
        for block in self._learnt:
            plan = plan.without(block)
        arrived_at, boottime = self._arrived or (None, None)
        return PlanReading(
            words=self.words,
            plan=plan,
            arrived_at=arrived_at,
            arrived_boottime=boottime,
            error=error,
            failed=self._failed,
        )


def _has(words: RegisterWords, block: Block) -> bool:
    return words.take(block.space, block.first, block.count) is not None
