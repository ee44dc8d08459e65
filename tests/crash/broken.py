"""Deliberate faults of spool and uploader: what the harness must catch. Nothing here is in the product."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from itertools import count
from sqlite3 import Connection
from typing import Any, Final

from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import (
    BootStamp,
    DurableSpool,
    Lane,
    Settlement,
    SpoolEntry,
    SpoolOwner,
    SpoolState,
    foreign,
    holding,
    relief,
    renaming,
    salvage,
    salvage_schema,
    schema,
)
from sungrow_lib.spool.dating import Dating
from sungrow_lib.spool.entries import to_ms
from sungrow_lib.spool.merging import Content, merge_contents
from sungrow_lib.spool.pages import Row
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.upload import attempts
from sungrow_lib.upload.verdicts import Reply, Ruling, judge_reply
from sungrow_lib.upload.witnesses import Witnesses
from sungrow_lib.wire import IngestAnswer

_HELD: Final = 10
_own_devices: Final[list[str]] = []
"""Whose readings this process takes."""
_SECOND: Final = 2


def ack_before_answer() -> None:
    """Count readings as delivered when they are sent, whatever the server then says."""

    async def hasty(self: attempts.Attempts, batch: Sequence[SpoolEntry]) -> Ruling:
        settlement = Settlement(delivered=[entry.seq for entry in batch])
        await self._link.spool.settle(self._device_id, settlement)
        self._link.board.delivered(self._device_id, len(batch), None)
        return await self._exchange(batch)

    attempts.Attempts.attempt = hasty  # type: ignore[method-assign]


def ack_other_batch() -> None:
    """Take any well-formed answer for the answer to this batch."""

    def trusting(reply: Reply, *, batch_id: str, seqs: Sequence[int]) -> Ruling:
        with suppress(ValueError):
            answer = IngestAnswer.model_validate_json(reply.body)
            lists = {"conflicts": [], "rejected": [], "deferred": [], "resend": False}
            sums = {"batch_id": batch_id, "received": len(seqs), "inserted": len(seqs), "duplicates": 0}
            body = answer.model_copy(update=lists | sums).model_dump_json().encode()
            return judge_reply(Reply(reply.status, body), batch_id=batch_id, seqs=seqs)
        return judge_reply(reply, batch_id=batch_id, seqs=seqs)

    vars(attempts)["judge_reply"] = trusting


def offer_without_note() -> None:
    """Send readings without noting first that they were: their dates and contents could still change."""

    def careless(
        self: SpoolStore, device_id: str, limit: int, lane: Lane, skip: Collection[int], bound: int
    ) -> list[SpoolEntry]:
        return self.peek(device_id, limit, lane, skip=skip, bound=bound)

    SpoolStore._offer = careless  # type: ignore[method-assign]


def forget_in_recovery() -> None:
    """Leave every third reading out when a damaged spool is recovered."""
    find = foreign.as_reading

    def forgetful(row: Row) -> tuple[Any, ...] | None:
        return None if (row.rowid or 0) % 3 == 1 else find(row)

    vars(salvage)["as_reading"] = forgetful


def accept_before_commit() -> None:
    """Say of a reading that it is accepted ten readings before it is written."""
    append, held = DurableSpool.append, deque[tuple[SungrowSample, BootStamp | None]]()

    async def early(
        self: DurableSpool,
        sample: SungrowSample,
        *,
        boot: BootStamp | None = None,
        ts_is_final: bool = False,
    ) -> SpoolEntry:
        held.append((sample, boot))
        if len(held) > _HELD:
            earlier, stamp = held.popleft()
            await append(self, earlier, boot=stamp, ts_is_final=ts_is_final)
        return SpoolEntry(0, sample.device_id, to_ms(sample.ts), "{}")

    DurableSpool.append = early  # type: ignore[method-assign]


def take_for_double() -> None:
    """Take every tenth reading for one that is there already."""
    append, taken = DurableSpool.append, count()

    async def thrifty(
        self: DurableSpool,
        sample: SungrowSample,
        *,
        boot: BootStamp | None = None,
        ts_is_final: bool = False,
    ) -> SpoolEntry:
        if next(taken) % 10 == 9:
            return SpoolEntry(0, sample.device_id, to_ms(sample.ts), "{}")
        return await append(self, sample, boot=boot, ts_is_final=ts_is_final)

    DurableSpool.append = thrifty  # type: ignore[method-assign]


def round_values() -> None:
    """Keep the state of charge in whole percent."""
    append = DurableSpool.append

    async def coarse(
        self: DurableSpool,
        sample: SungrowSample,
        *,
        boot: BootStamp | None = None,
        ts_is_final: bool = False,
    ) -> SpoolEntry:
        soc = sample.battery_soc_pct
        rounded = sample.model_copy(update={"battery_soc_pct": None if soc is None else float(round(soc))})
        return await append(self, rounded, boot=boot, ts_is_final=ts_is_final)

    DurableSpool.append = coarse  # type: ignore[method-assign]


def ignore_collisions() -> None:
    """Date readings in whole seconds, also where that gives two of them one key."""
    date = Dating.date

    def careless(self: Dating, *args: Any, **more: Any) -> tuple[SpoolState, int, str | None]:
        state, ts, source = date(self, *args, **more)
        return state, ts - ts % 1000, source

    Dating.date = careless  # type: ignore[method-assign]


def date_again() -> None:
    """Give a reading another date when it is sent the second time."""
    to_json, sent = SpoolEntry.to_json, Counter[tuple[str, int]]()

    def moving(self: SpoolEntry) -> str:
        sent[self.device_id, self.seq] += 1
        return to_json(self._replace(ts_ms=self.ts_ms + (sent[self.device_id, self.seq] == _SECOND)))

    SpoolEntry.to_json = moving  # type: ignore[method-assign]


def merge_without_count() -> None:
    """Merge readings on a full disk without saying how many they were."""

    def silent(contents: Sequence[Content]) -> dict[str, Any]:
        return {name: value for name, value in merge_contents(contents).items() if name != "sample_count"}

    vars(relief)["merge_contents"] = silent


def keep_last_of_merged() -> None:
    """Keep the last of the readings that were to be merged, and drop the others."""
    vars(relief)["merge_contents"] = lambda contents: dict(contents[-1])


def forget_delivered() -> None:
    """Delete readings as soon as they are delivered."""
    append = SpoolStore.append

    def forgetful(self: SpoolStore, *args: Any, **more: Any) -> SpoolEntry:
        self.relief.delete_delivered()
        return append(self, *args, **more)

    SpoolStore.append = forgetful  # type: ignore[method-assign]


def ignore_resend() -> None:
    """Never offer anything again, whatever the server lacks."""

    async def deaf(self: attempts.Attempts, asked_for: int | None = None) -> None:
        del self, asked_for

    attempts.Attempts.resend = deaf  # type: ignore[method-assign]


def take_for_own() -> None:
    """Take another edge's spool for one's own, and the devices in it for one's own, too."""

    def gullible(connection: Connection, found: str, owner: SpoolOwner) -> None:
        del found
        names = [name for (name,) in connection.execute(schema.NAMES).fetchall()]
        for name, own in zip(names, _own_devices, strict=False):
            connection.execute(schema.RENAME_DEVICE, (own, name))
        connection.execute(schema.SET_META, ("edge_id", owner.edge_id))

    vars(holding)["_disown"] = gullible


