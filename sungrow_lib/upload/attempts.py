"""One attempt to deliver one batch: build it, send it, settle what the answer says."""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from math import inf
from time import time
from typing import Final

import anyio

from sungrow_lib.errors import ConfigurationError, ServerError, ServerUnreachableError, SpoolError
from sungrow_lib.logs import Repeated
from sungrow_lib.spool import DurableSpool, Settlement, SpoolEntry, SystemClock
from sungrow_lib.upload.backoff import CALM_S, Asking, Backoff
from sungrow_lib.upload.compression import write_body
from sungrow_lib.upload.credentials import TokenSource
from sungrow_lib.upload.http import IngestTransport
from sungrow_lib.upload.pace import BatchSize
from sungrow_lib.upload.settings import UploadSettings
from sungrow_lib.upload.status import NO_TOKEN, ConnectionState, StatusBoard
from sungrow_lib.upload.verdicts import Action, Reply, Ruling, judge_reply
from sungrow_lib.upload.witnesses import Witnesses
from sungrow_lib.wire import FRESH_S, DeviceInfo, Envelope

_LOG: Final = logging.getLogger(__name__)
_SLOW_PART: Final = 0.25
"""A request that takes more than this part of the longest time it may take holds too many readings."""

TOO_LARGE: Final = "http_413"
"""Code of a ruling when a batch is larger than somebody lets pass."""
TOO_MANY: Final = "http_429"
"""Code of a ruling when the server has had too much of one kind of batch, and may well take the other."""
UNREACHABLE: Final = "unreachable"
"""Code of a ruling without any answer."""


class Kind(Enum):
    """Which batches a pause is for; servers count fresh readings and a backlog apart."""

    ANY = "any"
    FRESH = "fresh"
    BACKLOG = "backlog"


def kind_of(batch: Sequence[SpoolEntry]) -> Kind:
    """Tell whether a batch holds fresh readings; the server goes by the same rule."""
    youngest = max(entry.ts_ms for entry in batch)
    return Kind.FRESH if youngest >= (time() - FRESH_S) * 1000 else Kind.BACKLOG


def _is_no_way(error: ServerError) -> bool:
    """Whether there is no way to the server: nothing was sent."""
    return isinstance(error, ServerUnreachableError) and not error.was_connected


