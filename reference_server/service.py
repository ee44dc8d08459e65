"""Runs one process of the server on sockets that are bound already, and ends it cleanly."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from reference_server.app import make_metrics_runner, make_runner
from reference_server.config import SHORTEST_TOKEN, ServerSettings, parse_device_tokens
from reference_server.listeners import Sockets, address_of, tls_context
from reference_server.server import Server
from sungrow_lib.service_manager import ServiceManager

if sys.platform == "win32":
    new_event_loop = asyncio.new_event_loop
else:
    from uvloop import new_event_loop

_LOG: Final = logging.getLogger(__name__)
_BACKLOG: Final = 1024
_GARBAGE_AFTER: Final = 50_000
"""So many more objects made than freed, and garbage is looked for. Python's 700 are less than a batch holds:
it would look through everything several times for each, a quarter of all the work, and find nothing."""
_KEPT_BYTES: Final = 32 * 2**20
_KEPT_BLOCK_BYTES: Final = 4 * 2**20
"""Free memory that is not given back to the system, and the largest block of it. Readings that are stored
together pass through blocks of hundreds of kilobytes; each anew from the system, page by page, would take
longer than what is done with it."""
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3


@dataclass(frozen=True, slots=True)
class Post:
    """What one process of the server has to do.

    Attributes:
        number: which of the worker processes it is, from 0.
        sockets: where it answers requests.
        metrics: where it shows `/metrics` without a token.
    """

    number: int = 0
    sockets: Sockets = field(default_factory=list)
    metrics: Sockets = field(default_factory=list)

    @property
    def is_keeper(self) -> bool:
        """Whether this process does what one of them has to do: rollups and retention."""
        return self.number == 0


def run(settings: ServerSettings, post: Post, *, parent: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT; requests that were taken are finished.

    Args:
        settings: how the server is set up.
        post: what this process does.
        parent: what becomes readable when the supervisor is gone; then this process ends, too.

    Raises:
        ConfigurationError: the certificate cannot be used.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(settings, post, parent))


async def _serve(settings: ServerSettings, post: Post, parent: int | None) -> None:
    stop = _stop_event(parent)
    context = tls_context(settings)
    server = Server.from_settings(settings)
    runner, metrics = make_runner(server, is_keeper=post.is_keeper), make_metrics_runner(server)
    try:
        await runner.setup()
        for listener in post.sockets:
            await web.SockSite(runner, listener, ssl_context=context, backlog=_BACKLOG).start()
        if post.metrics:
            await metrics.setup()
            for listener in post.metrics:
                await web.SockSite(metrics, listener).start()
        _warn_of_short_tokens(settings)
        addresses = list(map(address_of, post.sockets))
        told = {"address": addresses, "tls": context is not None, "worker": post.number, "pid": os.getpid()}
        _LOG.info("listening", extra=told)
        _collect_seldom()
        _keep_memory()
        if post.is_keeper:
            await _watched(stop, _manager(parent))
        await stop.wait()
        server.stopping.set()
        _LOG.info("stopping")
    finally:
        await metrics.cleanup()
        await runner.cleanup()


def _collect_seldom() -> None:
    """Look for garbage less often, and no more at what stays for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_AFTER)


def _keep_memory() -> None:
    """Keep memory that will be needed again; an allocator other than glibc's does as it likes."""
    with suppress(OSError, AttributeError, TypeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(_TRIM_THRESHOLD, _KEPT_BYTES)
        set_option(_MMAP_THRESHOLD, _KEPT_BLOCK_BYTES)


def _manager(parent: int | None) -> ServiceManager:
    """What listens to us, if anything; the first worker speaks for all, and is watched in their stead."""
    own = os.environ if parent is None else {n: v for n, v in os.environ.items() if n != "WATCHDOG_PID"}
    return ServiceManager(own)


async def _watched(stop: asyncio.Event, manager: ServiceManager) -> None:
    """Say that requests are answered, and go on saying so until ``stop`` is set."""
    manager.say(READY="1")
    telling = asyncio.create_task(manager.run(lambda: "answering requests", lambda: None))
    await stop.wait()
    telling.cancel()
    with suppress(asyncio.CancelledError):
        await telling
    manager.say(STOPPING="1")


def _stop_event(parent: int | None) -> asyncio.Event:
    """Make what is set when this process is to end; Ctrl-C reaches no worker, but its supervisor."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if parent is not None:

        def orphaned() -> None:
            loop.remove_reader(parent)
            stop.set()

        loop.add_reader(parent, orphaned)
    return stop


def _warn_of_short_tokens(settings: ServerSettings) -> None:
    tokens = parse_device_tokens(settings.device_tokens.get_secret_value())
    if any(len(token) < SHORTEST_TOKEN for token in tokens):
        _LOG.warning("a token in DEVICE_TOKENS is short enough to be guessed; make longer ones")
