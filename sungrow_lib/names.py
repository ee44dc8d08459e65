"""Names of hosts, as name servers know them."""

from __future__ import annotations

from typing import Final

_LABEL: Final = 63
"""Most characters between two dots of a host's name."""


def dns_name(host: str) -> str:
    """Return a host's name in the letters that name servers know.

    Raises:
        ValueError: it can be no host's; says why.
    """
    if not host.isprintable() or " " in host:
        raise ValueError("holds characters that no name has")
    if host.isascii() and all(0 < len(label) <= _LABEL for label in host.removesuffix(".").split(".")):
        return host  # without the tables for the letters of the world, which take 0.7 MB
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError(
            f"is no name: between two dots must be 1 to {_LABEL} characters, of those that names may have"
        ) from None
