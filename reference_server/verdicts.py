"""What becomes of each sample of a batch: exactly one verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from reference_server.storage.codec import Row, additional, differing
from reference_server.storage.samples import Aside, AsideReason, json_body
from sungrow_lib._version import __version__
from sungrow_lib.wire import IngestAnswer, Verdict, VerdictCode

_REASON_LIMIT: Final = 240


@dataclass(slots=True)
class Verdicts:
    """What is known of the samples of one batch so far.

    Attributes:
        inserted: stored now.
        duplicates: stored before, with no different value.
        conflicts: stored before with a different value.
        rejected: can never be valid.
        deferred: not now.
    """

    inserted: int = 0
    duplicates: int = 0
    conflicts: list[Verdict] = field(default_factory=list)
    rejected: list[Verdict] = field(default_factory=list)
    deferred: list[Verdict] = field(default_factory=list)

    def reject(self, index: int, reason: str) -> None:
        """Say that a sample can never be valid."""
        self.rejected.append(_verdict(index, VerdictCode.INVALID, reason))

    def defer(self, index: int, code: VerdictCode, reason: str) -> None:
        """Say that a sample cannot be taken now."""
        self.deferred.append(_verdict(index, code, reason))

    def compare(self, standing: Row, index: int, row: Row) -> Aside | None:
        """Judge a row whose key is taken against the row that stands; return what to keep aside."""
        if standing.values == row.values and standing.columns == row.columns and standing.extra == row.extra:
            self.duplicates += 1
            return None
        columns = differing(standing, row)
        if columns:
            reason = "stored before with other values of " + ", ".join(columns)
            self.conflicts.append(_verdict(index, VerdictCode.DIFFERENT_VALUE, reason))
            return Aside.of_row(row, AsideReason.CONFLICT, ", ".join(columns))
        self.duplicates += 1
        more = additional(standing, row)
        return Aside(row.device, row.ts, AsideReason.ADDITIONAL, None, json_body(more)) if more else None

    def answer(self, batch_id: str | None, received: int, *, resend: bool) -> IngestAnswer:
        """Return the answer to the batch."""
        return IngestAnswer(
            batch_id=batch_id,
            received=received,
            inserted=self.inserted,
            duplicates=self.duplicates,
            conflicts=_by_index(self.conflicts),
            rejected=_by_index(self.rejected),
            deferred=_by_index(self.deferred),
            resend=resend,
            server_version=__version__,
        )


def _verdict(index: int, code: VerdictCode, reason: str) -> Verdict:
    return Verdict(index=index, code=code.value, reason=reason[:_REASON_LIMIT])


def _by_index(verdicts: list[Verdict]) -> list[Verdict]:
    return sorted(verdicts, key=lambda verdict: verdict.index)
