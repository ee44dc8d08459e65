"""The token, from the settings or from a file that may be replaced at any time."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import anyio

from sungrow_lib.errors import ConfigurationError
from sungrow_lib.upload.settings import UploadSettings, check_token


class TokenSource:
    """Knows the token in force; never shows it.

    Args:
        settings: hold the token or name its file.
    """

    def __init__(self, settings: UploadSettings) -> None:
        self._file: Path | None = settings.token_file
        self._token = settings.token
        self.version = 0
        """Grows with every other token; so a refusal is known to be of this one or of an earlier one."""

    async def current(self) -> str:
        """Return the token, reading its file the first time.

        Raises:
            ConfigurationError: there is none yet, with the reason.
        """
        if self._token is None:
            self._token = await self._read()
        return self._token

    async def refresh(self) -> None:
        """Read the file again. When that fails, the token stays what it was."""
        if self._file is None:
            return
        with suppress(ConfigurationError):
            token = await self._read()
            if token != self._token:
                self._token = token
                self.version += 1

    async def _read(self) -> str:
        assert self._file is not None
        try:
            token = (await anyio.Path(self._file).read_text(encoding="ascii")).strip()
        except OSError as error:
            raise ConfigurationError(f"token_file {self._file} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"token_file {self._file} holds something other than a token.") from None
        check_token(token)
        return token
