"""Whether `DATABASE_URL` is an address at all, before anything is opened."""

from __future__ import annotations

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from sungrow_lib.errors import ConfigurationError


def require_address(url: str) -> None:
    """Do nothing when libpq understands ``url``.

    Raises:
        ConfigurationError: it does not; the message never shows the address, which may hold a password.
    """
    try:
        conninfo_to_dict(url)
    except ProgrammingError:
        raise ConfigurationError(
            "DATABASE_URL: is not an address of PostgreSQL; write postgresql://USER@HOST/DATABASE",
            variable="DATABASE_URL",
        ) from None
