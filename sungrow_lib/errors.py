"""Every error the product raises on purpose, drawn on one screen.

The tree splits first by what the caller should do about it::

    SungrowError
    ├── UsageError                    correct the call, the option or the file
    │   ├── ConfigurationError        ... a setting (names the variable)
    │   ├── CaptureError              ... a capture file
    │   └── UnknownFamilyError        ... say which register family it is
    ├── DeviceError                   the inverter or its dongle; try again later
    │   ├── DeviceUnreachableError    no connection (also a ConnectionError)
    │   ├── DeviceTimeoutError        no answer in time (also a TimeoutError)
    │   ├── DeviceBusyError           another program holds the connection
    │   ├── RegisterRefusedError      the device answered with an exception code
    │   └── DamagedReplyError         the answer was not a valid Modbus frame
    ├── SpoolError                    the durable spool; nothing was accepted
    │   ├── SpoolUnavailableError     cannot be opened or written
    │   │   └── NotASpoolError        ... it is some other file (also a ConfigurationError)
    │   ├── SpoolFullError            the disk or the byte budget is used up
    │   └── SpoolCorruptError         the file is damaged; `sungrow-edge spool verify`
    └── ServerError                   the server's answer, or the lack of one; keep the data
        ├── ServerUnreachableError    network, TLS or time-out (also a ConnectionError)
        ├── CredentialsRefusedError   401 or 403: a new token is needed
        ├── RequestRefusedError       another 4xx: this request will not pass
        ├── ServerBusyError           429 or 503: wait `retry_after_s`
        └── UnexpectedAnswerError     not an answer to what was asked

A class's first docstring line is its default message; context is carried in attributes, never in the text
alone. Errors of pymodbus, sqlite3, httpx and psycopg never cross a package border.
"""

from __future__ import annotations


class SungrowError(Exception):
    """Something went wrong in sungrow_lib."""

    def __init__(self, message: str | None = None) -> None:
        summary = (type(self).__doc__ or type(self).__name__).splitlines()[0]
        super().__init__(message or summary)


class UsageError(SungrowError):
    """The call is wrong; correct it and try again."""


class ConfigurationError(UsageError):
    """A setting is missing or wrong.

    Attributes:
        variable: name of the environment variable (and key of the file) at fault, when one is.
    """

    def __init__(self, message: str | None = None, *, variable: str | None = None) -> None:
        super().__init__(message)
        self.variable = variable


class CaptureError(UsageError):
    """The capture file cannot be read."""


class UnknownFamilyError(UsageError):
    """The register family cannot be told from what was read; name it with --family sh|sg|battery|ihm."""


class DeviceError(SungrowError):
    """The device did not do what was asked.

    Attributes:
        was_asked: whether it was; not while the pause after a failure lasts.
    """

    def __init__(self, message: str | None = None, *, was_asked: bool = True) -> None:
        super().__init__(message)
        self.was_asked = was_asked


class DeviceUnreachableError(DeviceError, ConnectionError):
    """No connection to the device."""


class DeviceTimeoutError(DeviceError, TimeoutError):
    """The device did not answer in time."""


class DeviceBusyError(DeviceError):
    """Another program is reading this device.

    Attributes:
        process: its number; 0 where that is not known.
    """

    def __init__(self, message: str | None = None, *, process: int = 0) -> None:
        super().__init__(message)
        self.process = process


class RegisterRefusedError(DeviceError):
    """The device refused to serve these registers.

    Attributes:
        code: the Modbus exception code (0 is seen in the field although Modbus does not define it).
    """

    def __init__(self, message: str | None = None, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class DamagedReplyError(DeviceError):
    """The device's answer is not a valid Modbus frame."""


class SpoolError(SungrowError):
    """The spool could not do what was asked."""


class SpoolUnavailableError(SpoolError):
    """The spool cannot be opened or written."""


class NotASpoolError(SpoolUnavailableError, ConfigurationError):
    """The file named as the spool is some other file; it was left as it is."""


class SpoolFullError(SpoolError):
    """There is no room left for the spool."""


class SpoolCorruptError(SpoolError):
    """The spool file is damaged."""


class ServerError(SungrowError):
    """The server did not take the request."""


class ServerUnreachableError(ServerError, ConnectionError):
    """The server cannot be reached over a verified connection.

    Attributes:
        was_connected: whether there was such a connection, so that something may have been sent.
    """

    def __init__(self, message: str | None = None, *, was_connected: bool = True) -> None:
        super().__init__(message)
        self.was_connected = was_connected


class CredentialsRefusedError(ServerError):
    """The server refused the token.

    Attributes:
        status: 401 (no or bad token) or 403 (other device, or scope missing).
    """

    def __init__(self, message: str | None = None, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class RequestRefusedError(ServerError):
    """The server refused the request.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, message: str | None = None, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class ServerBusyError(ServerError):
    """The server asks to try again later.

    Attributes:
        status: 429, 503 or another 5xx.
        retry_after_s: seconds to wait, when the server named them.
    """

    def __init__(
        self, message: str | None = None, *, status: int, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class UnexpectedAnswerError(ServerError):
    """The answer does not belong to what was asked."""
