"""What an uploader says of itself, readable at any time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

NO_TOKEN: Final = "token"  # noqa: S105 - a code, no secret
"""Code of a ruling, and of an alarm, when there is no token to send."""
REFUSED: Final = ("http_401", "http_403")
"""Codes of an alarm when the server refuses it."""


class ConnectionState(StrEnum):
    """How the latest request went."""

    UNKNOWN = "unknown"
    """None was made yet."""
    CONNECTED = "connected"
    """The server took the readings."""
    REFUSED = "refused"
    """The server refuses the token (401, 403)."""
    TROUBLED = "in trouble"
    """The server says that it has trouble of its own (5xx), or asks to wait (429)."""
    NOT_TAKEN = "not taken"
    """Somebody finds fault with a batch as a whole (400, 413, 422)."""
    NOT_UNDERSTOOD = "not understood"
    """Somebody answers, but not as agreed on."""
    UNREACHABLE = "unreachable"
    """No answer over a verified connection."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that waiting alone will not cure.

    Attributes:
        code: what it is, for programs: `http_401`, `not_our_answer`, `token`, `spool`, `internal`, ...
        detail: the same for people, with what to do.
        device_id: whom it concerns; None for all devices.
        since: when it was first seen, UTC.
    """

    code: str
    detail: str
    device_id: str | None
    since: datetime


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """A snapshot of an uploader.

    Attributes:
        connection: how the latest request went.
        last_success: when the server last took readings, UTC; None when it has not yet.
        last_error: why the latest attempt that failed did; None when none has.
        delivered: readings delivered since the start.
        in_flight: batches on their way now.
        paused: devices whose token is refused.
        alarms: everything that needs a person.
        server_version: version of the server that answered last.
    """

    connection: ConnectionState
    last_success: datetime | None
    last_error: str | None
    delivered: int
    in_flight: int
    paused: tuple[str, ...]
    alarms: tuple[Alarm, ...]
    server_version: str | None


class StatusBoard:
    """Where the lanes of an uploader note what happens to them."""

    def __init__(self) -> None:
        self._connection = ConnectionState.UNKNOWN
        self._last_success: datetime | None = None
        self._last_error: str | None = None
        self._server_version: str | None = None
        self._delivered = 0
        self._alarms: dict[tuple[str | None, str], Alarm] = {}
        self.in_flight = 0
        self.paused: set[str] = set()

    def delivered(self, device_id: str, count: int, server_version: str | None) -> None:
        """Note an answer that counted: it ends the device's alarms."""
        self._connection = ConnectionState.CONNECTED
        if count:  # an answer that rejects or defers all of them took none
            self._last_success = datetime.now(UTC)
        self._server_version = server_version
        self._delivered += count
        self.paused.discard(device_id)
        self._alarms = {key: alarm for key, alarm in self._alarms.items() if key[0] != device_id}

    def failed(self, connection: ConnectionState, detail: str) -> None:
        """Note an attempt that failed."""
        self._connection = connection
        self._last_error = detail

    def raise_alarm(self, code: str, detail: str, device_id: str | None) -> bool:
        """Raise an alarm; return whether it is new."""
        earlier = self._alarms.get((device_id, code))
        since = earlier.since if earlier else datetime.now(UTC)
        self._alarms[device_id, code] = Alarm(code, detail, device_id, since)
        return earlier is None

    def clear_alarm(self, code: str, device_id: str | None) -> None:
        """End an alarm, if it was raised."""
        self._alarms.pop((device_id, code), None)

    def has_token(self) -> None:
        """End the alarm that there is no token, of all devices, and their pauses for that."""
        for device_id, code in [key for key in self._alarms if key[1] == NO_TOKEN]:
            self.clear_alarm(code, device_id)
            if device_id is not None:
                self.paused.discard(device_id)

    def has_nothing_refused(self, device_id: str) -> None:
        """End a device's pause, and its alarms of a token that was refused."""
        self.paused.discard(device_id)
        for code in REFUSED:
            self.clear_alarm(code, device_id)

    def snapshot(self) -> UploadStatus:
        """Return the state now."""
        return UploadStatus(
            connection=self._connection,
            last_success=self._last_success,
            last_error=self._last_error,
            delivered=self._delivered,
            in_flight=self.in_flight,
            paused=tuple(sorted(self.paused)),
            alarms=tuple(self._alarms.values()),
            server_version=self._server_version,
        )
