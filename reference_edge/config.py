"""The edge's settings: one TOML file plus environment, checked before anything starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from sungrow_lib.errors import ConfigurationError
from sungrow_lib.modbus.settings import require_host
from sungrow_lib.names import dns_name
from sungrow_lib.quantities import Family
from sungrow_lib.sample import DEVICE_ID_PATTERN
from sungrow_lib.settings import AppSettings
from sungrow_lib.upload.settings import check_token

POLL_INTERVAL_MIN_S: Final = 5.0
REQUEST_GAP_MIN_MS: Final = 20


def _https(url: str) -> str:
    # None of the messages repeats the address: it may hold a password.
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when it is none
    except ValueError:
        raise ValueError("is not an address; write one such as https://solar.example.org") from None
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("must start with https:// ; readings only travel over verified TLS")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or a password; the server knows the edge by DEVICE_TOKEN")
    try:
        dns_name(parts.hostname)
    except ValueError as error:
        raise ValueError(f"its host {error}") from None
    if parts.query or parts.fragment:
        raise ValueError("must be https://HOST[:PORT][/PATH], without ? or #")
    return url.rstrip("/")


def _host(host: str) -> str:
    try:
        return require_host(host)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not an IANA time zone; write one such as Europe/Berlin") from None
    return name


def _token(token: SecretStr) -> SecretStr:
    try:
        check_token(token.get_secret_value())
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    return token


DeviceId = Annotated[str, Field(pattern=DEVICE_ID_PATTERN)]
Host = Annotated[str, Field(min_length=1), AfterValidator(_host)]
HttpsUrl = Annotated[str, AfterValidator(_https)]
Token = Annotated[SecretStr, AfterValidator(_token)]
Zone = Annotated[str, AfterValidator(_zone)]
PollInterval = Annotated[float, Field(ge=POLL_INTERVAL_MIN_S, le=3600)]
RequestGap = Annotated[int, Field(ge=REQUEST_GAP_MIN_MS, le=10_000)]
FamilyChoice = Literal["auto", "sh", "sg", "ihm"]
BatteryUnit = Annotated[int, Field(ge=1, le=247)] | Literal["auto", "off"]


_FOR_ALL: Final = {
    "sungrow_timeout_s": "timeout_s",
    "plant": "plant",
    "site_timezone": "timezone",
    "poll_interval_s": "poll_interval_s",
    "inter_register_delay_ms": "inter_register_delay_ms",
}
"""Settings of a single inverter that hold for every `[[devices]]` table, where it does not say otherwise."""
_FOR_ONE: Final = {
    "sungrow_host": "host",
    "sungrow_port": "port",
    "sungrow_unit_id": "unit",
    "sungrow_family": "family",
    "sungrow_battery_unit": "battery_unit",
    "device_id": "device_id",
    "device_name": "name",
}
"""Those of the one inverter that `SUNGROW_HOST` names, with tables beside it or without."""


class DeviceSettings(AppSettings):
    """One inverter to poll; a `[[devices]]` table of the file.

    Attributes:
        device_id: its name on the server, ``[A-Za-z0-9._-]{1,64}``.
        host: name or address of the inverter or its dongle.
        port: Modbus TCP port.
        unit: Modbus unit id.
        family: register family, or ``auto`` to go by the device's type code.
        battery_unit: Modbus unit id of a hybrid's battery, for its cells and modules; ``auto`` looks where it
            usually is (200 on the LAN port, 2 behind a WiNet-S), ``off`` leaves it alone.
        poll_interval_s: seconds between polls, at least 5; the longest of those behind one host holds
            for all of them.
        inter_register_delay_ms: pause between an answer and the next request; 20 at least, 100 unless told.
        timeout_s: longest wait for one answer.
        timezone: IANA zone of the site; the server counts days in it.
        name: what people call the device.
        plant: plant it belongs to.
    """

    device_id: DeviceId
    host: Host
    port: Annotated[int, Field(ge=1, le=65_535)] = 502
    unit: Annotated[int, Field(ge=1, le=247)] = 1
    family: FamilyChoice = "auto"
    battery_unit: BatteryUnit = "auto"
    poll_interval_s: PollInterval = POLL_INTERVAL_MIN_S
    inter_register_delay_ms: RequestGap = 100
    timeout_s: Annotated[float, Field(ge=0.5, le=60)] = 5.0
    timezone: Zone | None = None
    name: Annotated[str, Field(max_length=128)] | None = None
    plant: Annotated[str, Field(max_length=128)] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port: what is behind the same ones shares a connection and its passes."""
        return self.host, self.port

    @property
    def register_family(self) -> Family | None:
        """The family named; None for ``auto``."""
        return None if self.family == "auto" else Family(self.family)

    @property
    def battery_units(self) -> tuple[int, ...] | None:
        """Unit ids to look at for the battery; None for the usual ones."""
        if self.battery_unit == "auto":
            return None
        return () if self.battery_unit == "off" else (self.battery_unit,)


