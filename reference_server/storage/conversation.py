"""Talks to PostgreSQL below psycopg's cursors, where a wait for each row or statement costs too much."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from psycopg import errors, generators
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import WAIT_R

from reference_server.storage.connection import Connection

_PARAMETER: Final = re.compile(rb"%\((\w+)\)s")


async def prepared_rows(
    connection: Connection, statement: bytes, parameters: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """Return the rows of a statement that is asked all day and so stays prepared.

    It takes half the time of a cursor, which looks at each statement anew. There may be few such statements:
    they are never forgotten.

    Raises:
        psycopg.Error: it failed.
    """
    text, names = _numbered(statement)
    transformer = Transformer(connection)
    values = transformer.dump_sequence([parameters[name] for name in names], [PyFormat.AUTO] * len(names))
    types, formats = transformer.types or (), transformer.formats or ()
    pgconn = connection.pgconn
    async with connection.lock:
        name = connection.prepared.get((statement, types))
        if name is None:
            name = b"_sungrow_%d" % len(connection.prepared)
            await connection.wait(_prepared(pgconn, name, text, types))
            connection.prepared[statement, types] = name
        result = await connection.wait(_executed(pgconn, name, values, formats))
    transformer.set_pgresult(result, set_loaders=True, format=Format.BINARY)
    return transformer.load_rows(0, result.ntuples, tuple)


@lru_cache(maxsize=64)
def _numbered(statement: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Number the parameters of a statement, as PostgreSQL wants them; and their names in that order."""
    numbers: dict[bytes, int] = {}
    text = _PARAMETER.sub(lambda match: b"$%d" % numbers.setdefault(match[1], len(numbers) + 1), statement)
    return text, tuple(name.decode() for name in numbers)


def _prepared(pgconn: PGconn, name: bytes, statement: bytes, types: Sequence[int]) -> PQGen[None]:
    pgconn.send_prepare(name, statement, param_types=types)
    checked((yield from generators.execute(pgconn)))


def _executed(
    pgconn: PGconn, name: bytes, values: Sequence[Buffer | None], formats: Sequence[Format]
) -> PQGen[PGresult]:
    pgconn.send_query_prepared(name, values, param_formats=formats, result_format=Format.BINARY)
    [result] = checked((yield from generators.execute(pgconn)))
    return result


async def copied_out(connection: Connection, statement: bytes) -> bytes:
    """Return all that a `COPY .. TO STDOUT` sends.

    Raises:
        psycopg.Error: it failed.
    """
    async with connection.lock:
        return await connection.wait(_taken_in(connection.pgconn, statement))


def _taken_in(pgconn: PGconn, statement: bytes) -> PQGen[bytes]:
    pgconn.send_query(statement)
    checked((yield from generators.execute(pgconn)))
    rows: list[bytes] = []
    while (row := pgconn.get_copy_data(1))[0] >= 0:
        size, data = row
        if size:
            rows.append(bytes(data))
            continue
        while not (yield WAIT_R):
            continue
        pgconn.consume_input()
    checked((yield from generators.execute(pgconn)))
    return b"".join(rows)


def checked(results: list[PGresult]) -> list[PGresult]:
    """Return results none of which is an error.

    Raises:
        psycopg.Error: one is.
    """
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(result)
    return results
