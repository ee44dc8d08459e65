"""The lanes of one device: fresh readings first, the backlog beside them, deferred ones on their own."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Final, Protocol

import anyio

from sungrow_lib.errors import SpoolError
from sungrow_lib.spool import Judged, Lane, Settlement, SpoolEntry
from sungrow_lib.upload.attempts import TOO_LARGE, UNREACHABLE, Attempts, Kind, Link, kind_of
from sungrow_lib.upload.backoff import BACK_WITHIN_S, Backoff
from sungrow_lib.upload.batch import Batch
from sungrow_lib.upload.verdicts import UNFIT_ADVICE, Action, Ruling
from sungrow_lib.wire import DeviceInfo

_LOG: Final = logging.getLogger(__name__)
_REPEATS: Final = 5
"""So often a batch must fail with a 5xx, while another passes, before it is halved."""
_REPEATS_OF_PART: Final = 2
"""The same for a part of a batch that was halved already."""
_MOST_SUSPECTS: Final = 8
"""Where more readings than this fail and none passes, it is the server that fails, not the readings."""
_REFUSED_ALONE: Final = 3
"""So often a reading must be refused alone, and no other pass, until somebody is told: one bad one among good
is found out sooner."""
_SET_ASIDE_S: Final = 86_400.0
_TOKEN_POLL_S: Final = 10.0
_SAME_TOKEN_S: Final = 300.0
"""A refused token is tried again this often: the server may have been told about it meanwhile."""


class _Take(Protocol):
    """Looks up readings of a lane, or takes them: what `peek` and `offer` of a spool have in common."""

    async def __call__(
        self, device_id: str, limit: int, lane: Lane, /, *, skip: Collection[int], bound: int
    ) -> list[SpoolEntry]: ...


@dataclass
class _Part:
    """A batch, or what is left of one after halving.

    Attributes:
        entries: its readings.
        repeats: how many 5xx it takes before it is halved.
        failures: 5xx so far.
        since: when it first failed, on the event loop's clock.
    """

    entries: Sequence[SpoolEntry]
    repeats: int = _REPEATS
    failures: int = 0
    since: float = 0.0

    def halves(self) -> Iterator[_Part]:
        """Part it in two."""
        middle = len(self.entries) // 2
        yield _Part(self.entries[:middle], _REPEATS_OF_PART)
        yield _Part(self.entries[middle:], _REPEATS_OF_PART)


@dataclass
class _Suspect:
    """A single reading that failed although others may pass.

    Attributes:
        entry: the reading.
        since: when it first failed, on the event loop's clock.
        next_try: when to try it again, at the latest.
        refused: how often it was refused alone.
        is_token_refused: whether, last time, it was the token that was.
    """

    entry: SpoolEntry
    since: float
    next_try: float
    refused: int = 0
    is_token_refused: bool = False
    backoff: Backoff = field(default_factory=Backoff)


class DeviceLanes:
    """Delivers the readings of one device until cancelled.

    Args:
        link: what all devices share.
        device_id: the device.
        info: what is known of it.
    """

    def __init__(self, link: Link, device_id: str, info: DeviceInfo | None) -> None:
        self._link = link
        self._device_id = device_id
        self.attempts = Attempts(link, device_id, info)
        self._claimed: set[int] = set()
        self._claiming = anyio.Lock()
        self._suspects: dict[int, _Suspect] = {}
        self._left_to_backlog = 0
        self._paused_at: float | None = None
        self._expects_offers = False

    async def run(self) -> None:
        """Run all lanes until cancelled; nothing a server or network does ends them."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._lane, Lane.FRESH)
            tasks.start_soon(self._lane, Lane.DUE)
            for _ in range(self._link.settings.backlog_workers):
                tasks.start_soon(self._lane, Lane.BACKLOG)

    async def flush(self) -> None:
        """Deliver what is pending, newest first, until nothing is left or an attempt fails.

        A batch that is refused as a whole is halved; a reading that is refused alone waits to the end.
        """
        try:
            while batch := await self._take(Lane.FRESH) or await self._take(Lane.BACKLOG):
                if isinstance(batch, Ruling):
                    return
                with self._holding(batch):
                    if not await self._flush(batch):
                        return
            await self._try_suspects()
        except SpoolError as error:
            self._alarm("spool", str(error))

    async def _flush(self, batch: Sequence[SpoolEntry]) -> bool:
        """Send a batch, in parts if need be, without a pause; return whether others may pass yet."""
        parts = deque([_Part(batch)])
        while parts:
            part = parts.popleft()
            ruling = await self.attempts.attempt(part.entries)
            is_refused = ruling.action is Action.HALVE and self._break_up(part, parts)
            if ruling.action is not Action.SETTLE and not is_refused:
                return False
        return True

    # --- a lane ------------------------------------------------------------------------------------------

    async def _lane(self, lane: Lane) -> None:
        interval_s = self._link.settings.upload_interval_s
        backoff, has_failed = Backoff(), False
        while True:
            try:
                is_busy = await self._turn(lane, backoff)
            except SpoolError as error:
                has_failed = True
                self._alarm("spool", str(error))
                await anyio.sleep(backoff.next_s())
                continue
            except Exception:  # noqa: BLE001 - whatever it is: it must not stop the others, or this lane for good
                _LOG.exception("upload lane failed", extra={"device_id": self._device_id, "lane": lane})
                self._alarm("internal", "The uploader met an error of its own; see the log.")
                await anyio.sleep(backoff.next_s())
                continue
            if has_failed:  # in this lane: what others do may need less of the spool
                self._link.board.clear_alarm("spool", self._device_id)
                has_failed = False
            if not is_busy:
                await anyio.sleep(interval_s)

    def _alarm(self, code: str, detail: str) -> None:
        if self._link.board.raise_alarm(code, detail, self._device_id):
            event = "upload needs attention"
            self._link.say(logging.ERROR, event, device_id=self._device_id, code=code, reason=detail)

    async def _turn(self, lane: Lane, backoff: Backoff) -> bool:
        """Deliver one batch; return whether to go on with the next at once."""
        await self._wait_while_paused()
        await self.attempts.resend_owed()
        started = anyio.current_time()
        if lane is Lane.DUE and not await self._try_suspects():
            return False  # its next turn waits for another token
        batch = await self._take(lane)
        if isinstance(batch, Ruling):
            await self._rest(batch, backoff, BACK_WITHIN_S if lane is Lane.FRESH else inf)
            return True
        with self._holding(batch):
            if lane is Lane.FRESH and self._has_to_wait(batch):
                self._leave_to_backlog(batch)
                return False
            await self._deliver(batch, lane, backoff)
        if lane is Lane.FRESH and not batch:
            await self._end_pause()
        if lane is Lane.FRESH and batch:
            await self._expect(are_offers=self.attempts.delivered_at >= started)
        is_getting_on = self.attempts.delivered_at >= started or len(batch) > self.attempts.size.current
        return bool(batch) and lane is not Lane.FRESH and is_getting_on

    async def _expect(self, *, are_offers: bool) -> None:
        """Let readings to come be noted as offered at once, as long as the server takes them."""
        if are_offers is not self._expects_offers:
            await self._link.spool.expect_offers(self._device_id, are_expected=are_offers)
            self._expects_offers = are_offers

    async def _take(self, lane: Lane) -> Batch | Ruling:
        """Take readings that no other lane has in hand, or tell what keeps them from being sent.

        Taken readings count as offered; release them with `_holding`.
        """
        if not self._link.is_ready:
            if not await self._look(self._link.spool.peek, lane):
                return Batch([])  # what comes this moment waits for the next turn: nobody was asked for it
            if (ruling := await self.attempts.hindrance()) is not None:
                return ruling
        async with self._claiming:
            batch = Batch(await self._look(self._link.spool.offer, lane))
            self._claimed.update(entry.seq for entry in batch)
        return batch

    async def _look(self, take: _Take, lane: Lane) -> list[SpoolEntry]:
        skip = self._claimed | self._suspects.keys()
        bound = 0 if lane is Lane.DUE else self._left_to_backlog
        return await take(self._device_id, self.attempts.size.current, lane, skip=skip, bound=bound)

    @contextmanager
    def _holding(self, batch: Sequence[SpoolEntry]) -> Iterator[None]:
        try:
            yield
        finally:
            self._claimed.difference_update(entry.seq for entry in batch)

    async def _deliver(self, batch: Sequence[SpoolEntry], lane: Lane, backoff: Backoff) -> None:
        """Send a batch, in parts if need be, until each reading is settled, suspected or given up for now."""
        parts = deque([_Part(batch)] if batch else [])
        has_passed = False
        while parts:
            part = parts.popleft()
            ruling = await self.attempts.attempt(part.entries)
            if ruling.action is Action.SETTLE:
                backoff.reset()
                has_passed = True
                continue
            is_bad = self._is_bad(part, ruling)
            if is_bad and ruling.code == TOO_LARGE and len(part.entries) > self.attempts.size.current:
                return  # the limit is known better now: what is left is taken anew, in smaller batches
            if is_bad and self._break_up(part, parts):
                if len(part.entries) > 1 or has_passed:
                    has_passed = has_passed and len(part.entries) > 1
                    continue
                # Refused alone, and no other passed since the last that was: it may be so with all of them.
            else:
                is_bad = False
                parts.append(part)
            if lane is Lane.FRESH and (is_bad or part.failures == 0 or part.failures >= part.repeats):
                # Newer readings may have come meanwhile, or may pass where these do not.
                if part.failures or is_bad:
                    self._leave_to_backlog(batch)
                if self._has_to_wait(part.entries):
                    return
                await self._rest(ruling, backoff, at_most_s=BACK_WITHIN_S)
                return
            await self._rest(ruling, backoff)
            if len(part.entries) > self.attempts.size.current:
                return  # they were not taken in time: what is left is taken anew, in smaller batches

    def _has_to_wait(self, batch: Sequence[SpoolEntry]) -> bool:
        """Whether these are part of a backlog the server had too much of: no fresh reading waits for it."""
        return bool(batch) and kind_of(batch) is Kind.BACKLOG and self._link.is_held_back(Kind.BACKLOG)

    def _leave_to_backlog(self, batch: Sequence[SpoolEntry]) -> None:
        self._left_to_backlog = max(self._left_to_backlog, batch[-1].seq)

    def _is_bad(self, part: _Part, ruling: Ruling) -> bool:
        """Count a failure; return whether, for all that is known, it is for these readings alone."""
        if ruling.action is Action.TROUBLE:
            part.failures += 1
            part.since = part.since or anyio.current_time()
        is_alone_in_trouble = part.failures >= part.repeats and self.attempts.delivered_at > part.since
        return ruling.action is Action.HALVE or is_alone_in_trouble

    def _break_up(self, part: _Part, parts: deque[_Part]) -> bool:
        """Halve a part, or suspect its only reading; return whether that was possible."""
        if len(part.entries) > 1:
            # One half to its end before the other: what passes is found soon, however many readings do not.
            parts.extendleft(reversed([*part.halves()]))
            return True
        if len(self._suspects) >= _MOST_SUSPECTS:
            return False
        entry, now = part.entries[0], anyio.current_time()
        self._suspects[entry.seq] = _Suspect(entry, since=now, next_try=now)
        return True

    async def _rest(self, ruling: Ruling, backoff: Backoff, at_most_s: float = inf) -> None:
        """Wait after a failure: for the network, for another token, or just for a while."""
        await self._expect(are_offers=False)
        if ruling.action is Action.PAUSE:
            self._pause()
            await self._wait_while_paused()
        elif ruling.code == UNREACHABLE:
            await self._link.wait_for_network(min(backoff.next_s(), at_most_s))
        else:
            await anyio.sleep(backoff.next_s(ruling.retry_after_s))

    # --- readings that fail on their own -----------------------------------------------------------------

    async def _try_suspects(self) -> bool:
        """Try those whose time has come; return whether the token is taken."""
        for suspect in list(self._suspects.values()):
            others_pass = self.attempts.delivered_at > suspect.since
            is_due = others_pass or anyio.current_time() >= suspect.next_try
            if is_due and not await self._try_suspect(suspect, others_pass=others_pass):
                return False
        return True

    async def _try_suspect(self, suspect: _Suspect, *, others_pass: bool) -> bool:
        ruling = await self.attempts.attempt([suspect.entry])
        suspect.is_token_refused = ruling.action is Action.PAUSE
        if ruling.action in {Action.HALVE, Action.TROUBLE} and others_pass:
            await self._set_aside(suspect.entry, ruling)
        elif ruling.action is not Action.SETTLE:
            suspect.next_try = anyio.current_time() + suspect.backoff.next_s(ruling.retry_after_s)
            suspect.refused += ruling.action is Action.HALVE
            if suspect.refused >= _REFUSED_ALONE:
                self._alarm(
                    ruling.code, f"No reading passes, not even one alone. {ruling.detail} {UNFIT_ADVICE}"
                )
            if ruling.action is Action.PAUSE:
                self._pause()
                return False
            return True
        del self._suspects[suspect.entry.seq]
        return True

    async def _set_aside(self, entry: SpoolEntry, ruling: Ruling) -> None:
        verdict = Judged(entry.seq, ruling.code, ruling.detail)
        await self._link.spool.settle(
            self._device_id, Settlement(deferred=[verdict], retry_in_s=_SET_ASIDE_S)
        )
        event = "reading set aside: the server fails on it alone; retried daily"
        extra = {"device_id": self._device_id, "code": ruling.code}
        self._link.say(logging.ERROR, event, **extra, seq=entry.seq, reason=ruling.detail)

    # --- a refused token ---------------------------------------------------------------------------------

    def _pause(self) -> None:
        self._paused_at = anyio.current_time()
        self._link.board.paused.add(self._device_id)

    async def _end_pause(self) -> None:
        """End the alarm of a token that was refused, if nothing is left to be sent with it."""
        board = self._link.board
        is_waiting = self._claimed or any(suspect.is_token_refused for suspect in self._suspects.values())
        is_over = self._device_id in board.paused and not is_waiting
        if is_over and not await self._look(self._link.spool.peek, Lane.BACKLOG):
            board.has_nothing_refused(self._device_id)

    async def _wait_while_paused(self) -> None:
        """Wait until there is another token, or long enough to try the same one again."""
        tokens = self._link.tokens
        poll_s = min(_TOKEN_POLL_S, self._link.settings.upload_interval_s)
        while (paused_at := self._paused_at) is not None:
            await tokens.refresh()
            if self._paused_at != paused_at:
                continue  # another lane was faster: it ended the pause, or began one anew
            is_new = tokens.version != self.attempts.refused_token
            if is_new or anyio.current_time() - paused_at >= _SAME_TOKEN_S:
                self._paused_at = None
                return
            await anyio.sleep(poll_s)
