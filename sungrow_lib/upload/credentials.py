"""The token, from the settings or from a file that may be replaced at any time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import anyio

from sungrow_lib.errors import ConfigurationError
from sungrow_lib.upload.settings import UploadSettings, check_token

_LOG: Final = logging.getLogger(__name__)


class TokenSource:
    """Knows the token in force; never shows it.

    Args:
        settings: hold the token or name its file.
    """

    def __init__(self, settings: UploadSettings) -> None:
        self._file: Path | None = settings.token_file
        self._token = settings.token
        self._is_lost = False
        self.version = 0
        """Grows with every other token; so a refusal is known to be of this one or of an earlier one."""

    async def current(self) -> str:
        """Return the token, reading its file the first time.

        Raises:
            ConfigurationError: there is none yet, with the reason.
        """
        if self._token is None:
            token = await self._read()
            self._is_lost = False
            if self._token is None:  # else it was refreshed meanwhile
                self._token = token
                self.version += 1  # another than none: who waits for one is to see that it is there
        return self._token

    async def refresh(self) -> None:
        """Read the file again. When that fails, the token stays what it was."""
        if self._file is None:
            return
        try:
            token = await self._read()
        except ConfigurationError as error:
            if not self._is_lost and self._token is not None:
                _LOG.warning(
                    "the token file cannot be used; trying the last token", extra={"reason": str(error)}
                )
            self._is_lost = True
            return
        self._is_lost = False
        if token != self._token:
            self._token = token
            self.version += 1

    async def _read(self) -> str:
        assert self._file is not None
        try:
            token = (await anyio.Path(self._file).read_text(encoding="ascii")).strip()
        except OSError as error:
            raise ConfigurationError(
                f"DEVICE_TOKEN_FILE {self._file} cannot be read: {error.strerror}."
            ) from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"DEVICE_TOKEN_FILE {self._file} holds no token.") from None
        try:
            check_token(token)
        except ConfigurationError as error:
            raise ConfigurationError(f"DEVICE_TOKEN_FILE {self._file}: {error}") from None
        return token
