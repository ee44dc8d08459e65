"""Deliberate faults of spool and uploader: what the harness must catch. Nothing here is in the product."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

from sungrow_lib.spool import Lane, Settlement, SpoolEntry, foreign, salvage
from sungrow_lib.spool.pages import Row
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.upload import attempts
from sungrow_lib.upload.verdicts import Reply, Ruling, judge_reply
from sungrow_lib.wire import IngestAnswer


def ack_before_answer() -> None:
    """Count readings as delivered when they are sent, whatever the server then says."""

    async def hasty(self: attempts.Attempts, batch: Sequence[SpoolEntry]) -> Ruling:
        settlement = Settlement(delivered=[entry.seq for entry in batch])
        await self._link.spool.settle(self._device_id, settlement)
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


def apply(fault: str) -> None:
    """Break the product in this process."""
    faults = {
        "ack before answer": ack_before_answer,
        "ack of another batch": ack_other_batch,
        "offers without a note": offer_without_note,
        "recovery that drops rows": forget_in_recovery,
    }
    faults[fault]()
