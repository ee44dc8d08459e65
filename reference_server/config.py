"""The server's settings: environment variables, or a TOML file with the same names in lower case."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from sungrow_lib.sample import DEVICE_ID_PATTERN
from sungrow_lib.settings import AppSettings

SHORTEST_TOKEN: Final = 16
"""Characters below which a token can be guessed."""
_SPLIT: Final = re.compile(r"[,\s]+")

TrustedNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class ServerSettings(AppSettings):
    """What the server needs to know; every field is also an environment variable in capitals.

    Attributes:
        database_url: where PostgreSQL is, as libpq takes it.
        device_tokens: ``token:device,token:device``: tokens known without the database, with the scopes
            `ingest` and `read`, for a first start; a token named twice may touch both devices.
        listen_host: address to bind, or ``unix:/path`` for a Unix socket.
        listen_port: port to bind.
        workers: how many processes answer on the address.
        tls_cert_file: certificate chain, PEM; with it the server speaks HTTPS.
        tls_key_file: its key, PEM.
        trusted_proxies: addresses or networks of the proxies in front that end TLS.
        max_samples_per_request: most samples of one batch.
        max_request_bytes: most bytes of a body as sent.
        max_decompressed_bytes: most bytes of a body once decompressed.
        raw_retention_days: days raw readings are kept, rollups stay for ever; older ones are kept aside on
            arrival.
        database_pool_size: most connections of each worker to the database, beside two for live streams;
            series and reports take half of them at most.
        refresh_interval_s: pause between two looks for rollups to refresh, in seconds.
        requests_per_minute: most requests of one token, and of one address, to all processes together, and
            as many batches of a backlog beside them; 0 for any number.
        failed_logins_per_minute: wrong tokens of one address after which further ones are not even tried; 0
            for any number.
        pg_bin_dir: folder of `pg_dump` and `pg_restore` for backups; by default one that fits is looked for.
        metrics_port: port on 127.0.0.1 that shows `/metrics` without a token; 0 for none.
        log_level: least level logged; JSON lines on stderr.
        access_log: `all` logs a line for each request; `problems` only those that are refused, fail or take a
            second or more.
    """

    database_url: SecretStr
    device_tokens: SecretStr = SecretStr("")
    listen_host: str = "127.0.0.1"
    listen_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    workers: Annotated[int, Field(ge=1, le=128)] = 1
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    trusted_proxies: tuple[TrustedNetwork, ...] = ()
    max_samples_per_request: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    max_request_bytes: Annotated[int, Field(ge=1024)] = 8 * 2**20
    max_decompressed_bytes: Annotated[int, Field(ge=1024)] = 32 * 2**20
    raw_retention_days: Annotated[int, Field(ge=1, le=36_500)] = 400
    database_pool_size: Annotated[int, Field(ge=2, le=100)] = 8
    refresh_interval_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    requests_per_minute: Annotated[int, Field(ge=0)] = 0
    failed_logins_per_minute: Annotated[int, Field(ge=0)] = 60
    pg_bin_dir: Path | None = None
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    access_log: Literal["all", "problems"] = "all"

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_proxies(cls, value: object) -> object:
        parts = [part for part in _SPLIT.split(value) if part] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise ValueError("must be a list of addresses or networks")  # noqa: TRY004 - pydantic's way
        try:
            return tuple(ipaddress.ip_network(part) for part in parts)
        except ValueError as error:
            raise ValueError(f"must be addresses or networks, such as 10.0.0.0/8: {error}") from None

    @field_validator("device_tokens")
    @classmethod
    def _check_tokens(cls, value: SecretStr) -> SecretStr:
        parse_device_tokens(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("TLS_CERT_FILE and TLS_KEY_FILE belong together; set both or neither")
        if self.tls_cert_file is None and not self.trusted_proxies and not self.is_local:
            raise ValueError(
                f"LISTEN_HOST {self.listen_host} would carry tokens in clear text; set TLS_CERT_FILE and "
                "TLS_KEY_FILE, bind 127.0.0.1, or name the proxy that ends TLS in TRUSTED_PROXIES"
            )
        return self

    @property
    def unix_socket(self) -> str | None:
        """Path of the Unix socket to bind, None for TCP."""
        return self.listen_host.removeprefix("unix:") if self.listen_host.startswith("unix:") else None

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can connect."""
        if self.unix_socket is not None or self.listen_host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.listen_host).is_loopback
        except ValueError:
            return False


def parse_device_tokens(text: str) -> dict[str, frozenset[str]]:
    """Read ``token:device,token:device``; a token named twice may touch both devices.

    Raises:
        ValueError: an entry has another form; the text never shows the token.
    """
    tokens: dict[str, frozenset[str]] = {}
    for number, entry in enumerate((part for part in _SPLIT.split(text.strip()) if part), 1):
        token, colon, device = entry.rpartition(":")
        if not (colon and token) or re.fullmatch(DEVICE_ID_PATTERN, device) is None:
            raise ValueError(f"entry {number} must be token:device")
        tokens[token] = tokens.get(token, frozenset()) | {device}
    return tokens