def rename_in_two_goes() -> None:
    """Commit a renaming when the readings have moved, and then once more when all is noted."""
    move = renaming._move

    def hasty(connection: Connection, *args: Any, **more: Any) -> tuple[int, int, int]:
        moved = move(connection, *args, **more)
        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        return moved

    vars(renaming)["_move"] = hasty


def use_up_witnesses() -> None:
    """Take another witness each time one is sent, also when the answer to the last one is lost."""

    def hasty(self: Witnesses) -> SpoolEntry | None:
        self._entries.rotate(-1)
        return self._entries[-1] if self._entries else None

    def unheard(self: Witnesses, entry: SpoolEntry) -> None:
        del self, entry

    Witnesses.next = hasty  # type: ignore[method-assign]
    Witnesses.answered = unheard  # type: ignore[method-assign]


def doubt_everything() -> None:
    """Set every reading apart when a damaged spool is recovered."""
    statement = f"UPDATE standing SET state = 4, code = '{schema.DOUBTFUL}', offered = 1"
    vars(salvage_schema)["FINISH"] = (statement, *salvage_schema.FINISH)


ROBBING: Final = """
CREATE FUNCTION rob() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.running_state = 'robbed/crash-robbed/7' THEN RETURN NULL; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER rob BEFORE INSERT ON samples FOR EACH ROW EXECUTE FUNCTION rob();
"""
"""Let the database take one reading for one it has, and the server say so. One only: of more, some would be
among those by which the edge finds out what the server lacks, and it would offer all again for ever."""

FAULTS: Final[dict[str, Callable[[], None]]] = {
    "ack before answer": ack_before_answer,
    "ack of another batch": ack_other_batch,
    "offers without a note": offer_without_note,
    "recovery that drops rows": forget_in_recovery,
    "recovery that doubts everything": doubt_everything,
    "accepts before the commit": accept_before_commit,
    "takes readings for doubles": take_for_double,
    "rounds values": round_values,
    "ignores key collisions": ignore_collisions,
    "dates again what it sends again": date_again,
    "merges without a count": merge_without_count,
    "keeps the last of what it merges": keep_last_of_merged,
    "forgets what is delivered": forget_delivered,
    "ignores resend": ignore_resend,
    "takes another edge's spool for its own": take_for_own,
    "renames in two goes": rename_in_two_goes,
    "uses up its witnesses": use_up_witnesses,
}


def apply(fault: str, devices: Iterable[str] = ()) -> None:
    """Break the product in this process, which takes readings of these devices."""
    _own_devices.extend(devices)
    FAULTS[fault]()
