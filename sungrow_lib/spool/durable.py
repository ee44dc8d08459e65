"""`DurableSpool`: the spool for async code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from sungrow_lib.errors import SpoolCorruptError, SpoolUnavailableError
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import holding, looking, settling
from sungrow_lib.spool.building import build_store
from sungrow_lib.spool.clock import BootStamp, ClockState
from sungrow_lib.spool.entries import (
    HeldDevice,
    HeldWhy,
    Lane,
    SetApart,
    Settlement,
    SpoolCounts,
    SpoolEntry,
    SpoolIdentity,
    SpoolImport,
    SpoolOptions,
    SpoolOwner,
    SpoolRecord,
    SpoolRecovery,
    SpoolRenaming,
    SpoolState,
    from_ms,
    to_ms,
)
from sungrow_lib.spool.opening import SpoolOpening
from sungrow_lib.spool.relief import CHUNK
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.spool.system_clock import Clock, SystemClock

_Result = TypeVar("_Result")
_EXPORT_ROWS = 500


def _content(sample: SungrowSample) -> str:
    return sample.model_dump_json(exclude_none=True, exclude={"device_id", "ts"})


class DurableSpool:
    """Keeps accepted readings on disk until the server has them, whatever happens to power, network or disk.

    A reading is accepted once :meth:`append` has returned: it is then committed to a SQLite file with
    ``synchronous=FULL`` and survives a kill or a power cut at any moment. All work happens on one
    connection, one call at a time, in a worker thread. Other processes may read or settle beside it.

    Every method raises :class:`~sungrow_lib.errors.SpoolError` when the file cannot be used: nothing was
    changed then. Use :meth:`open` to get one.
    """

    def __init__(self, store: SpoolStore, limiter: anyio.CapacityLimiter) -> None:
        self._store = store
        self._limiter = limiter
        self._damage: str | None = None
        self._was_damaged = anyio.Event()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | Path,
        *,
        options: SpoolOptions | None = None,
        clock: Clock | None = None,
        damage: str | None = None,
        opening: SpoolOpening | None = None,
    ) -> AsyncIterator[DurableSpool]:
        """Open a spool, creating the file when missing (its folder must exist).

        A large file takes seconds to check, a large damaged one minutes to recover. Cancelled, either ends
        within moments and leaves the file as it was.

        Args:
            path: the file; SQLite keeps two more beside it, with `-wal` and `-shm` appended.
            options: how it keeps readings.
            clock: where the time comes from; the machine's clocks unless a test says otherwise.
            damage: what `damage` said when the spool was last open: with `SpoolOptions.recover` it is
                recovered then, whatever looking at the file finds.
            opening: tells meanwhile how that gets on.

        Raises:
            NotASpoolError: some other file, which is left as it is.
            SpoolUnavailableError: cannot be opened, or was made by a newer version.
            SpoolCorruptError: the file is damaged (see `SpoolOptions.recover`).
            SpoolFullError: no room to create it.
        """
        limiter = anyio.CapacityLimiter(1)

        work = opening or SpoolOpening()

        def build() -> SpoolStore:
            return SpoolStore(Path(path), options or SpoolOptions(), clock or SystemClock(), damage, work)

        store = await build_store(build, work, limiter)
        try:
            yield cls(store, limiter)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(store.close, limiter=limiter)

    @property
    def identity(self) -> SpoolIdentity:
        """Which edge and which generation of its spool this is."""
        return self._store.identity

    @property
    def recovery(self) -> SpoolRecovery | None:
        """What became of a damaged file this spool was made from; None for most."""
        return self._store.recovery

    @property
    def merged(self) -> int:
        """Readings that became part of others, on a full disk, since it was opened."""
        return self._store.relief.merged

    @property
    def damage(self) -> str | None:
        """What the first call that met damage said of it; None while none did. Open the spool anew then."""
        return self._damage

    async def keep_place(self) -> None:
        """Look whether the file is where it belongs; with `SpoolOptions.recover` put it back if it is not.

        Each call does so first. Call this now and then when there are none: what is in a file without a name
        is gone when the process ends.
        """
        await self._run(self._store.keep_place)

    def guard_place(self, is_ours: Callable[[], bool]) -> None:
        """Ask whether the place is still this program's before the file is put back there.

        Where it is another's, all that is here goes beside it when this spool is closed, and
        `take_in_replaced` of the other one imports it.

        Args:
            is_ours: tells, from any thread.
        """
        self._store.guard_place(is_ours)

    async def take_in_replaced(self) -> None:
        """Import the readings of files that were found in this one's place, and set aside.

        One that is still being written, and one that cannot be read, are left for later, and for you.
        """
        from sungrow_lib.spool.taking_in import take_in  # noqa: PLC0415 - memory, hardly ever needed

        await take_in(self, self._store.path)

    async def wait_damaged(self) -> None:
        """Return when a call met damage, whichever it was."""
        await self._was_damaged.wait()

    async def append(
        self, sample: SungrowSample, *, boot: BootStamp | None = None, ts_is_final: bool = False
    ) -> SpoolEntry:
        """Accept a reading: when this returns, it is on disk.

        A `ts` not after the device's last one is moved to one millisecond after it. While the clock is
        not trusted the reading waits (state WAITING) and is dated later from ``boot``.

        Args:
            sample: the reading.
            boot: the boot-time clock when `sample.ts` was read (`SystemClock.stamp`); now, when left out.
            ts_is_final: take `sample.ts` as it is, whatever the state of this machine's clock: for
                readings that were dated elsewhere. Append these in their order: one that is not after the
                device's last one is moved as any other is. History goes in by `sungrow-server import`.

        Returns:
            What was stored, with the running number and the date as stored.

        Raises:
            SpoolFullError: no room; not accepted.
            SpoolUnavailableError: the file cannot be written; not accepted.
        """
        content = _content(sample)
        ts = to_ms(sample.ts)
        return await self._run(
            lambda: self._store.append(sample.device_id, ts, content, boot=boot, ts_is_final=ts_is_final)
        )

    async def append_many(self, readings: Sequence[tuple[SungrowSample, BootStamp]]) -> list[SpoolEntry]:
        """Accept several readings, each with its boot-time stamp, in one commit: all of them, or none.

        It spares the disk most of what a commit each costs. What has not been handed over yet when the power
        fails is lost, and was not accepted.

        Raises:
            SpoolFullError: no room; none is accepted.
            SpoolUnavailableError: the file cannot be written; none is accepted.
        """
        rows = [(sample.device_id, to_ms(sample.ts), _content(sample), boot) for sample, boot in readings]
        return await self._run(lambda: self._store.append_many(rows))

    async def peek(
        self,
        device_id: str,
        limit: int,
        lane: Lane = Lane.FRESH,
        *,
        skip: Collection[int] = (),
        bound: int = 0,
    ) -> list[SpoolEntry]:
        """Return up to ``limit`` readings to deliver, in order of `seq`, changing nothing.

        Args:
            device_id: whose.
            limit: at most so many.
            lane: FRESH: the newest pending ones, after number ``bound``; BACKLOG: the oldest pending ones,
                leaving the newest ``limit`` alone unless they are at or below ``bound``; DUE: deferred
                ones whose time has come.
            skip: numbers to leave out.
            bound: see ``lane``.
        """
        return await self._run(lambda: self._store.peek(device_id, limit, lane, skip=skip, bound=bound))

    async def offer(
        self,
        device_id: str,
        limit: int,
        lane: Lane = Lane.FRESH,
        *,
        skip: Collection[int] = (),
        bound: int = 0,
    ) -> list[SpoolEntry]:
        """Return what :meth:`peek` returns, durably noted as offered: their dates stand from now on."""
        return await self._run(lambda: self._store.offer(device_id, limit, lane, skip=skip, bound=bound))

    async def settle(self, device_id: str, outcome: Settlement) -> int:
        """Move readings of a batch where the server's answer says, in one transaction.

        Returns:
            How many moved; those settled before, here or by another program, stay where they are.
        """
        return await self._run(lambda: self._store.settle(device_id, outcome))

    async def settle_later(self, device_id: str, outcome: Settlement) -> None:
        """Settle with the next change of the file, at the latest some seconds from now, to spare the disk.

        From now on these readings count as settled here, and whoever asks is told so. If the machine fails
        before they are written they are pending again: what is delivered is then delivered once more, which
        changes nothing. For an answer that says more than that, use :meth:`settle`.
        """
        await self._run(lambda: self._store.settle_later(device_id, outcome))

    async def expect_offers(self, device_id: str, *, are_expected: bool) -> None:
        """Say whether readings to come will be offered at once: then that is noted as they are appended.

        It spares the disk the note before each offer. A reading noted so counts as offered, whatever happens.
        """
        await self._run(lambda: self._store.expect_offers(device_id, are_expected=are_expected))

    async def ack(self, device_id: str, seqs: Iterable[int]) -> int:
        """Mark readings as delivered: `settle` for the simple case."""
        return await self.settle(device_id, Settlement(delivered=tuple(seqs)))

    async def counts(self, device_id: str | None = None) -> SpoolCounts:
        """Count readings by where they stand, of one device or of all."""
        return await self._run(lambda: self._store.counts(device_id))

    async def devices(self) -> list[str]:
        """Names of all devices that ever had a reading here."""
        return await self._run(self._store.devices)

    async def held(self) -> dict[str, HeldDevice]:
        """Return the devices whose readings are kept and not sent, because their names cannot be believed.

        A name is lost with damaged pages, or came with the spool of another edge.
        """
        return await self._run(lambda: self._store.look(holding.read_held))

    async def hold_device(self, device_id: str, why: HeldWhy) -> None:
        """Keep a device's readings, and send none of them until it is renamed."""
        await self._change(lambda: self._store.change(partial(holding.hold, device_id=device_id, why=why)))

    async def rename_device(self, old: str, new: str) -> SpoolRenaming:
        """Give the readings of a held device their name, and send them.

        Readings of a time of which ``new`` has one stay as they are.

        Raises:
            UsageError: ``old`` is not held, or ``new`` is.
        """
        from sungrow_lib.spool.renaming import rename  # noqa: PLC0415 - memory, hardly ever needed

        return await self._change(lambda: self._store.change(partial(rename, old=old, new=new)))

    async def undo_rename(self, old: str) -> SpoolRenaming:
        """Take back the last `rename_device` of ``old``: it is held again, with what was not sent since.

        Returns:
            How many readings went back, and how many were sent under the new name, and keep it.

        Raises:
            UsageError: no such renaming is known, or all of them were sent.
        """
        from sungrow_lib.spool.renaming import undo  # noqa: PLC0415 - as above

        return await self._change(lambda: self._store.change(partial(undo, old=old)))

    async def set_aside_device(self, device_id: str) -> SpoolRenaming:
        """Put the readings of a held device into quarantine for good; those that wait for a date are left.

        Raises:
            UsageError: it is not held.
        """
        return await self._change(lambda: self._store.change(partial(holding.set_aside, device_id=device_id)))

    async def owner(self) -> SpoolOwner:
        """Return what to remember elsewhere, to know this spool again (`SpoolOptions.owner`)."""
        return await self._run(lambda: self._store.look(holding.read_owner))

    async def last_delivered(self, device_id: str) -> list[datetime]:
        """`ts` of the last row of each of the 16 most recently answered batches, newest first, UTC."""
        return [from_ms(ts) for ts in await self._run(lambda: self._store.last_delivered(device_id))]

    async def last_new(self, device_id: str, batches: int) -> list[SpoolEntry]:
        """Return the first and last reading of the latest ``batches`` that brought the server anything new.

        The latest batch is last. Which of a batch's readings the server had before is not known any more.
        """
        return await self._run(lambda: self._store.last_new(device_id, batches))

    async def reoffer(self, device_id: str) -> int:
        """Offer again all that is kept of a device, for a server that lost it; return how many.

        Of one that is held, none: see `held`.
        """
        total = 0
        # Answers that arrive while this goes on stay named: they may be the server's from before it lost.
        last = await self._run(lambda: self._store.last_answered(device_id))
        for state in (SpoolState.DELIVERED, SpoolState.REJECTED, SpoolState.CONFLICT):
            after: int | None = 0
            while after is not None:
                after, done = await self._change(partial(self._store.reoffer, device_id, state, after))
                total += done
        # Last: after a crash in between, the server still has a reason to ask again.
        await self._change(lambda: self._store.forget_answered(device_id, last))
        return total

    async def ask_last(self, device_id: str) -> None:
        """Offer the one reading again that was answered last: the answer tells what the server lacks.

        Of one that is held, none: see `held`.
        """
        await self._change(lambda: self._store.change(partial(settling.ask_last, device_id=device_id)))

    async def ask_refused(self, device_id: str) -> None:
        """Offer again what `take_back` took back."""
        await self._change(lambda: self._store.change(partial(settling.ask_refused, device_id=device_id)))

    async def take_back(self, device_id: str, seqs: Collection[int]) -> bool:
        """Let readings that are offered only by `ask_last` be delivered as before: their token is refused.

        They are remembered for `ask_refused`.

        Returns:
            Whether all of them were such; else nothing is changed.
        """
        job = partial(settling.take_back, device_id=device_id, seqs=seqs)
        return await self._change(lambda: self._store.change(job))

    async def requeue(self, seqs: Iterable[int]) -> int:
        """Offer quarantined or deferred readings again; return how many of the numbers were such.

        Those of a device that is held stay as they are: see `held`.
        """
        numbers = tuple(seqs)
        return await self._change(lambda: self._store.requeue(numbers))

    async def observe_server_date(self, date: datetime, stamp: BootStamp) -> None:
        """Take note of the `Date` of an answer over a verified connection, and when it arrived."""
        await self._change(lambda: self._store.observe_server(to_ms(date), stamp))

    async def clock(self) -> ClockState:
        """Return whether this machine's clock dates readings, and where it does not, what is known of it."""
        return await self._run(self._store.clock)

    async def release_waiting(self) -> bool:
        """Date the waiting readings if the clock is trusted now; return whether it is, for every device."""
        while (is_trusted := await self._run(self._store.release)) is None:
            pass
        return is_trusted

    async def prune(self) -> int:
        """Delete delivered readings past their time or the byte budget; return how many.

        When many went, the file shrinks.
        """
        deleted = await self._repeat(self._store.prune)
        await self._repeat(self._store.shrink)
        return deleted

    async def renew_generation(self) -> SpoolIdentity:
        """Give the spool a new generation, after it was restored from a copy."""
        return await self._run(self._store.renew_generation)

    async def import_records(self, records: Iterable[SpoolRecord]) -> SpoolImport:
        """Take in readings of another spool, or of an earlier self, each once; the generation is new then.

        Numbers are kept where they are free here. Importing the same readings again changes nothing.
        Delivered ones stay delivered; the latest are named to the server, which asks for all if it lacks one.

        Returns:
            How many are new here, and which were left out because another one has their device and date.
        """
        importer = await self._run(self._store.importer)
        total, left = SpoolImport(), iter(records)
        while chunk := list(islice(left, CHUNK)):
            total += await self._run(partial(self._store.import_chunk, importer, chunk))
        await self._run(partial(self._store.finish_import, importer))
        return total

    async def set_apart(self) -> list[SetApart]:
        """Count deferred and quarantined readings by device, state and code, with a reason of each."""
        return await self._run(lambda: self._store.look(looking.set_apart))

    async def faults(self) -> list[str]:
        """Check the whole file and all of the spool's rules; return what is wrong, in words."""
        return await self._run(self._store.faults)

    async def records(
        self, *states: SpoolState, after: int = 0, left_out: set[int] | None = None
    ) -> AsyncIterator[SpoolRecord]:
        """Iterate over all readings, or those in ``states``, in order of `seq`, from after a number on.

        Those of which damage made what none can be are left out, and their numbers added to ``left_out``;
        without it they are damage of the spool.
        """
        while page := await self._run(partial(self._store.records, after, _EXPORT_ROWS, left_out)):
            for record in page:
                if not states or record.entry.state in states:
                    yield record
            after = page[-1].entry.seq

    async def _run(self, job: Callable[[], _Result]) -> _Result:
        # Not abandoned on cancellation: what was begun is finished, so that nobody is left guessing.
        try:
            return await anyio.to_thread.run_sync(job, limiter=self._limiter)
        except SpoolCorruptError as error:
            self._note_damage(str(error))
            raise
        except SpoolUnavailableError as error:
            if await anyio.to_thread.run_sync(self._store.is_worn, error, limiter=self._limiter):
                self._note_damage(f"Places of it cannot be read ({error.__cause__}).")
            raise

    async def _change(self, job: Callable[[], _Result]) -> _Result:
        """Run what changes rows and adds none: a full disk has room for that in the log, and all is kept."""
        return await self._run(partial(self._store.relief.with_log, job))

    def _note_damage(self, what: str) -> None:
        self._damage = self._damage or what
        self._was_damaged.set()

    async def _repeat(self, job: Callable[[], int]) -> int:
        """Run a bulk job chunk by chunk; others get their turn in between."""
        total = 0
        while done := await self._run(job):
            total += done
        return total