class EdgeSettings(AppSettings):
    """All settings of `sungrow-edge`.

    The settings of a single inverter (`SUNGROW_HOST` and its neighbours) may stand in the environment;
    several inverters are `[[devices]]` tables of the file. Beside tables it is one inverter more, and
    `SITE_TIMEZONE`, `PLANT`, `POLL_INTERVAL_S`, `INTER_REGISTER_DELAY_MS` and `SUNGROW_TIMEOUT_S` hold for
    each table that does not say otherwise. What describes an inverter that nothing names is refused.

    Attributes:
        server_url: where to upload, ``https://`` only.
        device_token: bearer token with scope `ingest`.
        device_token_file: file holding it instead; a new token there needs no restart.
        ca_file: PEM file of a private certificate authority, when the server's is not publicly known.
        spool_path: the durable spool, an SQLite file.
        batch_size: most readings in one upload.
        upload_interval_s: longest a fresh reading waits for company before it is uploaded.
        commit_interval_s: seconds for which readings are gathered before one commit takes them to disk; 0
            commits each at once. More spares an SD card, and loses so many seconds in a power cut.
        edge_id: name of this box; made once and kept in the spool unless given.
        log_level: least level logged; JSON lines on stderr.
        sungrow_lock_dir: folder of the lock files that keep two programs off one dongle; the system's lock
            folder unless given.
        sungrow_state_dir: folder of the notes on what each inverter serves and refuses, so that nothing is
            refused twice; `sungrow-state` beside the spool unless given, or where the spool's own folder is
            given. Only its last part is made where it is missing. May be deleted.
        health_file: what the running daemon says of its health, for `sungrow-edge status`; the spool's name
            with `.health.json` unless given; holds no secret.
        metrics_port: port on 127.0.0.1 that answers Prometheus at `/metrics`; 0 for none.
        devices: the `[[devices]]` tables; in the environment a JSON list.
    """

    server_url: HttpsUrl
    device_token: Token | None = None
    device_token_file: Path | None = None
    ca_file: Path | None = None
    spool_path: Path = Path("sungrow-spool.sqlite")
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    upload_interval_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    commit_interval_s: Annotated[float, Field(ge=0, le=600)] = 0.0
    edge_id: Annotated[str, Field(pattern=DEVICE_ID_PATTERN)] | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    sungrow_lock_dir: Path | None = None
    sungrow_state_dir: Path | None = None
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    health_file: Path | None = None
    devices: tuple[DeviceSettings, ...] = ()

    sungrow_host: Host | None = None
    sungrow_port: Annotated[int, Field(ge=1, le=65_535)] = 502
    sungrow_unit_id: Annotated[int, Field(ge=1, le=247)] = 1
    sungrow_family: FamilyChoice = "auto"
    sungrow_battery_unit: BatteryUnit = "auto"
    sungrow_timeout_s: Annotated[float, Field(ge=0.5, le=60)] = 5.0
    device_id: DeviceId | None = None
    device_name: Annotated[str, Field(max_length=128)] | None = None
    plant: Annotated[str, Field(max_length=128)] | None = None
    site_timezone: Zone | None = None
    poll_interval_s: PollInterval = POLL_INTERVAL_MIN_S
    inter_register_delay_ms: RequestGap = 100

    @field_validator("devices", mode="before")
    @classmethod
    def _read_devices(cls, value: object) -> object:
        """In the environment the tables are text."""
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError(
                "is not valid JSON; a list is easier to write in the configuration file"
            ) from None

    @model_validator(mode="after")
    def _has_consistent_devices(self) -> Self:
        self._require_named()
        inverters = self.inverters
        if not inverters:
            raise ValueError(
                "name an inverter: SUNGROW_HOST and DEVICE_ID in the environment, or a [[devices]] table"
            )
        for what, keys in (
            ("device_id", [d.device_id for d in inverters]),
            ("host, port and unit", [f"{d.host}:{d.port} unit {d.unit}" for d in inverters]),
        ):
            twice = _first_repeated(keys)
            if twice is not None:
                raise ValueError(f"two devices have the same {what}: {twice}")
        if (self.device_token is None) == (self.device_token_file is None):
            raise ValueError(
                "set either DEVICE_TOKEN, the token that `sungrow-server token create` printed, "
                "or DEVICE_TOKEN_FILE, a file that holds it"
            )
        return self

    def _require_named(self) -> None:
        """Refuse what describes an inverter that is not there; the value of the default describes nothing."""
        if self.sungrow_host is not None or not self.devices:
            return
        fields = EdgeSettings.model_fields
        for name, key in _FOR_ONE.items():
            if getattr(self, name) != fields[name].default:
                raise ValueError(
                    f"{name.upper()} is for the inverter that SUNGROW_HOST names, and that is not set; "
                    f"remove it, and write {key} into the [[devices]] table it is meant for"
                )

    @property
    def state_dir(self) -> Path:
        """Where the notes on the inverters are kept.

        Never in the spool's own folder, which they would make where its disk is not mounted yet.
        """
        beside, chosen = self.spool_path.absolute().parent, self.sungrow_state_dir
        if chosen is None or os.path.realpath(chosen) == os.path.realpath(beside):
            return beside / "sungrow-state"
        return chosen

    @property
    def health_path(self) -> Path:
        """Where the daemon says how it does."""
        return self.health_file or self.spool_path.with_name(self.spool_path.name + ".health.json")

    @property
    def inverters(self) -> tuple[DeviceSettings, ...]:
        """Every inverter to poll: the `[[devices]]` tables and the one that `SUNGROW_HOST` names.

        Those behind one address are read in one pass, so that all of them have the longest of their poll
        intervals: it is what server and metrics have to go by.
        """
        named = self._named
        longest: dict[tuple[str, int], float] = {}
        for device in named:
            longest[device.address] = max(longest.get(device.address, 0.0), device.poll_interval_s)
        return tuple(d.model_copy(update={"poll_interval_s": longest[d.address]}) for d in named)

    @property
    def slowed(self) -> tuple[str, ...]:
        """What to say of inverters that are polled more rarely than they were to be."""
        return tuple(
            f"{wanted.device_id} is polled every {polled.poll_interval_s:g} s, not every "
            f"{wanted.poll_interval_s:g}: inverters behind one address ({wanted.host}:{wanted.port}) are "
            "read together, at the longest of their poll intervals; give them the same"
            for wanted, polled in zip(self._named, self.inverters, strict=True)
            if wanted.poll_interval_s != polled.poll_interval_s
        )

    @property
    def _named(self) -> tuple[DeviceSettings, ...]:
        """The inverters as the settings have them."""
        tables = tuple(device.model_copy(update=self._defaults_of(device)) for device in self.devices)
        if self.sungrow_host is None:
            return tables
        if self.device_id is None:
            raise ValueError("DEVICE_ID is required beside SUNGROW_HOST; choose a name such as home-roof")
        return (*tables, DeviceSettings(**self._said(_FOR_ONE | _FOR_ALL)))

    def _defaults_of(self, device: DeviceSettings) -> dict[str, object]:
        """What holds for all and is not said in the device's table."""
        return {
            key: value for key, value in self._said(_FOR_ALL).items() if key not in device.model_fields_set
        }

    def _said(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Settings that were given, by their name in a table."""
        return {key: getattr(self, name) for name, key in names.items() if name in self.model_fields_set}


def _first_repeated(keys: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            return key
        seen.add(key)
    return None