class Link:
    """What all devices of an uploader share: the connection, the token, the pause the server asked for.

    Args:
        spool: where the readings are.
        settings: how to deliver them.
        transport: the connection.
    """

    def __init__(self, spool: DurableSpool, settings: UploadSettings, transport: IngestTransport) -> None:
        self.spool = spool
        self.settings = settings
        self.transport = transport
        self.tokens = TokenSource(settings)
        self.board = StatusBoard()
        self.clock = SystemClock()
        self._not_before = dict.fromkeys(Kind, 0.0)
        self._reached = anyio.Event()
        self._is_reachable = False
        self._reaching = anyio.Lock()
        self._troubles = Repeated()
        # Of each device, and alarms apart: however much else there is to say hides none.
        self._said: defaultdict[tuple[str, bool], Repeated] = defaultdict(Repeated)
        self.asking = Asking()
        self._has_token = True

    @property
    def edge_id(self) -> str:
        """Name of this edge."""
        return self.settings.edge_id or self.spool.identity.edge_id

    @property
    def is_ready(self) -> bool:
        """Whether, as far as is known, there is a token to send and a way to the server."""
        return self._has_token and self._is_reachable

    async def token(self) -> str:
        """Return the token; say once that there is none, and once that there is one again.

        Raises:
            ConfigurationError: there is none, with the reason.
        """
        if not self._has_token:
            await self.tokens.refresh()  # who waits for another one hears of it, whoever finds it
        try:
            token = await self.tokens.current()
        except ConfigurationError as error:
            if self._has_token:
                _LOG.error("no token; readings are kept until there is one", extra={"reason": str(error)})
            self._has_token = False
            self.board.raise_alarm(NO_TOKEN, str(error), None)
            raise
        if not self._has_token:
            _LOG.info("there is a token now")
            self._has_token = True
            self.board.has_token()
        return token

    async def look_for_token(self) -> None:
        """Look again for a token where there was none: nobody else does who has nothing to send."""
        if not self._has_token:
            with suppress(ConfigurationError):
                await self.token()

    def note_unreachable(self, error: ServerError) -> None:
        """Note that there was no usable answer; each reason is said once, then how often it was so."""
        reason = str(error)
        if _is_no_way(error):
            self._is_reachable = False
        self.board.failed(ConnectionState.UNREACHABLE, reason)
        if times := self._troubles.count(reason):
            extra = {"reason": reason, "times": times}
            _LOG.warning("the server is not reached; readings are kept", extra=extra)

    def say(self, level: int, event: str, *, device_id: str, **more: object) -> None:
        """Log what may happen ever again: once in a while, with how often it did; each time for debugging."""
        times = self._said[device_id, level >= logging.ERROR].count(f"{event} {more.get('code')}")
        extra = {"device_id": device_id, **more, "times": times}
        _LOG.log(level if times else logging.DEBUG, event, extra=extra)

    def all_is_well(self) -> None:
        """Note that readings were delivered: what was told of long ago is told of at once when it recurs."""
        for said in self._said.values():
            said.over()

    async def wait_turn(self, kind: Kind = Kind.ANY) -> None:
        """Wait as long as the server asked with `Retry-After`, whichever device it told."""
        while (remaining := self._pause_s(kind)) > 0:  # noqa: ASYNC110 - it may be moved
            await anyio.sleep(remaining)

    def is_held_back(self, kind: Kind) -> bool:
        """Whether batches of this kind have to wait."""
        return self._pause_s(kind) > 0

    def hold_back(self, seconds: float, kind: Kind) -> None:
        """Let nobody send batches of this kind for so long."""
        self._not_before[kind] = max(self._not_before[kind], anyio.current_time() + seconds)

    def _pause_s(self, kind: Kind) -> float:
        return max(self._not_before[Kind.ANY], self._not_before[kind]) - anyio.current_time()

    async def wait_for_network(self, seconds: float) -> None:
        """Wait, but no longer than until another lane reaches the server."""
        with anyio.move_on_after(seconds):
            await self._reached.wait()

    async def note_reply(self, reply: Reply) -> None:
        """Wake whoever waits for the network, and let the server's date vouch for the clock."""
        self._is_reachable = True
        self._reached.set()
        self._reached = anyio.Event()
        if self._troubles.over():
            _LOG.info("the server is reached again")
        if reply.date is not None:
            await self.spool.observe_server_date(reply.date, self.clock.stamp())

    async def reach(self) -> None:
        """See that there is a way to the server, if there was none lately.

        Readings are noted as offered before they are sent, and from then on never merged. So while the server
        is away for long, only this question is sent, and the readings wait as they are.

        Raises:
            ServerError: there is none.
        """
        async with self._reaching:
            if self._is_reachable:
                return
            try:
                await self.ask_server_date()
            except ServerError as error:
                self.note_unreachable(error)
                if _is_no_way(error):
                    raise
                self._is_reachable = True  # somebody is there, and may answer to what matters

    async def ask_server_date(self) -> None:
        """Ask `GET /health` for the server's date alone.

        Raises:
            ServerError: no answer.
        """
        await self.wait_turn()
        await self.note_reply(await self.transport.health())


