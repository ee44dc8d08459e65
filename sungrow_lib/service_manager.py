"""What systemd wants to know of a service (`Type=notify`), said over its socket; nothing without one."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import Final

import anyio

_LOG: Final = logging.getLogger(__name__)
_STATUS_S: Final = 10.0
_PETS_PER_TIMEOUT: Final = 3


class ServiceManager:
    """Speaks the notify protocol: READY, STATUS, WATCHDOG and STOPPING.

    Args:
        environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` as systemd sets them.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract socket.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = _watchdog_s(environment)

    def say(self, **state: str) -> None:
        """Tell the manager; that nobody listens is no error of ours."""
        if not self._address:
            return
        message = "\n".join(f"{key}={value}" for key, value in state.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as outlet:
                outlet.settimeout(0)
                outlet.sendto(message.encode(), self._address)
        except OSError as error:
            _LOG.debug("the service manager does not listen", extra={"reason": error.strerror})

    async def run(self, status: Callable[[], str], stuck: Callable[[], str | None]) -> None:
        """Say that all is well until cancelled.

        Args:
            status: one line for `systemctl status`.
            stuck: what hangs, in words; then the watchdog is no longer told that all is well, so that the
                manager starts the service anew.
        """
        if not self._address:
            return
        pause_s = min(_STATUS_S, (self.watchdog_s or _STATUS_S) / _PETS_PER_TIMEOUT)
        while True:
            what = stuck()
            if what is None:
                self.say(WATCHDOG="1", STATUS=status())
            else:
                _LOG.error("stuck; the watchdog is no longer told that all is well", extra={"what": what})
            await anyio.sleep(pause_s)


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Seconds within which the manager wants to hear of us; None when it does not."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(environment["WATCHDOG_USEC"]) / 1e6 or None
    except (KeyError, ValueError):
        return None
