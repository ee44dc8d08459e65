"""What a spool does, synchronously: each call is one short transaction on the one connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from sungrow_lib.errors import SpoolError, SpoolFullError, SpoolUnavailableError
from sungrow_lib.spool import schema
from sungrow_lib.spool.backdating import FEW_ROWS, PART_ROWS
from sungrow_lib.spool.clock import BootStamp, ClockReading, ClockState, ServerDate
from sungrow_lib.spool.dating import Dating
from sungrow_lib.spool.entries import (
    Lane,
    Settlement,
    SpoolCounts,
    SpoolEntry,
    SpoolIdentity,
    SpoolImport,
    SpoolOptions,
    SpoolRecord,
    SpoolState,
)
from sungrow_lib.spool.holding import is_held
from sungrow_lib.spool.looking import count, faults, records
from sungrow_lib.spool.meta import read_identity, read_recovery, renew_generation
from sungrow_lib.spool.nameless import find_present
from sungrow_lib.spool.opening import SpoolOpening
from sungrow_lib.spool.packing import pack
from sungrow_lib.spool.recovering import open_database
from sungrow_lib.spool.relief import CHUNK, Relief, delete_delivered, excess_pages, used_bytes
from sungrow_lib.spool.rows import to_entry, to_numbers, to_text
from sungrow_lib.spool.settling import Change, Deferrals, Later, SettlingChange, settle
from sungrow_lib.spool.system_clock import Clock
from sungrow_lib.wire import LAST_DELIVERED_LIMIT

if TYPE_CHECKING:  # a daemon needs no memory for it
    from sungrow_lib.spool.transfer import Importer

SHRINK_PAGES: Final = 500
"""Most pages one transaction gives back."""
_Result = TypeVar("_Result")


class SpoolStore:
    """The spool's sync core; not thread-safe, `DurableSpool` keeps its callers apart.

    Args:
        path: the file.
        options: how it keeps readings.
        clock: where the time comes from.
        damage: what was found wrong with the file while it was in use.
        opening: told how that gets on, and may end it.
    """

    def __init__(
        self,
        path: Path,
        options: SpoolOptions,
        clock: Clock,
        damage: str | None = None,
        opening: SpoolOpening | None = None,
    ) -> None:
        self._options = options
        self._clock = clock
        self._database, is_renamed = open_database(path, options, damage, opening or SpoolOpening())
        self._keys: dict[tuple[str, str], int] = {}
        self._dating = Dating()
        self._deferrals = Deferrals()
        self._later = Later(self._key, self._deferrals)
        self._change = Change(self._database, self._keys, self._dating)
        self._settling = SettlingChange(self._database, self._keys, self._dating, self._later)
        self._expected: set[str] = set()
        try:
            with suppress(SpoolFullError), self._database.write() as connection:
                find_present(connection, clock.read())
            with self._database.write() as connection:
                self.identity = read_identity(connection)
                self._dating.load(connection)
                self.recovery = read_recovery(connection)
            self.relief = Relief(self._database, self._transaction, options, self._now_ms)
            self.relief.keep_reserve()
        except BaseException:
            self._database.give_up()
            raise
        if is_renamed:
            with suppress(SpoolFullError, SpoolUnavailableError):  # the log says it, too
                self._database.fold_log()
        if (home := self._database.home) is not None:
            home.make_room = self.relief.make_room_for_copy

    def keep_place(self) -> None:
        """See to it that the file is where it belongs; see `DurableSpool.keep_place`."""
        self._database.keep_place()

    def guard_place(self, is_ours: Callable[[], bool]) -> None:
        """Ask before the file is put back; see `DurableSpool.guard_place`."""
        if self._database.home is not None:
            self._database.home.is_ours = is_ours

    def is_worn(self, error: SpoolUnavailableError) -> bool:
        """Whether an error was one of the disk, which lets the file be read in places only."""
        return self._database.bad_places.are_behind(error.__cause__)

    def close(self) -> None:
        """Close the file."""
        with suppress(SpoolError):  # what is not written is asked of the server once more
            self._write_later()
        self._database.close()

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    # --- accepting ---------------------------------------------------------------------------------------

    def append(
        self, device_id: str, ts: int, content: str, *, boot: BootStamp | None, ts_is_final: bool
    ) -> SpoolEntry:
        """Accept a reading; see `DurableSpool.append`."""
        return self.relief.with_room(
            lambda: self._append(device_id, ts, content, boot, ts_is_final=ts_is_final), settling=False
        )

    def append_many(self, readings: Sequence[tuple[str, int, str, BootStamp]]) -> list[SpoolEntry]:
        """Accept readings (device, ts in ms, content, stamp) in one transaction: all of them, or none."""
        return self.relief.with_room(lambda: self._append_many(readings), settling=False)

    def _append_many(self, readings: Sequence[tuple[str, int, str, BootStamp]]) -> list[SpoolEntry]:
        now = self._clock.read()
        with self._settling as connection:
            self._keep_headroom(connection)
            return [
                self._add(connection, now, device_id, ts, content, boot, ts_is_final=False)
                for device_id, ts, content, boot in readings
            ]

    def _append(
        self, device_id: str, ts: int, content: str, boot: BootStamp | None, *, ts_is_final: bool
    ) -> SpoolEntry:
        now = self._clock.read()
        change = self._settling if self._later.answers else self._change
        try:
            connection = change.begin()
            if self._options.max_bytes is not None or self.relief.reserve.is_spent:
                self._keep_headroom(connection)
            entry = self._add(connection, now, device_id, ts, content, boot, ts_is_final=ts_is_final)
            change.commit()
        except BaseException as error:
            change.undo(error)
            raise
        return entry

    def _add(
        self,
        connection: sqlite3.Connection,
        now: ClockReading,
        device_id: str,
        ts: int,
        content: str,
        boot: BootStamp | None,
        *,
        ts_is_final: bool,
    ) -> SpoolEntry:
        keys, stamp = self._keys, boot or now.stamp
        device = keys.get(("device", device_id)) or self._key(connection, "device", device_id)
        boot_key = keys.get(("boot", stamp.boot_id)) or self._key(connection, "boot", stamp.boot_id)
        state, ts, source = self._dating.date(connection, device, ts, boot, now, is_final=ts_is_final)
        kept = pack(content)
        row = (device, ts, boot_key, stamp.boot_ms, source, kept)
        seq = connection.execute(schema.APPEND, row).lastrowid
        assert seq is not None
        is_offered = state is SpoolState.PENDING and device_id in self._expected
        # Plain integers: for an enumeration or a truth value sqlite3 looks for an adapter, every time.
        connection.execute(schema.STAND, (device, int(state), seq, int(is_offered)))
        return SpoolEntry(seq, device_id, ts, kept, source, state)

    def _keep_headroom(self, connection: sqlite3.Connection) -> None:
        """Refuse a reading before the very last page: settling and deleting, which make room, need some."""
        if self.relief.is_over_limit(connection):
            raise SpoolFullError(
                f"No room left for the spool {self._database.path} within its limit; raise it."
            )
        if self.relief.is_due(connection):
            raise SpoolFullError(f"No room left for the spool {self._database.path}; free disk space.")

    def observe_server(self, wall_ms: int, stamp: BootStamp) -> None:
        """Take note of the server's date; see `DurableSpool.observe_server_date`."""
        if self._dating.observe(ServerDate(wall_ms, stamp)):
            with self._transaction() as connection:
                self._dating.save(connection)

    def clock(self) -> ClockState:
        """Return what is known of the machine's clock."""
        with self._database.read() as connection:
            return self._dating.state(connection, self._clock.read())

    def release(self) -> bool | None:
        """Date some waiting rows if a clock may do that now.

        Returns:
            Whether every device's clock is trusted; None while there are more rows to be dated.
        """
        try:
            return self.relief.with_room(lambda: self._release(PART_ROWS), settling=True)
        except SpoolFullError:
            return self._release(FEW_ROWS)

    def _release(self, most: int) -> bool | None:
        now = self._clock.read()
        with self._transaction(settles=self._later.is_due(now.stamp.boot_ms)) as connection:
            if most > FEW_ROWS and connection.execute(schema.IS_ANY, (SpoolState.WAITING,)).fetchone():
                self._keep_headroom(connection)
            elif most == FEW_ROWS and connection.execute(schema.IS_ANY, (SpoolState.PENDING,)).fetchone():
                return self._dating.is_trusted(now)  # once those are delivered there is room
            devices = connection.execute("SELECT id FROM device").fetchall()
            released = [self._dating.release(connection, key, now, most) for (key,) in devices]
        is_more = any(more for _, more in released)
        return None if is_more else all(clock is not None for clock, _ in released)

    # --- offering and settling ---------------------------------------------------------------------------

    def peek(
        self, device_id: str, limit: int, lane: Lane, *, skip: Collection[int] = (), bound: int = 0
    ) -> list[SpoolEntry]:
        """Return readings to send, oldest first; see `DurableSpool.peek`."""
        skip = self._later.seqs(device_id).union(skip)
        with self._database.read() as connection:
            return [entry for entry, _ in self._select(connection, device_id, limit, lane, skip, bound)]

    def offer(
        self, device_id: str, limit: int, lane: Lane, *, skip: Collection[int] = (), bound: int = 0
    ) -> list[SpoolEntry]:
        """Return readings to send and note durably that they are on their way; see `DurableSpool.offer`."""
        return self.relief.with_room(lambda: self._offer(device_id, limit, lane, skip, bound), settling=True)

    def _offer(
        self, device_id: str, limit: int, lane: Lane, skip: Collection[int], bound: int
    ) -> list[SpoolEntry]:
        skip, settled = self._later.seqs(device_id).union(skip), 0
        with self._transaction(settles=False) as connection:
            self.identity = read_identity(connection)  # another program may have imported or restored
            found = self._select(connection, device_id, limit, lane, skip, bound)
            # Deferred ones anew each time: what the server said of the last offer no longer holds.
            if new := [e for e, offered in found if offered not in {1, 2} or e.state is SpoolState.DEFERRED]:
                device = self._key(connection, "device", device_id)
                seqs = json.dumps([entry.seq for entry in new])
                connection.execute(schema.MARK_OFFERED, (device, new[0].state, seqs))
                settled = self._later.write(connection)
        self._later.written(settled)
        return [entry for entry, _ in found]

    def _select(
        self,
        connection: sqlite3.Connection,
        device_id: str,
        limit: int,
        lane: Lane,
        skip: Collection[int],
        bound: int,
    ) -> list[tuple[SpoolEntry, int]]:
        device = self._known(connection, device_id)
        if device is None or is_held(connection, device_id):
            return []
        state = SpoolState.PENDING
        if lane is Lane.DUE:
            state, running = SpoolState.DEFERRED, self._deferrals.running(self._clock.read().stamp.boot_ms)
            rows = connection.execute(schema.DUE, (device, json.dumps(running)))
        elif lane is Lane.FRESH:
            rows = connection.execute(schema.FRESH, (device, bound))
        else:
            end = connection.execute(schema.BACKLOG_END, (device, limit)).fetchone()
            rows = connection.execute(schema.BACKLOG, (device, max(end[0] if end else 0, bound)))
        chosen = list(islice((row for row in rows if row[0] not in skip), limit))
        if lane is Lane.FRESH:
            chosen.reverse()
        return [(to_entry(device_id, state, row), row[-1]) for row in chosen]

    def settle(self, device_id: str, outcome: Settlement) -> int:
        """Move a batch's readings where the answer says; return how many moved."""
        return self.relief.with_room(lambda: self._settle(device_id, outcome), settling=True)

    def _settle(self, device_id: str, outcome: Settlement) -> int:
        moment = self._dating.moment(self._clock.read())
        with self._transaction() as connection:
            device = self._key(connection, "device", device_id)
            return settle(connection, device, outcome, moment, self._deferrals)

    def settle_later(self, device_id: str, outcome: Settlement) -> None:
        """Settle with the next change of the file; see `DurableSpool.settle_later`."""
        self._later.add(device_id, outcome, self._dating.moment(self._clock.read()))

    def expect_offers(self, device_id: str, *, are_expected: bool) -> None:
        """Note readings of a device as offered when they are appended, or no longer."""
        if are_expected:
            self._expected.add(device_id)
        else:
            self._expected.discard(device_id)

    def last_delivered(self, device_id: str) -> list[int]:
        """Return `ts` in ms of the last row of each of the most recently answered batches, newest first."""
        if self._later.concerns(device_id):
            self._write_later()
        with self._database.read() as connection:
            device = self._known(connection, device_id)
            rows = connection.execute(schema.LAST_DELIVERED, (device, LAST_DELIVERED_LIMIT))
            return [ts for row in rows for ts in to_numbers(row)]

    def last_new(self, device_id: str, batches: int) -> list[SpoolEntry]:
        """Return the ends of what was delivered last, but for what was known; see `DurableSpool.last_new`."""
        with self._reading() as connection:
            device = self._known(connection, device_id)
            rows = connection.execute(schema.LAST_NEW, (device, batches))
            return [to_entry(device_id, SpoolState.DELIVERED, row) for row in rows]

    # --- bulk jobs, a chunk per call ---------------------------------------------------------------------

    def reoffer(self, device_id: str, state: SpoolState, after: int) -> tuple[int | None, int]:
        """Make a chunk of readings in ``state`` with numbers above ``after`` pending again.

        Returns:
            The last number, to go on from (None when there were none), and how many there were.
        """
        with self._transaction() as connection:
            device = None if is_held(connection, device_id) else self._known(connection, device_id)
            rows = connection.execute(schema.STANDING_AFTER, (device, state, after, CHUNK)).fetchall()
            connection.executemany(schema.REOFFER, [(device, state, seq) for (seq,) in rows])
        return (rows[-1][0] if rows else None), len(rows)

    def last_answered(self, device_id: str) -> int:
        """Return the number of the last answer that `last_delivered` names; 0 if there is none."""
        with self._reading() as connection:
            row = connection.execute(schema.LAST_ANSWERED, (self._known(connection, device_id),)).fetchone()
        return int(row[0])

    def forget_answered(self, device_id: str, until: int) -> None:
        """Let `last_delivered` name later answers only than that number."""
        with self._transaction() as connection:
            connection.execute(schema.FORGET_ANSWERED, (self._known(connection, device_id), until))

    def requeue(self, seqs: Iterable[int]) -> int:
        """Make quarantined or deferred readings pending again; return how many were."""
        with self._transaction() as connection:
            return max(connection.executemany(schema.REQUEUE_ONE, [(seq,) for seq in seqs]).rowcount, 0)

    def prune(self) -> int:
        """Delete up to a chunk of delivered readings that are past their time or budget; return how many."""
        self._database.keep_place()  # or the reserve would be made where no spool is
        self.relief.keep_reserve()
        now = self._clock.read()
        with self._transaction() as connection:
            budget = self._options.keep_bytes
            if budget is not None and used_bytes(connection) > budget:
                return delete_delivered(connection, before_ms=None)
            before_ms = self._dating.expire(connection, now, self._options.keep_delivered_s)
            return 0 if before_ms is None else delete_delivered(connection, before_ms=before_ms)

    def shrink(self) -> int:
        """Give a part of the unused pages back to the disk, when they are many; return how many.

        A few stay: readings to come would take them from the disk again, and each move wears the card.
        """
        with self._database.read() as connection:
            excess = excess_pages(connection)
        if not excess:
            return 0
        self._database.shrink(min(excess, SHRINK_PAGES))
        if excess <= SHRINK_PAGES:
            self._database.fold_log()
        return min(excess, SHRINK_PAGES)

    def renew_generation(self) -> SpoolIdentity:
        """Give the spool a new generation: after a restore its numbers may have been used differently."""
        with self._transaction() as connection:
            self.identity = renew_generation(connection)
        return self.identity

    def importer(self) -> Importer:
        """Return what puts readings of another spool into this one, chunk by chunk with `import_chunk`."""
        from sungrow_lib.spool.transfer import Importer  # noqa: PLC0415 - as above

        now_ms = self._dating.moment(self._clock.read()).date_ms
        with self._transaction() as connection:
            return Importer(connection, self._key, now_ms)

    def import_chunk(self, importer: Importer, records: Iterable[SpoolRecord]) -> SpoolImport:
        """Import readings; with the first new one the spool gets a new generation."""
        with self._transaction() as connection:
            if importer.connection is not connection:
                raise SpoolUnavailableError(f"The spool {self.path} was opened anew meanwhile; import again.")
            done = importer.take(records)
            if done.imported and not importer.has_imported:
                self.identity = renew_generation(connection)
                importer.generation = self.identity.generation
        importer.has_imported |= bool(done.imported)
        return done

    def finish_import(self, importer: Importer) -> None:
        """End an import."""
        with self._transaction():
            importer.finish()

    def change(self, job: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Do something to the file in one transaction."""
        with self._transaction() as connection:
            result = job(connection)
            self._keys.clear()  # it may have been a renaming
            self.identity = read_identity(connection)
        return result

    # --- looking -----------------------------------------------------------------------------------------

    def counts(self, device_id: str | None = None) -> SpoolCounts:
        """Count readings by where they stand, of one device or of all."""
        with self._reading() as connection:
            return count(connection, device_id, self._database.size())

    def look(self, job: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Ask the file something."""
        with self._reading() as connection:
            return job(connection)

    def devices(self) -> list[str]:
        """Names of all devices that ever had a reading here."""
        with self._database.read() as connection:
            return [to_text(name) for (name,) in connection.execute(schema.NAMES)]

    def records(self, after: int, limit: int, left_out: set[int] | None = None) -> list[SpoolRecord]:
        """Return readings with all that is known of them, in order of `seq`, from after a number on.

        Those with a value that none can have are left out, and their numbers added to ``left_out``; without
        it they are damage.
        """
        with self._reading() as connection:
            return records(connection, after, limit, left_out)

    def faults(self) -> list[str]:
        """Check every page and every rule of the spool; return what is wrong, in words."""
        with self._reading() as connection:
            return faults(connection)

    # --- helpers -----------------------------------------------------------------------------------------

    def _now_ms(self) -> int:
        moment = self._dating.moment(self._clock.read())
        return moment.wall_ms if moment.date_ms is None else moment.date_ms

    def _transaction(self, *, settles: bool = True) -> Change:
        """Return a transaction; with it, the answers that waited are written."""
        self._dating.forget()  # it may change any row; appending does not come this way
        return self._settling if settles and self._later.answers else self._change

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Look at the file when it says all that is known."""
        self._write_later()
        with self._database.read() as connection:
            yield connection

    def _write_later(self) -> None:
        if self._later.answers:
            with suppress(SpoolFullError), self._transaction():  # then they wait on
                pass

    def _key(self, connection: sqlite3.Connection, table: str, name: str) -> int:
        """Return the small number that stands for a device or boot, making one if need be."""
        key = self._keys.get((table, name))
        if key is None:
            connection.execute(f"INSERT OR IGNORE INTO {table} (name) VALUES (?)", (name,))  # noqa: S608 - ours
            row = connection.execute(f"SELECT id FROM {table} WHERE name = ?", (name,)).fetchone()  # noqa: S608
            key = self._keys[table, name] = int(row[0])
        return key

    def _known(self, connection: sqlite3.Connection, device_id: str) -> int | None:
        row = connection.execute("SELECT id FROM device WHERE name = ?", (device_id,)).fetchone()
        return None if row is None else int(row[0])
