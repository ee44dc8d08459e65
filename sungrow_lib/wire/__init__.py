"""What edge and server say to each other over HTTPS, version 1, as typed models.

The uploader, :class:`SungrowClient`, the server's handlers and the OpenAPI document all use these models,
so they cannot disagree.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from sungrow_lib.sample import DeviceId, SungrowSample, Timestamp, Word

PROBLEM_JSON: Final = "application/problem+json"
"""Media type of every error answer (RFC 9457)."""

FRESH_S: Final = 300.0
"""s; a batch whose youngest reading is older is of a backlog: it may have to wait where fresh ones do not."""

LAST_DELIVERED_LIMIT: Final = 16
"""Most entries of `last_delivered`; an edge has fewer batches than this in flight."""

BatchId = Annotated[str, Field(strict=True, min_length=1, max_length=64)]
Seq = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class WireModel(BaseModel):
    """Base of everything sent: strict types, and what a newer peer adds is ignored.

    Built when first used: nobody uses all of them, and on a small machine each takes memory.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", defer_build=True)


class AnswerModel(WireModel):
    """Base of what an edge is answered.

    Hardly a text of it comes again, and pydantic would keep each for that: 2 MB after some days.
    """

    model_config = ConfigDict(cache_strings=False)


class DeviceInfo(WireModel):
    """What the edge knows of a device; what `sungrow-server device set` says wins.

    Attributes:
        timezone: IANA name of the site's zone; unset counts as UTC.
        poll_interval_s: seconds between polls; unset counts as 5.
        name: what its owner calls it.
        plant: the plant it belongs to.
        model: such as ``SH8.0RT-20``.
        serial: serial number.
        firmware: running firmware.
    """

    timezone: Annotated[str, Field(max_length=64)] | None = None
    poll_interval_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    name: Annotated[str, Field(max_length=128)] | None = None
    plant: Annotated[str, Field(max_length=128)] | None = None
    model: Annotated[str, Field(max_length=64)] | None = None
    serial: Annotated[str, Field(max_length=64)] | None = None
    firmware: Annotated[str, Field(max_length=256)] | None = None


class Envelope(WireModel):
    """What our edge sends beside `samples`; none of it is content of a sample.

    Attributes:
        batch_id: new for each attempt, echoed in the answer.
        edge_id: which edge installation sends.
        generation: new when a spool is created or restored.
        seq: running numbers in the spool, parallel to `samples`.
        last_delivered: `ts` of the last row of each of the most recently answered batches.
        device: what the edge knows of the device.
    """

    batch_id: BatchId | None = None
    edge_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    generation: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seq: list[Seq] | None = None
    last_delivered: Annotated[list[Timestamp], Field(max_length=LAST_DELIVERED_LIMIT)] | None = None
    device: DeviceInfo | None = None


class IngestRequest(Envelope):
    """Body of `POST /v1/ingest`: a batch of readings of one device."""

    samples: list[SungrowSample]


class VerdictCode(StrEnum):
    """Why a sample was set apart."""

    DIFFERENT_VALUE = "different_value"
    INVALID = "invalid"
    FUTURE = "future"
    DEVICE_DELETED = "device_deleted"
    DEVICE_FORBIDDEN = "device_forbidden"


class Verdict(WireModel):
    """The server's judgement on one sample of a batch.

    Attributes:
        index: position in `samples`, from 0.
        code: a :class:`VerdictCode`, or one only a newer server knows.
        reason: the same for people.
    """

    index: Annotated[int, Field(ge=0)]
    code: str
    reason: str


class IngestAnswer(AnswerModel):
    """Answer of `POST /v1/ingest`, sent after the server's commit.

    inserted + duplicates + the lengths of the three lists = received.

    Attributes:
        batch_id: echo of the request's, null if it sent none.
        received: samples in the batch.
        inserted: stored now.
        duplicates: stored before with no different value.
        conflicts: stored before with a different value; the stored row stands, this one is kept aside.
        rejected: can never be valid.
        deferred: not now; send again later.
        resend: whether the server lacks rows this edge believes delivered.
        server_version: version of the server.
    """

    batch_id: str | None
    received: Annotated[int, Field(ge=0)]
    inserted: Annotated[int, Field(ge=0)]
    duplicates: Annotated[int, Field(ge=0)]
    conflicts: list[Verdict]
    rejected: list[Verdict]
    deferred: list[Verdict]
    resend: bool
    server_version: str

    def accounts_for(self, samples: int) -> bool:
        """Whether every one of ``samples`` has exactly one verdict."""
        listed = [verdict.index for verdict in (*self.conflicts, *self.rejected, *self.deferred)]
        return (
            self.received == samples
            and self.inserted + self.duplicates + len(listed) == samples
            and len(set(listed)) == len(listed)
            and all(index < samples for index in listed)
        )


class Problem(AnswerModel):
    """The one error body (RFC 9457).

    Attributes:
        type: a URI reference naming the kind of problem.
        title: the same for people, equal for all of one kind.
        status: HTTP status.
        detail: what is wrong with this request and what to do.
        errors: for 422, one entry per fault: ``{"field", "message"}``.
    """

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


class EdgeStatus(WireModel):
    """What an edge says of itself for a device; everything it does not know is null.

    Attributes:
        edge_id: which edge installation.
        device_id: may be left out when the token sees exactly one device.
        edge_version: its version.
        connection: how it reaches the device: `ok`, `silent`, `refused`, ...
        connection_detail: the same for people.
        backlog: readings waiting for upload.
        oldest_waiting: time stamp of the first of them.
        quarantined: readings set aside on the edge.
        clock: `trusted`, `untrusted` or `server` (taken from the server's `Date`).
        clock_offset_s: the edge's clock minus the server's, in s.
        polled: polls since its start.
        accepted: readings its spool took since its start.
        not_accepted: the other polls, by reason.
        started_at: when it started.
    """

    edge_id: Annotated[Word, Field(min_length=1, max_length=64)]
    device_id: DeviceId | None = None
    edge_version: Annotated[Word, Field(max_length=64)] | None = None
    connection: Annotated[Word, Field(max_length=64)] | None = None
    connection_detail: Word | None = None
    backlog: Count | None = None
    oldest_waiting: Timestamp | None = None
    quarantined: Count | None = None
    clock: Annotated[Word, Field(max_length=64)] | None = None
    clock_offset_s: Annotated[float, Field(allow_inf_nan=False, ge=-1e12, le=1e12)] | None = None
    polled: Count | None = None
    accepted: Count | None = None
    not_accepted: Annotated[dict[Word, Count], Field(max_length=64)] | None = None
    started_at: Timestamp | None = None


__all__ = [
    "FRESH_S",
    "LAST_DELIVERED_LIMIT",
    "PROBLEM_JSON",
    "AnswerModel",
    "BatchId",
    "Count",
    "DeviceId",
    "DeviceInfo",
    "EdgeStatus",
    "Envelope",
    "IngestAnswer",
    "IngestRequest",
    "Problem",
    "Seq",
    "Verdict",
    "VerdictCode",
    "WireModel",
]
