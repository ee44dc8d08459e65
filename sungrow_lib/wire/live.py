"""Events of `GET /v1/stream`, version 1, as typed models."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from sungrow_lib.errors import UnexpectedAnswerError
from sungrow_lib.sample import SungrowSample, Timestamp, parse_ts, split_unknown
from sungrow_lib.wire import WireModel

EVENT_STREAM: Final = "text/event-stream"
"""Media type of the stream."""

REPLAY_LIMIT: Final = 1_000
"""Most missed readings that a reconnect replays; a `gap` stands for the rest."""


class StreamEventKind(StrEnum):
    """Names of the events."""

    SAMPLE = "sample"
    GAP = "gap"
    BACKFILL = "backfill"


class StreamGap(WireModel):
    """Readings the stream leaves out; `GET /v1/series` with `bucket=raw` has them.

    Attributes:
        from_: time stamp of the first one, UTC.
        to: just after the last one, UTC.
    """

    from_: Annotated[Timestamp, Field(alias="from")]
    to: Timestamp


class StreamBackfill(WireModel):
    """Readings older than the newest one that were stored now: a backlog drains.

    Attributes:
        from_: time stamp of the first one, UTC.
        to: just after the last one, UTC.
        count: how many.
    """

    from_: Annotated[Timestamp, Field(alias="from")]
    to: Timestamp
    count: Annotated[int, Field(ge=1)]


StreamEvent = SungrowSample | StreamGap | StreamBackfill


@dataclass(slots=True)
class TextEvent:
    """One event as it came.

    Attributes:
        kind: its name.
        data: its JSON.
        id: its id, empty when it has none.
    """

    kind: str = ""
    data: str = ""
    id: str = ""

    @property
    def ts(self) -> datetime | None:
        """The id, which is the time stamp to go on from; None when the event has none."""
        return parse_ts(self.id) if self.id else None

    def parsed(self) -> StreamEvent:
        """The event as its model.

        Raises:
            UnexpectedAnswerError: it is none of ours.
        """
        try:
            if self.kind == StreamEventKind.GAP:
                return StreamGap.model_validate_json(self.data)
            if self.kind == StreamEventKind.BACKFILL:
                return StreamBackfill.model_validate_json(self.data)
            return SungrowSample.model_validate(split_unknown(json.loads(self.data))[0])
        except ValueError as error:
            raise UnexpectedAnswerError("this is not a Sungrow server's stream") from error


async def text_events(lines: AsyncIterable[str]) -> AsyncIterator[TextEvent]:
    """Put the lines of a stream together to events; comments and heartbeats are left out."""
    event = TextEvent()
    async for line in lines:
        name, _, value = line.partition(": ")
        if not line and event.kind:
            yield event
        if not line:
            event = TextEvent()
        elif name == "event":
            event.kind = value
        elif name == "data":
            event.data += value
        elif name == "id":
            event.id = value


__all__ = [
    "EVENT_STREAM",
    "REPLAY_LIMIT",
    "StreamBackfill",
    "StreamEvent",
    "StreamEventKind",
    "StreamGap",
    "TextEvent",
    "text_events",
]
