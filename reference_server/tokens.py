"""Tokens as they are made, and what they may be used for."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

TOKEN_PREFIX: Final = "sgw_"  # noqa: S105 - lets secret scanners recognise a token
_SHOWN: Final = len(TOKEN_PREFIX) + 6


class Scope(StrEnum):
    """What a token may be used for."""

    INGEST = "ingest"
    READ = "read"
    CONTROL = "control"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made.

    Attributes:
        secret: the token; shown once.
        prefix: what people recognise it by.
        hash: its SHA-256.
    """

    secret: str
    prefix: str
    hash: bytes

    @classmethod
    def make(cls) -> NewToken:
        """Make one with 256 random bits."""
        secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
        return cls(secret, secret[:_SHOWN], token_hash(secret))


def token_hash(token: str) -> bytes:
    """Return the SHA-256 of a token: random bits need no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
