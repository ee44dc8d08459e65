"""A private certificate authority made on the spot, so that a demo speaks HTTPS like everyone else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sungrow_lib.errors import ConfigurationError

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
"""Names of this machine for itself."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files of a server and of who vouches for it.

    Attributes:
        ca: certificate of the authority; clients are told to trust it.
        cert: the server's certificate.
        key: the server's private key, 0600.
    """

    ca: Path
    cert: Path
    key: Path


def make_certificates(folder: str | os.PathLike[str], names: Sequence[str] = LOCAL_NAMES) -> CertificateFiles:
    """Make an authority and one server certificate; the authority's own key is forgotten at once.

    Args:
        folder: where to put the files; made, 0700, when it is missing.
        names: host names and IP addresses the server answers to.

    Raises:
        ConfigurationError: the extra `demo` is not installed, or the folder cannot be written.
    """
    try:
        import trustme  # noqa: PLC0415  only demo and tests have it
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "the package trustme is not installed: pip install 'sungrow-lib[demo]'"
        ) from error
    target = Path(folder).absolute()
    files = CertificateFiles(target / "ca.pem", target / "server.pem", target / "server.key")
    authority = trustme.CA(organization_name="sungrow_lib demo, valid on this machine only")
    server = authority.issue_cert(*names)
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(files.ca, authority.cert_pem.bytes())
        _write(files.cert, b"".join(blob.bytes() for blob in server.cert_chain_pems))
        _write(files.key, server.private_key_pem.bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot write the certificates to {target}: {error.strerror}") from error
    return files


def _write(path: Path, content: bytes) -> None:
    """Replace ``path`` by a file that only its owner has ever been able to read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
