"""Requests to the server, over verified TLS only. The one module of the uploader that knows httpcore.

httpcore is what httpx is made of; without what httpx adds for others, the daemon needs less memory.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote, urlsplit

import anyio
import httpcore

from sungrow_lib._version import __version__
from sungrow_lib.errors import ServerUnreachableError, UnexpectedAnswerError
from sungrow_lib.names import dns_name
from sungrow_lib.upload.backoff import parse_date, parse_retry_after
from sungrow_lib.upload.compression import compress
from sungrow_lib.upload.greetings import Greetings
from sungrow_lib.upload.settings import Compression, UploadSettings
from sungrow_lib.upload.trust import add_public, tls_context
from sungrow_lib.upload.verdicts import Reply
from sungrow_lib.wording import shown

_ANSWER_LIMIT: Final = 64 * 1024
"""Bytes of any answer."""
_ANSWER_LIMIT_PER_READING: Final = 1024
"""As many more for each reading sent: three times the longest verdict of our server. Several batches are in
flight at a time, and an edge is to need 50 MB in all."""
_OK: Final = 200
_TEXT_LIMIT: Final = 300
"""Characters of an error's text: it may quote all that came in place of an answer."""
_CONNECT_S: Final = 10.0
_CONNECT_PART: Final = 0.3
"""Of the time a request may take: first TCP and then TLS may take that long, and it is told that they did."""
_KEPT_S: Final = 60.0
"""So long a connection is kept that nobody uses.

How many is not limited: httpcore counts those in use for that limit, too, and would close each of a backlog's
lanes after every batch. There are no more than lanes.
"""
_HEADERS: Final = {
    "Connection": "keep-alive",
    "User-Agent": f"sungrow-edge/{__version__}",
    "Accept": "application/json, application/problem+json",
    "Accept-Encoding": "identity",  # a small answer must not unfold into a large one
}


class IngestTransport:
    """Sends batches to one server and reads what it says; keeps the connection alive in between.

    Certificates are always verified and redirects never followed; proxies named in the environment are
    not used, so that nothing but the settings decides where readings go.

    Args:
        settings: address, certificate authority, compression and time-outs.

    Raises:
        ConfigurationError: the certificate file cannot be used.
    """

    def __init__(self, settings: UploadSettings) -> None:
        self._compression: Compression = settings.compression
        self._timeout_s = settings.request_timeout_s
        self._address = _Address(settings.server_url)
        self._context = tls_context(settings.ca_file)
        self._may_know_more = settings.ca_file is None
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=self._context,
            max_connections=None,
            max_keepalive_connections=None,
            keepalive_expiry=_KEPT_S,
            network_backend=_Network(),
        )

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._pool.__aexit__(exc_type, exc, traceback)

    async def ingest(self, body: Iterable[str], token: str, *, readings: int = 1) -> Reply:
        """Send a batch.

        Args:
            body: the request's JSON, in parts.
            token: bearer token.
            readings: how many it holds; the answer may be as large as that needs.

        Raises:
            ServerUnreachableError: no complete answer over a verified connection in time.
            UnexpectedAnswerError: the answer is too large to be one.
        """
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        content, encoding = compress(body, self._compression)
        if encoding:
            headers["Content-Encoding"] = encoding
        most = _ANSWER_LIMIT + readings * _ANSWER_LIMIT_PER_READING
        return await self._request("POST", "/v1/ingest", headers, content, most)

    async def edge_status(self, body: bytes, token: str) -> Reply:
        """Say how the edge does. Raises as `ingest` does."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return await self._request("POST", "/v1/edge-status", headers, body)

    async def health(self) -> Reply:
        """Ask `GET /health`: for the server's date more than for its health. Raises as `ingest` does."""
        return await self._request("GET", "/health", {}, None)

    async def _request(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        content: bytes | None,
        most: int = _ANSWER_LIMIT,
    ) -> Reply:
        knew_all = not self._may_know_more
        try:
            return await self._once(method, path, headers, content, most)
        except ServerUnreachableError as error:
            if _distrust(error) is None or knew_all:
                raise
        if self._may_know_more:
            self._may_know_more = False
            add_public(self._context)
        return await self._once(method, path, headers, content, most)

    async def _once(
        self, method: str, path: str, headers: dict[str, str], content: bytes | None, most: int
    ) -> Reply:
        connect_s = min(_CONNECT_S, self._timeout_s * _CONNECT_PART)
        waits = {"connect": connect_s, "read": self._timeout_s, "write": self._timeout_s}
        sent = _Sent()
        try:
            with anyio.fail_after(self._timeout_s):
                async with self._pool.stream(
                    method,
                    self._address.of(path),
                    headers=list(({"Host": self._address.host} | _HEADERS | headers).items()),
                    content=content,
                    extensions={"timeout": waits, "trace": sent.note},
                ) as response:
                    body = await _read(response, most)
                    took_s = anyio.current_time() - sent.at
        except TimeoutError:
            raise ServerUnreachableError(
                f"The server did not answer within {self._timeout_s:g} s; check SERVER_URL, the network and "
                "firewalls in between."
            ) from None
        except (*_BROKEN, OSError) as error:
            was_connected = not isinstance(error, _NOT_CONNECTED)
            raise ServerUnreachableError(_explain(error), was_connected=was_connected) from error
        date = parse_date(_header(response, b"date"))
        # Measured on the server's own clock where it tells, for ours may be wrong.
        retry_after_s = parse_retry_after(_header(response, b"retry-after"), date or datetime.now(UTC))
        return Reply(response.status, body, retry_after_s, date, took_s)


