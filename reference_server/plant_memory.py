"""Remembers buckets of plants that are over: ten years of days are asked for again, and seldom change.

Each is remembered with a digest of all that it comes from, made of what the database says at the moment
somebody asks: it cannot be stale. To make the digest takes a tenth of the time of making the bucket.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import msgpack

from reference_server.buckets import PlantBucket
from reference_server.lives import Life
from reference_server.storage.rollups import Told
from reference_server.together import Roles
from reference_server.zones import Span

_MOST_REMEMBERED: Final = 6_000
"""Days, months: ten years of a plant are 3,800. They take at most 8 MB (measured by a test)."""
_ENCODE: Final = msgpack.Encoder().encode
_Name = tuple[bytes, datetime, datetime]
"""Of a plant, and begin and end of a span."""


class Origins:
    """What the buckets of a plant come from, apart from the time by now.

    Args:
        told: what each device's rollups say of all spans.
        lives: when each device was there, in the same order.
        roles: who tells what.
        zone: the plant's.
    """

    def __init__(self, told: Sequence[Told], lives: Sequence[Life], roles: Roles, zone: ZoneInfo) -> None:
        self._found = [found for _, found in told]
        self._roles = roles
        names = [names for names, _ in told]
        there = [(life.device.key, life.begin, life.end, life.last is None) for life in lives]
        successors = [(at, *some.items()) for at, some in sorted(roles.successors.items())]
        self._key = blake2b(repr((zone.key, names, there, successors)).encode()).digest()

    def digest(self, span: Span, witness: Sequence[str]) -> bytes:
        """All that the bucket of a span comes from, in a few bytes; `witness` tells of the meter."""
        rows = [found.get(span.begin) for found in self._found]
        told = rows, self._roles.changes(span), witness
        return blake2b(_ENCODE(told), digest_size=16, key=self._key).digest()


class PlantMemory:
    """Buckets of plants that are over, those asked for last."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[_Name, tuple[bytes, PlantBucket]] = OrderedDict()

    def find(self, plant: bytes, span: Span, digest: bytes) -> PlantBucket | None:
        """Return the bucket of a span that comes from this; None when it is not remembered."""
        name = plant, span.begin, span.end
        known, bucket = self._buckets.get(name, (None, None))
        if known != digest:
            return None
        self._buckets.move_to_end(name)
        return bucket

    def remember(self, plant: bytes, span: Span, digest: bytes, bucket: PlantBucket) -> None:
        """Remember a bucket, and forget the one that was not asked for longest where there are too many."""
        name = plant, span.begin, span.end
        self._buckets[name] = digest, bucket
        self._buckets.move_to_end(name)
        if len(self._buckets) > _MOST_REMEMBERED:
            self._buckets.popitem(last=False)
