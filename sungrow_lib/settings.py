"""Settings from one TOML file and the environment, checked at start, with errors that name the variable.

The environment wins over the file. A key of the file is the variable's name in lower case, so
``SERVER_URL`` and ``server_url = "..."`` are the same setting.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from sungrow_lib.errors import ConfigurationError
from sungrow_lib.wording import plainly

_NAMES: Final[Mapping[str, str]] = {
    "missing": "is required; set it in the environment or in the configuration file",
    "extra_forbidden": "is not a setting; see the configuration reference for the names",
    "tuple_type": "must be a list; each table of one has two brackets, such as [[devices]]",
}
_ALTERNATIVE: Final = re.compile(r"int|float|str|bool|(literal|constrained|function-).*")
"""How pydantic names the alternatives of a setting; none is part of a setting's name."""


class AppSettings(BaseModel):
    """Base of an app's settings and of the tables in them.

    They are frozen, and unknown keys of the file are errors, not typos in waiting.

    A variable of the environment comes in as text, which pydantic reads as the setting's kind; a setting that
    is a list says itself how its text is to be read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _take_what_can_be_meant(cls, value: object, info: ValidationInfo) -> object:
        """`true` of a TOML file would count as 1; as text, it is none. And no text may hold a NUL."""
        if isinstance(value, str) and "\0" in value:  # no path, name or address may
            raise ValueError("must not hold the character NUL (\\u0000)")
        field = cls.model_fields.get(info.field_name or "")
        if isinstance(value, bool) and field is not None and _is_number(field.annotation):
            return str(value).lower()
        return value


def _is_number(annotation: object) -> bool:
    return annotation is int or annotation is float or any(map(_is_number, get_args(annotation)))


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
        return kind(**values | _environment(kind))
    except ValidationError as error:
        raise _explained(error.errors(include_input=False, include_url=False), file) from None


def _environment(kind: type[AppSettings]) -> dict[str, str]:
    """What the environment says of the settings; a variable that is empty says nothing."""
    said = {name.lower(): value for name, value in os.environ.items() if value}
    return {name: said[name] for name in kind.model_fields if name in said}


def _explained(errors: Sequence[ErrorDetails], file: Path | None) -> ConfigurationError:
    # A name that is misspelt goes first: what is missing then is most likely what was meant.
    first = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    variable = _variable(first)
    # A setting of several kinds, such as a number or "auto", has one error for each of them.
    advice = " or ".join(_advice(error) for error in errors if _variable(error) == variable)
    prefix = f"{variable}: " if variable else ""  # what concerns several settings names them itself
    return ConfigurationError(f"{prefix}{advice}{_source(file)}", variable=variable)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration {file}: {error.strerror}") from None
    except ValueError as error:  # bytes that are no text and numbers of thousands of digits, too
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{file} is not valid TOML: it is nested too deeply") from None


def _variable(error: ErrorDetails) -> str | None:
    """Name a setting as its user writes it: ``SERVER_URL``, or ``devices[2].host`` inside a table."""
    if not error["loc"]:
        return None
    head, *rest = error["loc"]
    name = str(head)
    rest = [part for part in rest if isinstance(part, int) or not _ALTERNATIVE.fullmatch(part)]
    if not rest:
        return name.upper()
    return name + "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in rest)


def _advice(error: ErrorDetails) -> str:
    return _NAMES.get(error["type"]) or plainly(error)


def _source(file: Path | None) -> str:
    return f" (environment or {file})" if file is not None else ""


__all__ = ["AppSettings", "load_settings"]