class _Sent:
    """When a request began to be sent, on the event loop's clock."""

    def __init__(self) -> None:
        self.at = anyio.current_time()

    async def note(self, event: str, _: object) -> None:
        """Hear from httpcore how far it is."""
        if event == "http11.send_request_headers.started":
            self.at = anyio.current_time()


class _Address:
    """The server's address in the parts a request has; a path in it stands before those of the API."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        name = dns_name(parts.hostname)
        self._name, self._port = name, parts.port
        self._base = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        bracketed = f"[{name}]" if ":" in name else name
        self.host = bracketed if parts.port is None else f"{bracketed}:{parts.port}"

    def of(self, path: str) -> httpcore.URL:
        """Return the address of ``path``."""
        return httpcore.URL(scheme="https", host=self._name, port=self._port, target=self._base + path)


class _Network(httpcore.AnyIOBackend):
    """Begins TLS with one connection at a time, and leaves none open on which that comes to no end."""

    def __init__(self) -> None:
        self._greetings = Greetings()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is the library's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        turn = self._greetings.turn()
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        return _Plain(stream, turn)


class _Plain(httpcore.AsyncNetworkStream):
    """A connection without TLS yet: there is nothing to do with it but to begin that, or to close it."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, turn: AbstractAsyncContextManager[None]) -> None:
        self._stream = stream
        self._turn = turn

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is the library's
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with self._turn:  # the time begins when the turn does
                return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()


_BROKEN: Final = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)

_NOT_CONNECTED: Final = (httpcore.ConnectError, httpcore.ConnectTimeout, ssl.SSLError)
"""No address, no answer, or a certificate that is not trusted: not a byte of a request has left."""


def _header(response: httpcore.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), None)


async def _read(response: httpcore.Response, most: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > most and response.status == _OK:
            raise UnexpectedAnswerError(f"The answer is larger than {most} bytes; it was not read on.")
        if len(body) > most:
            return b""  # a proxy's page, say: the status tells enough
    return bytes(body)


def _distrust(error: Exception) -> ssl.SSLCertVerificationError | None:
    """Return why the server's certificate is not trusted, if that is the cause."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _explain(error: Exception) -> str:
    if (distrust := _distrust(error)) is not None:
        return (
            f"The server's certificate is not trusted ({distrust.verify_message}); nothing was sent. "
            "If the server has a certificate of your own, set CA_FILE to its authority's; "
            "the name in SERVER_URL must be one of its names and this machine's clock must be right."
        )
    text = shown(str(error), _TEXT_LIMIT)
    return (
        f"The server cannot be reached ({type(error).__name__}{': ' + text if text else ''}); "
        "check SERVER_URL, the network and firewalls in between."
    )
