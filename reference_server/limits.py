"""How often one token or one address may ask, and who is asking behind a proxy."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from time import monotonic
from typing import Final, NamedTuple

from aiohttp import web

from reference_server.config import TrustedNetwork
from reference_server.problems import Problem, come_back
from reference_server.shared_table import OwnTable, Table

X_FORWARDED_FOR: Final = "X-Forwarded-For"
"""Header in which a proxy says whom it asks for."""
_MINUTE_S: Final = 60.0
_MOST_KEYS: Final = 50_000
_GOOD_FOR_S: Final = 600.0
_GOOD: Final = b"good "
_HOST_BITS: Final = 64
_BODIES: Final = 3
"""How many times more bodies are read than fresh batches, or batches of a backlog, are granted: both, and as
many again that turn out to be rubbish, or more than was granted."""


class Visitor(NamedTuple):
    """Where a request comes from.

    Attributes:
        address: of the client; of IPv6 the first half, as one household has all of the other.
        token: hash of the token it was sent with; empty without one.
        remote: the client's whole address, for the log.
    """

    address: str
    token: bytes
    remote: str = ""


class Allowance:
    """So many requests a minute for each key, in bursts of as many.

    Args:
        per_minute: how many; 0 for any number.
        table: where they are counted.
        name: tells its keys from those of other allowances in the same table.
    """

    def __init__(self, per_minute: int, table: Table | None = None, name: bytes = b"") -> None:
        self._step_s = _MINUTE_S / per_minute if per_minute else 0.0
        self._table = table or OwnTable()
        self._name = name

    def wait_s(self, key: bytes) -> float:
        """Seconds until the key may ask again, 0 when it may now."""
        if not self._step_s:
            return 0.0
        ahead = self._table.get(self._name + key) + self._step_s - monotonic()
        return max(0.0, ahead - _MINUTE_S)

    def take(self, key: bytes) -> None:
        """Count one request."""
        if self._step_s:
            self._table.push(self._name + key, monotonic(), self._step_s)


class Guard:
    """Refuses who asks too often, or guesses tokens.

    Fresh readings and a backlog count apart, so that a draining backlog makes no fresh reading wait. Which of
    them a batch is shows once it is read; so bodies count before they are read, too, and nobody makes the
    server read any number of them for nothing.

    Args:
        requests_per_minute: for each token, and for each address; 0 for any number. As many batches of a
            backlog are granted beside them.
        failed_logins_per_minute: for each address; 0 for any number.
        table: where all worker processes of this host count together; None for a process that is alone.
    """

    def __init__(
        self, requests_per_minute: int, failed_logins_per_minute: int, table: Table | None = None
    ) -> None:
        self._requests = Allowance(requests_per_minute, table, b"request ")
        self._backlog = Allowance(requests_per_minute, table, b"backlog ")
        self._bodies = Allowance(_BODIES * requests_per_minute, table, b"body ")
        self._failures = Allowance(failed_logins_per_minute, table, b"failure ")
        self._is_limited = bool(requests_per_minute)
        self._good: dict[bytes, float] = {}
        self._good_anywhere = table

    def before_login(self, visitor: Visitor) -> None:
        """Let a token be tried; one that was good a while ago always is, whoever guesses beside it.

        Raises:
            Problem: 429, too many wrong tokens came from this address.
        """
        if self._good.get(visitor.token, 0.0) >= monotonic():
            return
        wait_s = self._failures.wait_s(visitor.address.encode())
        if wait_s and not self._was_good_elsewhere(visitor.token):
            raise _too_many("too many wrong tokens from this address", wait_s)

    def failed(self, visitor: Visitor) -> None:
        """Count a wrong token."""
        self._failures.take(visitor.address.encode())

    def logged_in(self, visitor: Visitor) -> None:
        """Remember a token that is good, for all processes."""
        now = monotonic()
        if self._good.get(visitor.token, 0.0) > now + _GOOD_FOR_S / 2:
            return
        if len(self._good) >= _MOST_KEYS:
            self._good.clear()
        self._good[visitor.token] = now + _GOOD_FOR_S
        if self._good_anywhere is not None and self._good_anywhere.get(_GOOD + visitor.token) <= now:
            self._good_anywhere.push(_GOOD + visitor.token, now, 2 * _GOOD_FOR_S)

    def _was_good_elsewhere(self, token: bytes) -> bool:
        return self._good_anywhere is not None and self._good_anywhere.get(_GOOD + token) > monotonic()

    def request(self, visitor: Visitor) -> None:
        """Count a request.

        Raises:
            Problem: 429, this token or address asks too often.
        """
        if self._is_limited:
            _count(self._requests, visitor)

    def body(self, visitor: Visitor) -> None:
        """Count a batch that is about to be read.

        Raises:
            Problem: 429, reading it would be for nothing, or too many were read for nothing.
        """
        if not self._is_limited:
            return
        wait_s = min(_wait_s(self._requests, visitor), _wait_s(self._backlog, visitor))
        if wait_s:
            raise _too_many("too many requests", wait_s)
        _count(self._bodies, visitor)

    def batch(self, visitor: Visitor, *, is_backlog: bool) -> None:
        """Count a batch that was read, before it is stored.

        Raises:
            Problem: 429, too many of its kind.
        """
        if self._is_limited:
            _count(self._backlog if is_backlog else self._requests, visitor)


def _wait_s(allowance: Allowance, visitor: Visitor) -> float:
    return max(allowance.wait_s(visitor.token), allowance.wait_s(visitor.address.encode()))


def _count(allowance: Allowance, visitor: Visitor) -> None:
    wait_s = _wait_s(allowance, visitor)
    if wait_s:
        raise _too_many("too many requests", wait_s)
    allowance.take(visitor.token)
    allowance.take(visitor.address.encode())


def _too_many(detail: str, wait_s: float) -> Problem:
    pause_s = come_back(wait_s)
    return Problem(429, f"{detail}; come back in {pause_s} s", headers={"Retry-After": str(pause_s)})


def client_address(request: web.BaseRequest, trusted: Sequence[TrustedNetwork]) -> str:
    """Return who asks: the last address that no trusted proxy has, going back the way the request came."""
    address = request.remote or ""
    if not trusted:
        return address
    hops = ",".join(request.headers.getall(X_FORWARDED_FOR, [])).split(",")
    while hops and _is_trusted(address, trusted):
        hop = hops.pop().strip()
        if not _is_address(hop):
            break
        address = hop
    return address


@lru_cache(4096)
def household(address: str) -> str:
    """Return what is counted: of IPv6 the network of 64 bits, as who has one of its addresses has all."""
    if ":" not in address:
        return address
    number = ipaddress.IPv6Address(address)
    if number.ipv4_mapped:
        return str(number.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(number) >> _HOST_BITS << _HOST_BITS, _HOST_BITS)))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_trusted(address: str, trusted: Sequence[TrustedNetwork]) -> bool:
    if not address:  # a Unix socket: only programs on this machine reach it
        return True
    return _is_address(address) and any(ipaddress.ip_address(address) in network for network in trusted)