class Attempts:
    """Sends batches of one device.

    Attributes:
        info: what is known of the device, sent beside the readings.
        delivered_at: when a reading of this device was last delivered, on the event loop's clock.
        refused_token: version of the token that was refused last.
        size: how many readings a batch may hold now.
    """

    def __init__(self, link: Link, device_id: str, info: DeviceInfo | None) -> None:
        self._link = link
        self._device_id = device_id
        self.info = info
        self.delivered_at = float("-inf")
        self.refused_token = -1
        slow_s = link.settings.request_timeout_s * _SLOW_PART
        self.size = BatchSize(link.settings.batch_size, slow_s)
        self._witnesses = Witnesses(link.spool, device_id)
        # Whoever settles an answer has it, and who offers all again: no batch begins meanwhile.
        self._gate = anyio.Lock()
        # How often all was offered again. An answer to what was sent before the last time does not count: the
        # server may have lost since what it said it had.
        self._offering = 0
        self._is_resend_owed = False  # all is to be offered again, and that did not succeed yet
        self._witnessing = anyio.Lock()
        self._resends = Backoff()
        self._resent_at = self._not_before = -inf

    async def attempt(self, batch: Sequence[SpoolEntry]) -> Ruling:
        """Send a batch once and settle what can be settled.

        Raises:
            SpoolError: the answer could not be settled; the batch will be sent again.
        """
        offering = await self._begin()
        board = self._link.board
        board.in_flight += 1
        try:
            ruling = await self._with_witness(await self._exchange(batch), offering)
        finally:
            board.in_flight -= 1
        if ruling.action is Action.PAUSE and await self._is_taken_back(batch, ruling):
            return Ruling(Action.SETTLE, "as delivered as before", "asked")
        if ruling.action is Action.SETTLE:
            await self._settle(batch, ruling, offering)
        else:
            self._report(ruling, batch)
        return ruling

    async def hindrance(self) -> Ruling | None:
        """Tell what keeps anything from being sent now, the token or the network; None when nothing does."""
        try:
            await self._token()
            await self._link.reach()
        except ConfigurationError as error:
            ruling = Ruling(Action.PAUSE, str(error), NO_TOKEN)
        except ServerError as error:
            ruling = Ruling(Action.KEEP, str(error), UNREACHABLE)
        else:
            return None
        self._report(ruling, [])
        return ruling

    async def _token(self) -> str:
        """Return the token.

        Raises:
            ConfigurationError: there is none; it counts as refused.
        """
        version = self._link.tokens.version
        try:
            return await self._link.token()
        except ConfigurationError:
            self.refused_token = version
            raise

    async def _begin(self) -> int:
        """Wait while all is being offered again, and for the rest after it; return how often that was."""
        while True:
            await anyio.sleep_until(self._not_before)
            async with self._gate:
                if anyio.current_time() >= self._not_before:
                    return self._offering

    async def _is_taken_back(self, batch: Sequence[SpoolEntry], ruling: Ruling) -> bool:
        """Whether it is no reason for an alarm: only what was delivered, and was asked for, is refused."""
        if ruling.code == NO_TOKEN:  # of all devices, which is an alarm of its own
            return False
        is_taken_back = await self._link.spool.take_back(self._device_id, [entry.seq for entry in batch])
        if is_taken_back:
            extra = {"code": ruling.code, "reason": ruling.detail}
            event = "whether the server still has a device's readings is not known"
            self._link.say(logging.INFO, event, device_id=self._device_id, **extra)
        return is_taken_back

    async def _exchange(self, batch: Sequence[SpoolEntry]) -> Ruling:
        link, kind = self._link, kind_of(batch)
        await link.wait_turn(kind)
        try:
            token = await self._token()
        except ConfigurationError as error:
            return Ruling(Action.PAUSE, str(error), NO_TOKEN)
        token_version = link.tokens.version
        ruling = await self._send(batch, token)
        if ruling.action is Action.PAUSE:
            self.refused_token = token_version
        if ruling.retry_after_s:
            link.hold_back(ruling.retry_after_s, kind if ruling.code == TOO_MANY else Kind.ANY)
        return ruling

    async def _send(self, batch: Sequence[SpoolEntry], token: str) -> Ruling:
        link = self._link
        batch_id = uuid.uuid4().hex
        seqs = [entry.seq for entry in batch]
        started = anyio.current_time()
        try:
            head = await self._envelope(batch_id, seqs)
            reply = await link.transport.ingest(write_body(head, batch), token, readings=len(batch))
        except ServerUnreachableError as error:
            link.note_unreachable(error)
            if anyio.current_time() - started >= link.settings.request_timeout_s:
                self.size.too_large(len(batch))
            return Ruling(Action.KEEP, str(error), UNREACHABLE)
        except ServerError as error:
            self.size.too_large(len(batch))  # of fewer it may say less than is too much
            link.board.failed(ConnectionState.NOT_UNDERSTOOD, str(error))
            return Ruling(Action.ALARM, str(error), "not_our_answer")
        await link.note_reply(reply)
        ruling = judge_reply(reply, batch_id=batch_id, seqs=seqs)
        if ruling.action is Action.SETTLE:
            self.size.passed(len(batch), reply.took_s)
        else:
            link.board.failed(ruling.connection, ruling.detail)
        if ruling.code == TOO_LARGE:
            self.size.too_large(len(batch))
        return ruling

    async def _envelope(self, batch_id: str, seqs: list[int]) -> Envelope:
        return Envelope(
            batch_id=batch_id,
            edge_id=self._link.edge_id,
            generation=self._link.spool.identity.generation,
            seq=seqs,
            last_delivered=await self._link.spool.last_delivered(self._device_id),
            device=self.info,
        )

    async def _with_witness(self, ruling: Ruling, offering: int) -> Ruling:
        """Send a witness behind a batch that brought nothing new; both are settled together, or neither is.

        Its verdict changes nothing about the witness itself: it was delivered long ago.
        """
        settlement = ruling.settlement
        if settlement is None or ruling.inserted or ruling.resend:
            return ruling
        if not (settlement.delivered or settlement.conflicts):  # it is not named either
            return ruling
        async with self._witnessing:
            await self._witnesses.load()
            witness = self._witnesses.next()
            if witness is None or offering != self._offering:
                return ruling
            if self._link.is_held_back(kind_of([witness])):  # and nobody waits with it for as long as that
                return Ruling(Action.KEEP, "The server asked to wait with old readings.", TOO_MANY)
            return await self._send_witness(witness, ruling, settlement)

    async def _send_witness(self, witness: SpoolEntry, ruling: Ruling, settlement: Settlement) -> Ruling:
        second = await self._exchange([witness])
        if second.action in {Action.HALVE, Action.TROUBLE}:  # whatever ails it must not hold up the others
            self._witnesses.drop(witness)
            return replace(second, action=Action.KEEP)
        if second.settlement is None:
            return second
        self._witnesses.answered(witness)
        is_there = witness.seq in second.settlement.delivered
        return replace(
            ruling,
            settlement=replace(settlement, witness=witness.seq if is_there else None),
            resend=second.resend or second.inserted > 0,
        )

    async def _settle(self, batch: Sequence[SpoolEntry], ruling: Ruling, offering: int) -> None:
        settlement = ruling.settlement
        assert settlement is not None
        with anyio.CancelScope(shield=True):
            is_current = await self._write(settlement, offering)
        if settlement.delivered:
            self.delivered_at = anyio.current_time()
        if self._device_id in self._link.board.paused:
            self._link.say(logging.INFO, "the server takes the token again", device_id=self._device_id)
        count = len(settlement.delivered) if is_current else 0
        self._link.board.delivered(self._device_id, count, settlement.server_version)
        if settlement.delivered:
            self._link.all_is_well()
        if is_current:
            self._report_quarantined(settlement)
        if is_current and ruling.resend:
            await self.resend(offering)
        if ruling.inserted:
            delivered = set(settlement.delivered)
            self._witnesses.add([entry for entry in batch if entry.seq in delivered])
        if is_current and not ruling.resend:
            self._link.asking.is_well(self._device_id)
            await self._ask_for_others()

    async def _write(self, settlement: Settlement, offering: int) -> bool:
        """Settle what an answer says, and return True; or False if all was offered again meanwhile."""
        spool = self._link.spool
        has_complaints = settlement.conflicts or settlement.rejected or settlement.deferred
        async with self._gate:
            if offering != self._offering:
                return False
            await (spool.settle if has_complaints else spool.settle_later)(self._device_id, settlement)
            return True

    def _report_quarantined(self, settlement: Settlement) -> None:
        for judged in (*settlement.conflicts, *settlement.rejected):
            # Each is in the quarantine, with its reason: `spool list` shows them all.
            extra = {"seq": judged.seq, "code": judged.code, "reason": judged.reason}
            self._link.say(logging.WARNING, "reading quarantined", device_id=self._device_id, **extra)

    def _rest(self) -> None:
        """Wait ever longer with a server that asks for everything again and again: it stores nothing."""
        now = anyio.current_time()
        if now - self._resent_at > CALM_S:
            self._resends.reset()
        self._resent_at, self._not_before = now, now + self._resends.next_s()

    async def _ask_for_others(self) -> None:
        """Let one reading of each other device be sent: the server lacks theirs, too, but asks only then.

        There may be none to come: of an inverter that was taken down, or has another name now.
        """
        spool, asking = self._link.spool, self._link.asking
        if not asking.is_due(anyio.current_time()):
            return
        asking.begin(anyio.current_time())
        others = [device_id for device_id in await spool.devices() if device_id != self._device_id]
        for device_id in others:
            await spool.ask_last(device_id)
        asking.end(others)

    async def resend_owed(self) -> None:
        """Offer all again where that raised, and raise likewise: the server may not ask once more."""
        if self._is_resend_owed:
            await self.resend(self._offering)

    async def resend(self, asked_for: int | None = None) -> None:
        """Offer again all the spool keeps of this device: the server lacks what it once had.

        Args:
            asked_for: how often that was done when a batch was sent whose answer asks for it; once more is
                enough for all of these, and readings of other devices may be lacking, too. None: by hand.

        Raises:
            SpoolError: they could not be offered; it is owed from now on.
        """
        async with self._gate:
            if asked_for is not None and asked_for != self._offering:
                return
            self._offering += 1
            if asked_for is not None:
                self._link.asking.lost(self._device_id, anyio.current_time())
                await self._ask_for_others()
            self._is_resend_owed = False
            try:
                count = await self._link.spool.reoffer(self._device_id)
            except SpoolError:
                self._is_resend_owed = True
                raise
            self._witnesses.forget()
            if asked_for is not None:
                self._rest()
        event = "the server lost readings; offering all again"
        self._link.say(logging.WARNING, event, device_id=self._device_id, readings=count)

    def _report(self, ruling: Ruling, batch: Sequence[SpoolEntry]) -> None:
        board, device_id = self._link.board, self._device_id
        extra = {"code": ruling.code, "reason": ruling.detail, "readings": len(batch)}
        if ruling.action in {Action.PAUSE, Action.ALARM}:
            board.raise_alarm(ruling.code, ruling.detail, device_id)
            # The link has said already that there is no token: for all devices at once.
            level = logging.INFO if ruling.code == NO_TOKEN else logging.ERROR
            self._link.say(level, "upload needs attention", device_id=device_id, **extra)
        else:
            level = logging.DEBUG if ruling.code == UNREACHABLE else logging.INFO  # that was said already
            self._link.say(level, "batch not delivered, kept", device_id=device_id, **extra)
