"""Ends a server of a test with all that it holds open."""

from __future__ import annotations

import asyncio

from aiohttp import web


async def close(runner: web.BaseRunner) -> None:
    """Clean up, and wait for no end to say goodbye, as a TLS connection does when it is closed.

    Were the event loop closed before, its socket would stay open, and the warning would be charged to
    whatever test runs when it is collected as garbage.
    """
    server = runner.server
    connections = server.connections if isinstance(server, web.Server) else []
    lines = [connection.transport for connection in connections]
    await runner.cleanup()
    for line in lines:
        if line is not None:
            line.abort()
    await asyncio.sleep(0)


async def abort_all() -> None:
    """Abort whatever connections the running loop still has, also those that nobody has taken yet."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)  # one that was just made is not known before
    for line in list(getattr(loop, "_transports", {}).values()):  # asyncio has no other list of them
        line.abort()
    await asyncio.sleep(0)
