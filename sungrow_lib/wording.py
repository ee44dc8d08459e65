"""What is wrong with a value, in words for people: what is allowed, not how it is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic_core import ErrorDetails

from sungrow_lib.sample import DEVICE_ID_PATTERN

_PLAIN: Final[Mapping[str, str]] = {
    "missing": "is missing",
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
}
_WITH_LIMIT: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "greater_than_equal": lambda limit: f"must be at least {limit['ge']:g}",
    "less_than_equal": lambda limit: f"must be at most {limit['le']:g}",
    "greater_than": lambda limit: f"must be more than {limit['gt']:g}",
    "less_than": lambda limit: f"must be less than {limit['lt']:g}",
    "string_too_long": lambda limit: f"must have at most {limit['max_length']} characters",
    "literal_error": lambda limit: f"must be {limit['expected']}",
    "enum": lambda limit: f"must be {limit['expected']}",
    "string_pattern_mismatch": lambda limit: (
        "must be 1 to 64 letters, digits, dots, hyphens or underscores"
        if limit["pattern"] == DEVICE_ID_PATTERN
        else f"must match {limit['pattern']}"
    ),
}


def plainly(error: ErrorDetails) -> str:
    """Say what is allowed where pydantic found something else."""
    kind = error["type"]
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _WITH_LIMIT:
        return _WITH_LIMIT[kind](error.get("ctx", {}))
    return error["msg"].removeprefix("Value error, ")


__all__ = ["plainly"]
