"""Parquet files on their way to clients, each made by a process of its own that ends with it.

So a worker never loads Arrow, and keeps nothing of what it took to make a file.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from subprocess import Popen
from typing import Any, Final

from reference_server.parquet import END, HEAD, MADE, ROW_GROUP
from reference_server.problems import DETAILS, Problem, come_back

_LOG: Final = logging.getLogger(__name__)
_MOST: Final = 2
"""Files of a worker that are made at once, each by a process that is there until its client has read all."""
_PATIENCE_S: Final = 30.0
"""s that somebody waits for the end of another's file; the wait of a client or a proxy is hardly longer."""
_FOR_ANY_PROGRAM: Final = re.compile(r"(PATH|HOME|LANG|TZ|TMPDIR|(LC|LD)_\w+|PYTHON\w*)$")
"""Settings that say nothing of the database."""
_PROGRAM: Final = "-P", "-m", "reference_server.parquet"  # -P: no module of the folder it happens to run in


class ParquetFiles:
    """Makes Parquet files, a few at once.

    Args:
        most: how many; others wait for their turn.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._turns = asyncio.Semaphore(most)

    @asynccontextmanager
    async def file(self, names: Sequence[str], zone: str) -> AsyncIterator[ParquetInProcess]:
        """Start a process that makes a file; it is ended at the end of the context, whatever it is at.

        Args:
            names: the columns, `bucket` among them.
            zone: IANA name of the zone of `bucket`.

        Raises:
            Problem: 500 the file could not be made, 503 too many others are on their way for too long.
        """
        await self._turn()
        try:
            async with _process() as (process, reader, writer):
                file = ParquetInProcess(process, reader, writer)
                await file.tell({"names": names, "zone": zone})
                yield file
        finally:
            self._turns.release()

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._turns.acquire()
        except TimeoutError:
            pause_s = come_back(_PATIENCE_S)
            detail = f"too many Parquet files are on their way already; come back in {pause_s} s"
            raise Problem(503, detail, headers={"Retry-After": str(pause_s)}) from None


class ParquetInProcess:
    """A Parquet file that a process makes.

    Args:
        process: makes it.
        reader: what the process answers.
        writer: what it is asked.
    """

    def __init__(
        self, process: Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.waiting = 0
        """How many buckets wait to become a row group."""

    async def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add a few buckets to the next row group.

        Raises:
            Problem: 500, the file could not be made.
        """
        self.waiting += len(records)
        await self.tell(records)

    async def row_group(self) -> bytes:
        """Make those that wait a row group, and return the next bytes of the file.

        Raises:
            Problem: 500, the file could not be made.
        """
        return await self._answer(ROW_GROUP)

    async def end(self) -> bytes:
        """Make those that wait the last row group, and return the last bytes of the file.

        Raises:
            Problem: 500, the file could not be made.
        """
        return await self._answer(END)

    async def tell(self, what: object) -> None:
        """Say something, and wait while the process has much to read.

        Raises:
            Problem: 500, the file could not be made.
        """
        self._writer.write(json.dumps(what).encode() + b"\n")
        try:
            await self._writer.drain()
        except ConnectionError:
            raise await self._dead() from None

    async def _answer(self, wanted: str) -> bytes:
        self.waiting = 0
        await self.tell(wanted)
        try:
            kind, length = HEAD.unpack(await self._reader.readexactly(HEAD.size))
            content = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._dead() from None
        if kind != MADE:
            raise _failure(error=content.decode())
        return content

    async def _dead(self) -> Problem:
        status = await asyncio.to_thread(self._process.wait)
        return _failure(error="the process that made it ended", exit_status=status)


def _failure(**why: object) -> Problem:
    """Say once in the log why there is no file, and return what the client is told."""
    _LOG.error("a Parquet file could not be made", extra=why)
    return Problem(500, DETAILS[500])


@asynccontextmanager
async def _process() -> AsyncIterator[tuple[Popen[bytes], asyncio.StreamReader, asyncio.StreamWriter]]:
    """Start the process on one end of a connection that nobody else has, and end it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            process = _started(theirs.fileno())
            theirs.close()  # so that its end shows here
            try:
                yield process, reader, writer
            finally:
                process.kill()
                await asyncio.to_thread(process.wait)
        finally:
            writer.transport.abort()


def _started(connection: int) -> Popen[bytes]:
    """Start it with the modules of this process, and beyond the reach of Ctrl-C in the terminal.

    Not by the event loop: uvloop would hand on sockets that listen, as a supervisor left them to a worker.
    """
    env = {name: value for name, value in os.environ.items() if _FOR_ANY_PROGRAM.match(name)}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, *_PROGRAM]
    # It is born deaf to what a supervisor or a terminal sends to all: the server says when it ends.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        return Popen(command, stdin=connection, stdout=connection, env=env, start_new_session=True)  # noqa: S603 - our own program
    except OSError as error:
        raise _failure(error=str(error)) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
