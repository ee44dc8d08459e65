"""Who asks, and what they may: bearer tokens with scopes and devices.

A token is never stored and never logged; the database and the settings hold, or become, SHA-256 hashes. They
are looked up by their hash: how long that takes tells nothing of a token.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from reference_server.problems import Problem
from reference_server.storage.database import Database
from reference_server.storage.errors import StorageError
from reference_server.tokens import Scope, token_hash

_CACHE_S: Final = 0.8
"""s; a revoked token is refused within a second."""
_CACHE_LIMIT: Final = 10_000
_NOTHING: Final = (0.0, None)
_UNAUTHORIZED: Final = {"WWW-Authenticate": 'Bearer realm="sungrow"'}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        scopes: what they may do.
        devices: which devices they may touch, None for every one.
    """

    scopes: frozenset[str]
    devices: frozenset[str] | None

    def may_touch(self, device_id: str) -> bool:
        """Whether this device is theirs."""
        return self.devices is None or device_id in self.devices


def bearer_hash(authorization: str | None) -> bytes | None:
    """Return the hash of the token an `Authorization` header carries, None when it carries none."""
    if authorization is None:
        return None
    scheme, _, rest = authorization.partition(" ")
    token = rest.strip()
    return token_hash(token) if token and scheme.lower() == "bearer" else None


class Authenticator:
    """Tells who sends a request.

    Args:
        database: holds the tokens made with `sungrow-server token create`.
        device_tokens: tokens known without it, with the devices they may touch.
    """

    def __init__(self, database: Database, device_tokens: Mapping[str, frozenset[str]]) -> None:
        self._database = database
        scopes = frozenset({Scope.INGEST.value, Scope.READ.value})
        self._fixed = {token_hash(t): Principal(scopes, devices) for t, devices in device_tokens.items()}
        self._cache: dict[bytes, tuple[float, Principal | None]] = {}

    def remembered(self, hashed: bytes) -> Principal | None:
        """Return who had the token with this hash a moment ago; None when that has to be looked up."""
        until, principal = self._cache.get(hashed, _NOTHING)
        return principal if monotonic() < until else None

    async def principal(self, hashed: bytes) -> Principal:
        """Return who has the token with this hash.

        Args:
            hashed: as :func:`bearer_hash` says it; empty when no token was sent.

        Raises:
            Problem: 401, no or bad token.
            StorageUnavailableError: the database must be asked and cannot.
        """
        if not hashed:
            raise Problem(401, "send the header Authorization: Bearer <token>", headers=_UNAUTHORIZED)
        until, found = self._cache.get(hashed, _NOTHING)
        if monotonic() >= until:
            found = await self._look_up(hashed)
        if found is None:
            raise Problem(401, "this token is unknown, expired or revoked", headers=_UNAUTHORIZED)
        return found

    async def still_valid(self, hashes: Collection[bytes]) -> frozenset[bytes]:
        """Those of the tokens, by hash, that are still good; asks the database whatever is remembered.

        Raises:
            StorageError: the database must be asked and cannot.
        """
        fixed = frozenset(hashed for hashed in hashes if hashed in self._fixed)
        stored = [hashed for hashed in hashes if hashed not in fixed]
        if not stored:
            return fixed
        return fixed | {hashed for (hashed,) in await self._database.rows("valid_tokens", hashes=stored)}

    async def _look_up(self, hashed: bytes) -> Principal | None:
        asked_at = monotonic()
        found = self._fixed.get(hashed) or await self._stored(hashed)
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache.clear()
        self._cache[hashed] = asked_at + _CACHE_S, found
        return found

    async def _stored(self, hashed: bytes) -> Principal | None:
        for token, known, scopes, devices, expires_at, revoked_at in await self._database.rows(
            "find_token", hash=hashed
        ):
            expired = expires_at is not None and expires_at <= datetime.now(UTC)
            if hmac.compare_digest(known, hashed) and revoked_at is None and not expired:
                with suppress(StorageError):  # a database that may only be read answers readers all the same
                    await self._database.rows("note_token_use", token=token)
                return Principal(frozenset(scopes), None if devices is None else frozenset(devices))
        return None
