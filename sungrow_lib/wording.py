"""What is wrong with a value, in words for people: what is allowed, not how it is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sungrow_lib.sample import DEVICE_ID_PATTERN, TEXT_PATTERN

MISSING: Final = "is missing"
A_DEVICE_ID: Final = "must be 1 to 64 letters, digits, dots, hyphens or underscores"

_PLAIN: Final[Mapping[str, str]] = {
    "missing": MISSING,
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "finite_number": "must be a number that has an end, not nan or inf",
    "string_type": "must be text, in quotation marks",
    "string_too_short": "must not be empty",
    "string_unicode": "must be text of whole characters",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
}
_PATTERNS: Final[Mapping[str, str]] = {
    DEVICE_ID_PATTERN: A_DEVICE_ID,
    TEXT_PATTERN: "must be text without control characters, and not empty",
}
_WITH_LIMIT: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "greater_than_equal": lambda limit: f"must be at least {_number(limit['ge'])}",
    "less_than_equal": lambda limit: f"must be at most {_number(limit['le'])}",
    "greater_than": lambda limit: f"must be more than {_number(limit['gt'])}",
    "less_than": lambda limit: f"must be less than {_number(limit['lt'])}",
    "string_too_long": lambda limit: f"must have at most {limit['max_length']} characters",
    "literal_error": lambda limit: f"must be {limit['expected']}",
    "enum": lambda limit: f"must be {limit['expected']}",
    "too_long": lambda limit: f"must have at most {limit['max_length']} entries",
    "string_pattern_mismatch": lambda limit: (
        _PATTERNS.get(limit["pattern"]) or f"must match {limit['pattern']}"
    ),
}


def shown(text: str, most: int) -> str:
    """Return somebody else's words as one line of at most so many characters, to be logged, kept and shown.

    A control character would write elsewhere on a terminal, or begin a line of its own.
    """
    return "".join(char if char.isprintable() else " " for char in text[:most])


def plainly(error: ErrorDetails) -> str:
    """Say what is allowed where pydantic found something else."""
    kind = error["type"]
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _WITH_LIMIT:
        return _WITH_LIMIT[kind](error.get("ctx", {}))
    said = error["msg"].removeprefix("Value error, ")
    return said.removeprefix("ts ") if kind.startswith("ts_") else said  # whatever the field is called


def place_of(error: ErrorDetails) -> str:
    """Name the field an error is of."""
    return ".".join(map(str, error["loc"]))


def first_fault(error: ValidationError) -> str:
    """Say in one line what is wrong first, and where."""
    fault = error.errors(include_url=False, include_input=False)[0]
    return ": ".join(filter(None, (place_of(fault), plainly(fault))))


def _number(limit: float) -> str:
    """Write a limit with all its digits."""
    return str(int(limit)) if limit == int(limit) else str(limit)


__all__ = ["A_DEVICE_ID", "MISSING", "first_fault", "place_of", "plainly", "shown"]
