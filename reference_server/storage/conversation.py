"""Talks to PostgreSQL below psycopg's cursors, where a wait for each row or statement costs too much."""

from __future__ import annotations

from psycopg import errors, generators
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import WAIT_R

from reference_server.storage.connection import Connection


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
