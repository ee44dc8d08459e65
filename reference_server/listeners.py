"""The sockets the server listens on: bound once, before any process serves from them."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final

from reference_server.config import ServerSettings
from sungrow_lib.errors import ConfigurationError

_LOOPBACK: Final = "127.0.0.1"

Sockets = list[socket.socket]


def bind(settings: ServerSettings, workers: int) -> list[Sockets]:
    """Bind the server's address; return what each worker listens on.

    Over TCP every worker has sockets of its own on the one address, and the kernel spreads new connections
    over them. Whoever keeps them open beside the worker loses no connection when it dies: those that wait are
    taken by its successor. A Unix socket is one for all.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    if settings.unix_socket is not None:
        shared = _unix(Path(settings.unix_socket))
        return [[shared]] * workers
    try:
        return _tcp(settings.listen_host, settings.listen_port, workers)
    except OSError as error:
        address = f"{settings.listen_host}:{settings.listen_port}"
        raise _unusable("LISTEN_HOST, LISTEN_PORT", address, error) from None


def bind_metrics(settings: ServerSettings) -> Sockets:
    """Bind the port that shows `/metrics` without a token; empty when there is none.

    Raises:
        ConfigurationError: the port cannot be used.
    """
    if not settings.metrics_port:
        return []
    try:
        return [socket.create_server((_LOOPBACK, settings.metrics_port))]
    except OSError as error:
        raise _unusable("METRICS_PORT", f"{_LOOPBACK}:{settings.metrics_port}", error) from None


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """Make what speaks TLS, None without a certificate.

    Raises:
        ConfigurationError: the certificate cannot be used.
    """
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


def address_of(bound: socket.socket) -> str:
    """Return where a socket listens, for people."""
    name = bound.getsockname()
    return name if isinstance(name, str) else f"{name[0]}:{name[1]}"


def _tcp(host: str, port: int, workers: int) -> list[Sockets]:
    """Sockets by worker; the first of each address would not share it, so that another server is noticed."""
    found: list[Sockets] = [[] for _ in range(workers)]
    for family, address in _addresses(host, port):
        alone = _bound(family, address)
        if workers == 1:
            found[0].append(alone)
            continue
        port = alone.getsockname()[1]
        alone.close()
        for sockets in found:
            sockets.append(_bound(family, (address[0], port), shared=True))
    return found


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
    found = socket.getaddrinfo(host or None, port, type=kind, flags=flags)
    return list(dict.fromkeys((family, (str(where[0]), port)) for family, _, _, _, where in found))


def _bound(family: socket.AddressFamily, address: tuple[str, int], *, shared: bool = False) -> socket.socket:
    return socket.create_server(address, family=family, backlog=1024, reuse_port=shared)


def _unix(path: Path) -> socket.socket:
    with suppress(OSError):
        if path.is_socket():  # a killed server left it behind
            path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise _unusable("LISTEN_HOST", str(path), error) from None
    return listener


def _unusable(variables: str, address: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{variables}: cannot listen on {address}: {error.strerror or error}",
        variable=variables.rpartition(" ")[2],
    )
