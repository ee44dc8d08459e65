"""Settings from one TOML file and the environment, checked at start, with errors that name the variable.

The environment wins over the file. A key of the file is the variable's name in lower case, so
``SERVER_URL`` and ``server_url = "..."`` are the same setting.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from sungrow_lib.errors import ConfigurationError


class AppSettings(BaseSettings):
    """Base of an app's settings: frozen, and unknown keys of the file are errors, not typos in waiting."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_ignore_empty=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose content comes in as init arguments."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


_Settings = TypeVar("_Settings", bound=AppSettings)


def load_settings(kind: type[_Settings], file: Path | None = None) -> _Settings:
    """Read and check the settings of an app.

    Args:
        kind: the app's settings class.
        file: its TOML file, when there is one.

    Raises:
        ConfigurationError: the file cannot be read, or a setting is missing or wrong; the message names
            the variable and says what is expected, never the value given (it may be a secret).
    """
    values = _read_toml(file) if file is not None else {}
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ConfigurationError(
            f"{_variable(first)}: {_advice(first)}{_source(file)}", variable=_variable(first)
        ) from None
    except ValueError as error:  # a list or table given in the environment is not JSON
        raise ConfigurationError(f"{error}{_source(file)}") from None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from None


def _variable(error: ErrorDetails) -> str:
    """Name a setting as its user writes it: ``SERVER_URL``, or ``devices[2].host`` inside a table."""
    head, *rest = error["loc"] or ("settings",)
    name = str(head)
    if not rest:
        return name.upper()
    return name + "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in rest)


def _advice(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "is required; set it in the environment or in the configuration file"
    if error["type"] == "extra_forbidden":
        return "is not a setting; see the configuration reference for the names"
    return error["msg"].removeprefix("Value error, ")


def _source(file: Path | None) -> str:
    return f" (environment or {file})" if file is not None else ""


__all__ = ["AppSettings", "load_settings"]
