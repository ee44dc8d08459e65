"""What a `BatchUploader` needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from sungrow_lib.errors import ConfigurationError
from sungrow_lib.names import dns_name
from sungrow_lib.upload.witnesses import MOST_WITNESSES
from sungrow_lib.wire import DeviceInfo

Compression = Literal["zstd", "gzip", "none"]

_OTHER_LANES: Final = 2
"""The fresh and the due lane have one batch in flight each."""
_LARGEST_BATCH: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """Where readings go, and how.

    Attributes:
        server_url: base address, `https://` only, such as ``https://solar.example.org``.
        token: bearer token with the scope `ingest`; never logged. Either this or `token_file`.
        token_file: file that holds it; read again when the server refuses it.
        ca_file: certificate of a private certificate authority, trusted in place of the public ones.
        batch_size: most readings in one request.
        upload_interval_s: seconds between batches of fresh readings.
        backlog_workers: batches of the backlog in flight at a time, per device. Two fill a line; each more
            keeps a connection and a batch in memory.
        request_timeout_s: seconds one request may take in all.
        compression: of the request's body.
        devices: what is known of each device, by device id.
        edge_id: names this edge; the spool's own when None.

    Raises:
        ConfigurationError: a value cannot work; says which and why.
    """

    server_url: str
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    ca_file: Path | None = None
    batch_size: int = 500
    upload_interval_s: float = 10.0
    backlog_workers: int = 2
    request_timeout_s: float = 60.0
    compression: Compression = "zstd"
    devices: Mapping[str, DeviceInfo] = field(default_factory=dict)
    edge_id: str | None = None

    def __post_init__(self) -> None:
        _check_url(self.server_url)
        if (self.token is None) == (self.token_file is None):
            raise ConfigurationError("Give the server's token either as token or as token_file.")
        if self.token is not None:
            check_token(self.token)
        if not 1 <= self.batch_size <= _LARGEST_BATCH:
            raise ConfigurationError(f"batch_size must be 1 to {_LARGEST_BATCH}, not {self.batch_size}.")
        # Fewer batches in flight than witnesses in `last_delivered`, else the server could miss a loss.
        most = MOST_WITNESSES - 1 - _OTHER_LANES
        if not 1 <= self.backlog_workers <= most:
            raise ConfigurationError(f"backlog_workers must be 1 to {most}, not {self.backlog_workers}.")
        if self.upload_interval_s <= 0 or self.request_timeout_s <= 0:
            raise ConfigurationError("upload_interval_s and request_timeout_s must be above 0.")
        if self.compression not in {"zstd", "gzip", "none"}:
            raise ConfigurationError(f"compression must be zstd, gzip or none, not {self.compression}.")


def check_token(token: str) -> None:
    """Make sure a token can be sent in a header.

    Raises:
        ConfigurationError: it is empty or holds blanks, control or other than ASCII characters.
    """
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError("The token is empty or holds characters that no token has; copy it again.")


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when it is none
    except ValueError:
        raise ConfigurationError("server_url is not an address such as https://solar.example.org.") from None
    if parts.scheme != "https":
        raise ConfigurationError(
            "server_url must start with https://: readings and token are sent encrypted only. "
            "For a server with a certificate of your own, also set ca_file."
        )
    if parts.hostname:
        try:
            dns_name(parts.hostname)
        except ValueError as error:
            raise ConfigurationError(f"The host of server_url {error}.") from None
    if not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError("server_url must be https://HOST[:PORT][/PATH], without user, query or #.")
