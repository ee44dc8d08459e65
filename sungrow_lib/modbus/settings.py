"""How a device is reached and how gently it is asked."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from sungrow_lib.errors import ConfigurationError
from sungrow_lib.names import dns_name

MIN_POLL_INTERVAL_S: Final = 5.0
"""Least time from the start of one pass to the start of the next."""

MIN_REST_S: Final = 1.0
"""Least time from the end of one pass to the start of the next."""

MIN_REQUEST_GAP_S: Final = 0.02
"""Least time from an answer to the next request."""

REFUSED_READ_INTERVAL_S: Final = 5.0
"""Least time between two reads that the device may refuse."""

_MORE_THAN_A_HOST: Final = re.compile(r"/|@|^[^:]+:\d+$|\]:\d+$")
"""An address of the web, or a port behind the host; an IPv6 address has more colons than one."""

_UNIT_MAX: Final = 255
_PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """One device (or dongle) and the manners it is treated with.

    Attributes:
        host: name or address.
        port: Modbus TCP port.
        timeout_s: seconds to wait for a connection and for each answer.
        request_gap_s: seconds from an answer to the next request; at least 0.02. The default suits a
            WiNet-S dongle; an inverter's own LAN port stands 0.02.
        connect_pause_s: seconds from connecting to the first request; dongles ignore earlier ones.
        poll_interval_s: seconds from the start of one pass to the start of the next; at least 5.
        lock_dir: folder of the lock files; None for ``SUNGROW_LOCK_DIR`` or the system's lock folder.
        state_dir: folder of the notes on what each device serves; None for ``SUNGROW_STATE_DIR`` or the
            user's state folder. Of a folder that is named only the last part is made.

    Raises:
        ConfigurationError: a value is outside what the device can stand.
    """

    host: str
    port: int = 502
    timeout_s: float = 3.0
    request_gap_s: float = 0.1
    connect_pause_s: float = 1.0
    poll_interval_s: float = MIN_POLL_INTERVAL_S
    lock_dir: Path | None = None
    state_dir: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what would hurt the device."""
        require_host(self.host)
        if not 0 < self.port <= _PORT_MAX:
            raise ConfigurationError(f"port {self.port} does not exist; use 1 to {_PORT_MAX}, usually 502")
        _require_at_least("the poll interval", self.poll_interval_s, MIN_POLL_INTERVAL_S)
        _require_at_least("the gap between requests", self.request_gap_s, MIN_REQUEST_GAP_S)
        _require_at_least("the pause after connecting", self.connect_pause_s, 0.0)
        _require_at_least("the time-out", self.timeout_s, 0.1)


def require_host(host: str) -> str:
    """Return ``host`` as it is compared with others: without brackets and blanks around, in small letters.

    Raises:
        ConfigurationError: it is not a name or an address alone.
    """
    name = host.strip()
    if not name:
        raise ConfigurationError("the host is empty; give the inverter's name or address")
    if _MORE_THAN_A_HOST.search(name):
        raise ConfigurationError(
            f"{host!r} is more than a host; give the name or address alone, and the port apart"
        )
    address, percent, zone = name.strip("[]").partition("%")  # a zone is an interface: its letters count
    with suppress(ValueError):
        return f"{ip_address(address)}{percent}{zone}"
    try:
        dns_name(name)
    except ValueError:
        raise ConfigurationError(
            f"{host!r} is no name of a host; give the inverter's name or address"
        ) from None
    return name.lower()


def require_unit(unit: int) -> int:
    """Return ``unit`` if it is a possible Modbus unit id.

    Raises:
        ConfigurationError: it is not.
    """
    if not 0 <= unit <= _UNIT_MAX:
        raise ConfigurationError(f"unit id {unit} does not exist; use 1 to 247, usually 1")
    return unit


def _require_at_least(what: str, value: float, least: float) -> None:
    if not least <= value < float("inf"):  # also refuses NaN
        raise ConfigurationError(f"{what} cannot be {value:g} s; it is {least:g} s or more")
