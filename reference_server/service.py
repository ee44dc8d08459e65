"""Runs the server: binds, says where it listens, and ends cleanly."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final

from aiohttp import web

from reference_server.app import make_metrics_runner, make_runner
from reference_server.config import SHORTEST_TOKEN, ServerSettings, parse_device_tokens
from reference_server.server import Server
from sungrow_lib.errors import ConfigurationError

_LOG: Final = logging.getLogger(__name__)


async def serve(settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT; requests that were taken are finished.

    Raises:
        ConfigurationError: the certificate cannot be used, or the address is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    context = _tls(settings)
    server = Server.from_settings(settings)
    runner, metrics = make_runner(server), make_metrics_runner(server)
    try:
        await runner.setup()
        await _bind(runner, settings, context)
        if settings.metrics_port:
            await metrics.setup()
            await _start(web.TCPSite(metrics, "127.0.0.1", settings.metrics_port), "METRICS_PORT")
        if any(
            len(token) < SHORTEST_TOKEN
            for token in parse_device_tokens(settings.device_tokens.get_secret_value())
        ):
            _LOG.warning("a token in DEVICE_TOKENS is short enough to be guessed; make longer ones")
        _LOG.info("listening", extra={"address": _addresses(runner), "tls": context is not None})
        await stop.wait()
        _LOG.info("stopping")
    finally:
        await metrics.cleanup()
        await runner.cleanup()


def _tls(settings: ServerSettings) -> ssl.SSLContext | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"TLS_CERT_FILE: cannot use {settings.tls_cert_file} with its key: {error.strerror or error}",
            variable="TLS_CERT_FILE",
        ) from None
    return context


async def _bind(runner: web.AppRunner, settings: ServerSettings, context: ssl.SSLContext | None) -> None:
    site: web.BaseSite
    if settings.unix_socket is not None:
        _clear(Path(settings.unix_socket))
        site = web.UnixSite(runner, settings.unix_socket, ssl_context=context)
    else:
        site = web.TCPSite(runner, settings.listen_host, settings.listen_port, ssl_context=context)
    await _start(site, "LISTEN_HOST, LISTEN_PORT")


async def _start(site: web.BaseSite, variables: str) -> None:
    try:
        await site.start()
    except OSError as error:
        raise ConfigurationError(
            f"{variables}: cannot listen on {site.name}: {error.strerror or error}",
            variable=variables.rpartition(" ")[2],
        ) from None


def _clear(socket: Path) -> None:
    """Remove the socket a killed server left behind."""
    with suppress(OSError):
        if socket.is_socket():
            socket.unlink()


def _addresses(runner: web.AppRunner) -> list[str]:
    return [
        address if isinstance(address, str) else f"{address[0]}:{address[1]}" for address in runner.addresses
    ]
