"""`BatchUploader`: delivers what a spool holds until told to stop."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Self

import anyio

from sungrow_lib.errors import ConfigurationError, ServerError, SpoolError
from sungrow_lib.spool import ClockState, DurableSpool
from sungrow_lib.upload.attempts import Link
from sungrow_lib.upload.backoff import BACK_WITHIN_S, Backoff
from sungrow_lib.upload.http import IngestTransport
from sungrow_lib.upload.lanes import DeviceLanes
from sungrow_lib.upload.settings import UploadSettings
from sungrow_lib.upload.status import UploadStatus
from sungrow_lib.upload.undated import undated_words
from sungrow_lib.wire import DeviceInfo, EdgeStatus

_LOG: Final = logging.getLogger(__name__)
_PRUNE_S: Final = 3600.0
_CLOSE_S: Final = 0.5
_OK: Final = 200
CLOCK: Final = "clock"
"""Code of the alarm while readings wait for a date."""


class BatchUploader:
    """Delivers readings from a spool to a server, each until the server says it has it.

    Fresh readings go first, the backlog drains beside them; a device whose token is refused, a reading
    the server fails on or a row from the future never holds up the others. Use it as a context manager::

        async with DurableSpool.open(path) as spool, BatchUploader(spool, settings) as uploader:
            await uploader.run()

    Args:
        spool: an open spool; it must stay open longer than the uploader.
        settings: where to and how.

    Raises:
        ConfigurationError: the certificate file cannot be used.
    """

    def __init__(self, spool: DurableSpool, settings: UploadSettings) -> None:
        self._spool = spool
        self._settings = settings
        self._transport = IngestTransport(settings)
        self._link = Link(spool, settings, self._transport)
        self._infos = dict(settings.devices)
        self._devices: dict[str, DeviceLanes] = {}

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        with anyio.move_on_after(_CLOSE_S, shield=True):  # a server that is silent is not waited for
            await self._transport.__aexit__(None, None, None)

    @property
    def status(self) -> UploadStatus:
        """How it goes, now."""
        return self._link.board.snapshot()

    def set_device_info(self, device_id: str, info: DeviceInfo) -> None:
        """Send what is known of a device with its batches from now on."""
        self._infos[device_id] = info
        if device_id in self._devices:
            self._devices[device_id].attempts.info = info

    async def run(self) -> None:
        """Deliver until cancelled. No server and no network can end this."""
        with suppress(ConfigurationError):  # said and shown as an alarm; the lanes go on asking for one
            await self._link.token()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_clock)
            tasks.start_soon(self._prune)
            running: set[str] = set()
            while True:
                async with self._spool_errors():
                    for device_id in await self._spool.devices():
                        if device_id not in running:
                            running.add(device_id)
                            tasks.start_soon(self._lanes(device_id).run)
                await self._link.look_for_token()
                await anyio.sleep(self._settings.upload_interval_s)

    async def flush(self, deadline_s: float) -> bool:
        """Deliver what is pending, before a shutdown; call it when `run` has ended.

        Args:
            deadline_s: seconds it may take at most.

        Returns:
            Whether nothing is left to be offered: nothing is pending, waits for a date or was deferred. What
            is left stays in the spool.
        """
        async with self._spool_errors():
            with anyio.move_on_after(deadline_s):
                await self._spool.release_waiting()
                left = None
                # Again while it gets on: the first answer lets readings of the others be asked for.
                while (pending := (await self._spool.counts()).pending) and pending != left:
                    left = pending
                    await self._flush_once()
            with anyio.CancelScope(shield=True):
                return (await self._spool.counts()).undelivered == 0
        return False

    async def _flush_once(self) -> None:
        devices = await self._spool.devices()
        async with anyio.create_task_group() as tasks:
            for device_id in devices:
                tasks.start_soon(self._lanes(device_id).flush)

    async def resend(self, device_id: str) -> None:
        """Offer again all the spool keeps of a device.

        Raises:
            SpoolError: the spool cannot be used.
        """
        await self._lanes(device_id).attempts.resend()

    async def report(self, status: EdgeStatus) -> bool:
        """Tell the server how the edge does, with the edge id that is sent with the readings.

        Returns:
            Whether the server took it; nothing depends on it, so a refusal is no alarm.

        Raises:
            ServerError: no answer.
            ConfigurationError: there is no token.
        """
        link = self._link
        await link.wait_turn()
        own = status.model_copy(update={"edge_id": link.edge_id})
        reply = await self._transport.edge_status(own.model_dump_json().encode(), await link.token())
        return reply.status == _OK

    # --- housekeeping ------------------------------------------------------------------------------------

    def _lanes(self, device_id: str) -> DeviceLanes:
        if device_id not in self._devices:
            self._devices[device_id] = DeviceLanes(self._link, device_id, self._infos.get(device_id))
        return self._devices[device_id]

    async def _watch_clock(self) -> None:
        """Date waiting readings as soon as the clock is trusted; ask the server for its date if need be."""
        backoff, next_ask = Backoff(), 0.0
        while True:
            async with self._spool_errors():
                if not (waiting := await self._undated()):
                    backoff.reset()
                    next_ask = 0.0
                    self._link.board.clear_alarm(CLOCK, None)
                else:
                    self._note_undated(waiting, await self._spool.clock())
                    if anyio.current_time() >= next_ask:
                        # While it does not answer nothing reaches the live view.
                        most_s = float("inf") if await self._ask_server_date() else BACK_WITHIN_S
                        next_ask = anyio.current_time() + min(backoff.next_s(), most_s)
                        continue  # it may have said enough
            await anyio.sleep(self._settings.upload_interval_s)

    async def _undated(self) -> int:
        """Date what waits if the clock is trusted now; return how many readings wait on."""
        return 0 if await self._spool.release_waiting() else (await self._spool.counts()).waiting

    async def _ask_server_date(self) -> bool:
        """Ask for the server's date; return whether there was an answer."""
        try:
            await self._link.ask_server_date()
        except ServerError as error:
            self._link.note_unreachable(error)
            return False
        return True

    def _note_undated(self, waiting: int, clock: ClockState) -> None:
        if self._link.board.raise_alarm(CLOCK, undated_words(waiting, clock), None):
            _LOG.info("readings wait for a trusted clock", extra={"readings": waiting})

    async def _prune(self) -> None:
        while True:
            async with self._spool_errors():
                await self._spool.prune()
            async with self._spool_errors():
                await self._ask_refused()
            await anyio.sleep(_PRUNE_S)

    async def _ask_refused(self) -> None:
        """Ask again for what was only asked for, and refused: there may be another token."""
        await self._link.tokens.refresh()
        for device_id in await self._spool.devices():
            await self._spool.ask_refused(device_id)

    @asynccontextmanager
    async def _spool_errors(self) -> AsyncIterator[None]:
        """Turn an error of the spool into an alarm, and the absence of one into its end."""
        board = self._link.board
        try:
            yield
        except SpoolError as error:
            if board.raise_alarm("spool", str(error), None):
                _LOG.error("spool needs attention", extra={"reason": str(error)})
        else:
            board.clear_alarm("spool", None)
