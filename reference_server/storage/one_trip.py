"""Stores readings that are new with as few words to PostgreSQL as can be.

What ingest does all day (see that nothing stands in the place of some blocks, ask for their rollups, copy
them, commit) takes two messages here in place of six: one query of several statements, which by itself is one
transaction, and its data. Each message wakes a process on either side: that costs more than most statements.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import numpy as np
from psycopg import AsyncClientCursor, generators
from psycopg.abc import Buffer, PQGen
from psycopg.pq.abc import PGconn, PGresult

from reference_server.storage.blocks import Block
from reference_server.storage.connection import Connection
from reference_server.storage.conversation import checked
from reference_server.storage.packing import PIECE, SIGNATURE, TRAILER, pack
from reference_server.storage.queries import array_text, query, with_columns
from reference_server.storage.samples import Key, listed_keys

_NOTHING: Final = SIGNATURE + TRAILER


async def store_new(
    connection: Connection, blocks: Sequence[Block], believed: Collection[Key], *, unseen: bool = False
) -> set[Key] | None:
    """Store blocks, if in none of their spans anything stands and no device was deleted, and commit.

    Args:
        connection: outside of any transaction.
        blocks: one at least; in the order of the key, and none shares a span with another.
        believed: keys that ought to be stored.
        unseen: whether to take it that nothing stands there; the keys themselves are seen to all the same.

    Returns:
        Those of ``believed`` under which nothing is stored, nor kept aside; None when nothing was done,
        because something stands in a span, or a device was deleted.

    Raises:
        psycopg.errors.UniqueViolation: one of the keys was taken meanwhile; nothing is stored.
    """
    packed = pack(blocks)
    cursor = AsyncClientCursor(connection)
    marks = _marks(blocks)
    words = [
        cursor.mogrify(query("mark_unless_deleted"), marks)
        if unseen
        else cursor.mogrify(query("mark_if_free"), _spans(blocks) | marks),
        with_columns("copy_samples", packed.columns).decode(),
    ]
    keys = list(believed)
    if keys:
        words.append(cursor.mogrify(query("missing_keys"), listed_keys(keys)))
    async with connection.lock:
        results = await connection.wait(
            _converse(connection.pgconn, ";\n".join(words).encode(), packed.message())
        )
    if results is None:
        return None
    return {keys[number - 1] for result in results[1:] for number in _numbers(result)}


def _spans(blocks: Sequence[Block]) -> dict[str, str]:
    """Spans of the blocks as parameters of a statement."""
    firsts = [int(block.stamps[0]) for block in blocks]
    lasts = [int(block.stamps[-1]) for block in blocks]
    [lowest, highest] = _times([min(firsts), max(lasts)])
    return {
        "devices": array_text(str(block.device) for block in blocks),
        "firsts": array_text(_times(firsts)),
        "lasts": array_text(_times(lasts)),
        "lowest": lowest,
        "highest": highest,
    }


def _marks(blocks: Sequence[Block]) -> dict[str, str]:
    """Their buckets."""
    marks = [(block.device, start) for block in blocks for start in block.quarters()]
    return {
        "marked": array_text(str(device) for device, _ in marks),
        "buckets": array_text(_times([start for _, start in marks])),
    }


def _times(stamps: list[int]) -> list[str]:
    """Microseconds since 1970 as PostgreSQL reads them."""
    times: list[str] = np.datetime_as_string(np.array(stamps, "datetime64[us]"), timezone="UTC").tolist()
    return times


def _converse(pgconn: PGconn, statements: bytes, message: Iterable[Buffer]) -> PQGen[list[PGresult] | None]:
    """Send the query, its data, and take what is answered from the copy on; None when something hinders."""
    pgconn.send_query(statements)
    hindered, _ = checked((yield from generators.execute(pgconn)))
    is_free = hindered.ntuples == 0
    for piece in message if is_free else (_NOTHING,):
        while pgconn.put_copy_data(piece) == 0:
            yield from generators.send(pgconn)
        if len(piece) == PIECE:  # more would be kept in memory that a connection never gives back
            yield from generators.send(pgconn)
    while pgconn.put_copy_end() == 0:
        yield from generators.send(pgconn)
    results = checked((yield from generators.execute(pgconn)))
    return results if is_free else None


def _numbers(result: PGresult) -> list[int]:
    return [int(result.get_value(row, 0) or 0) for row in range(result.ntuples)]
