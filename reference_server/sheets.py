"""A series on its way out: what it is about, and its buckets, page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec import json

from reference_server.buckets import Record

Page = Sequence[Record]
"""The next buckets of a series; one at least."""

ENCODER: Final = json.Encoder()


@dataclass(frozen=True, slots=True)
class Sheet:
    """Buckets of a device or a plant. A long span of time is read and made while it is sent.

    Attributes:
        head: what the answer says beside its buckets.
        timezone: IANA name of the zone of their begins.
        columns: those of a table of them.
        pages: the buckets, in order; one page for all but long ones.
    """

    head: Mapping[str, Any]
    timezone: str
    columns: Sequence[str]
    pages: AsyncIterator[Page]

    async def json(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer as JSON."""
        lead = ENCODER.encode(self.head)[:-1] + b',"series":['
        async for page in self.pages:
            yield lead + ENCODER.encode(page)[1:-1]
            lead = b",\n"
        yield b"]}" if lead == b",\n" else lead + b"]}"
