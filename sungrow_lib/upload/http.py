"""Requests to the server, over verified TLS only. The one module of the uploader that knows httpx."""

from __future__ import annotations

import gzip
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
import httpx

from sungrow_lib._version import __version__
from sungrow_lib.errors import ConfigurationError, ServerUnreachableError, UnexpectedAnswerError
from sungrow_lib.upload.backoff import parse_date, parse_retry_after
from sungrow_lib.upload.settings import Compression, UploadSettings
from sungrow_lib.upload.verdicts import Reply

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_ANSWER_LIMIT: Final = 8 * 1024 * 1024
"""Bytes; several times what a verdict on each of 10,000 readings takes."""
_CONNECT_S: Final = 10.0
_ZSTD_LEVEL: Final = 6
"""An eighth fewer bytes than the usual 3, for microseconds a reading."""
_HEADERS: Final = {
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
        self._base = settings.server_url.rstrip("/")
        self._client = httpx.AsyncClient(
            verify=_tls_context(settings.ca_file),
            headers=_HEADERS,
            timeout=httpx.Timeout(settings.request_timeout_s, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=4, keepalive_expiry=60.0),
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(exc_type, exc, traceback)

    async def ingest(self, body: bytes, token: str) -> Reply:
        """Send a batch.

        Args:
            body: the request's JSON.
            token: bearer token.

        Raises:
            ServerUnreachableError: no complete answer over a verified connection in time.
            UnexpectedAnswerError: the answer is too large to be one.
        """
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        content, encoding = _compress(body, self._compression)
        if encoding:
            headers["Content-Encoding"] = encoding
        return await self._request("POST", "/v1/ingest", headers, content)

    async def edge_status(self, body: bytes, token: str) -> Reply:
        """Say how the edge does. Raises as `ingest` does."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return await self._request("POST", "/v1/edge-status", headers, body)

    async def health(self) -> Reply:
        """Ask `GET /health`: for the server's date more than for its health. Raises as `ingest` does."""
        return await self._request("GET", "/health", {}, None)

    async def _request(self, method: str, path: str, headers: dict[str, str], content: bytes | None) -> Reply:
        try:
            with anyio.fail_after(self._timeout_s):
                async with self._client.stream(
                    method, self._base + path, headers=headers, content=content
                ) as response:
                    body = await _read(response)
        except TimeoutError:
            raise ServerUnreachableError(
                f"The server did not answer within {self._timeout_s:g} s; check SERVER_URL, the network and "
                "firewalls in between."
            ) from None
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError) as error:
            raise ServerUnreachableError(_explain(error)) from error
        date = parse_date(response.headers.get("date"))
        # Measured on the server's own clock where it tells, for ours may be wrong.
        retry_after_s = parse_retry_after(response.headers.get("retry-after"), date or datetime.now(UTC))
        return Reply(response.status_code, body, retry_after_s, date)


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > _ANSWER_LIMIT:
            raise UnexpectedAnswerError(
                f"The answer is larger than {_ANSWER_LIMIT} bytes; it was not read on."
            )
    return bytes(body)


def _compress(body: bytes, compression: Compression) -> tuple[bytes, str | None]:
    if compression == "zstd":
        return zstd.compress(body, _ZSTD_LEVEL), "zstd"
    if compression == "gzip":
        return gzip.compress(body, compresslevel=6, mtime=0), "gzip"
    return body, None


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is None:
        context = httpx.create_ssl_context(trust_env=False)  # the public authorities as httpx brings them
        context.load_default_certs()  # and those of this machine
        return context
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except ssl.SSLError:
        raise ConfigurationError(f"CA_FILE {ca_file} holds no certificate in PEM format.") from None
    except OSError as error:
        raise ConfigurationError(f"CA_FILE {ca_file} cannot be read: {error.strerror}.") from None


def _explain(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"The server's certificate is not trusted ({cause.verify_message}); nothing was sent. "
                "If the server has a certificate of your own, set CA_FILE to its authority's; "
                "the name in SERVER_URL must be one of its names and this machine's clock must be right."
            )
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    return (
        f"The server cannot be reached ({type(error).__name__}{': ' + text if text else ''}); "
        "check SERVER_URL, the network and firewalls in between."
    )
