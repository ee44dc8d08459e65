"""Whom to trust: the authorities that vouch for the server's certificate."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import Final

import certifi

from sungrow_lib.errors import ConfigurationError

_HASHED: Final = re.compile(r"[0-9a-f]{8}\.\d+", re.ASCII)
_PUBLIC: Final = 80
"""A folder of so many authorities has the public ones: there are more than a hundred."""


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Make what verifies a server: by an authority of one's own, else by the public ones and this machine's.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    if ca_file is None:
        return _public()
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except ssl.SSLError:
        raise ConfigurationError(f"CA_FILE {ca_file} holds no certificate in PEM format.") from None
    except OSError as error:
        raise ConfigurationError(f"CA_FILE {ca_file} cannot be read: {error.strerror}.") from None


def _public() -> ssl.SSLContext:
    folder = _hashed_folder()
    if folder is not None:  # the one that is needed is looked up there; all together take 2 to 4 MB of memory
        return ssl.create_default_context(capath=folder)
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context


def add_public(context: ssl.SSLContext) -> None:
    """Load all public authorities: this machine's may be older than a server's certificate."""
    context.load_verify_locations(cafile=certifi.where())
    context.load_default_certs()


def _hashed_folder() -> str | None:
    """Return this machine's folder of authorities by their hash, if it has the public ones."""
    paths = ssl.get_default_verify_paths()
    if not paths.capath or paths.openssl_cafile_env in os.environ:
        return None
    try:
        count = sum(
            bool(_HASHED.fullmatch(file.name)) and file.is_file() for file in Path(paths.capath).iterdir()
        )
    except OSError:  # whatever ails it
        return None
    return paths.capath if count >= _PUBLIC else None
