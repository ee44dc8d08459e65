"""The floor of the ingest benchmark, a process of its own: one `INSERT .. ON CONFLICT` for each request."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator

from aiohttp import web
from psycopg_pool import AsyncConnectionPool


def main(dsn: str, port: str, columns: str) -> None:
    """Serve until terminated.

    Args:
        dsn: the database.
        port: of 127.0.0.1, to bind.
        columns: JSON object, SQL types by name.
    """
    types = {"device_id": "text", "ts": "timestamptz"} | json.loads(columns)
    listed = ", ".join(f"{name} {kind}" for name, kind in types.items())
    create = f"CREATE TABLE floor ({listed}, PRIMARY KEY (device_id, ts))"
    names = ", ".join(types)
    insert = (
        f"INSERT INTO floor ({names}) SELECT {names} FROM json_to_recordset(%s::json) AS s({listed}) "
        "ON CONFLICT DO NOTHING"
    ).encode()

    async def opened(app: web.Application) -> AsyncIterator[None]:
        del app
        async with pool:
            async with pool.connection() as connection:
                await connection.execute(create.encode())
            yield

    async def take(request: web.Request) -> web.Response:
        body = await request.text()
        async with pool.connection() as connection:
            cursor = await connection.execute(insert, [body])
        return web.json_response({"inserted": cursor.rowcount})

    async def health(_request: web.Request) -> web.Response:
        return web.Response()

    pool = AsyncConnectionPool(dsn, min_size=1, max_size=8, open=False)
    app = web.Application(client_max_size=2**26)
    app.cleanup_ctx.append(opened)
    app.router.add_post("/", take)
    app.router.add_get("/", health)
    web.run_app(app, host="127.0.0.1", port=int(port), print=None, access_log=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
