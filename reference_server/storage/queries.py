"""Loads every SQL statement the server runs from ``db/queries/*.sql``, each under its name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Final

from reference_server.resources import db_folder
from reference_server.storage.codec import COLUMNS
from reference_server.storage.schema_sql import COUNTERS, POWER_OF

_GENERATED: Final = re.compile(r"-- (?:generated: \w+|end of generated)\n")
_NAMED: Final = re.compile(r"^-- name: (\w+)\n-- (.+)\n", re.MULTILINE)
_INCLUDED: Final = re.compile(r"^\{(\w+)\}$", re.MULTILINE)


_KNOWN: Final = "{known_readings}"
_COUNTERS: Final = frozenset(counter.name for counter in COUNTERS)
_OF_A_COUNTER: Final = re.compile(rf"\b({'|'.join(_COUNTERS)})_")


@cache
def statements() -> dict[str, str]:
    """All named statements, by name.

    In their text ``{columns}`` stands for the columns of `samples`, and the name of another statement, alone
    in braces on a line, for that statement. One that compares counters comes twice: as ``NAME_from_known`` it
    also takes values from long before, which costs time and is rarely needed.

    Raises:
        ValueError: two statements share a name.
    """
    found: dict[str, str] = {}
    for path in sorted((db_folder() / "queries").glob("*.sql")):
        parts = _NAMED.split(path.read_text("utf-8"))[1:]
        for name, _summary, sql in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            if name in found:
                raise ValueError(f"{path.name}: {name} is named twice")
            found[name] = sql.strip().rstrip(";").replace("{columns}", ", ".join(COLUMNS))
    included = {name: _INCLUDED.sub(lambda match: found[match[1]], sql) for name, sql in found.items()}
    known = {
        f"{name}_from_known": sql
        for name, sql in included.items()
        if _KNOWN in sql and _KNOWN not in found[name]
    }
    return {name: sql.replace(_KNOWN, "") for name, sql in included.items()} | {
        name: sql.replace(_KNOWN, found["known_readings"]) for name, sql in known.items()
    }


def query(name: str) -> bytes:
    """Return the statement called ``name``, as psycopg takes one that is not a literal.

    Raises:
        KeyError: there is none of this name.
    """
    return statements()[name].encode()


def array_text(items: Iterable[str]) -> str:
    """Return an array as PostgreSQL reads it, of items that need no quotes.

    A long one takes less time as text: of a list, the driver looks at each item.
    """
    return f"{{{','.join(items)}}}"


@lru_cache(maxsize=256)
def with_columns(name: str, columns: tuple[str, ...]) -> bytes:
    """Return a statement in which ``{present}`` stands for these columns.

    Raises:
        KeyError: there is none of this name.
    """
    return query(name).replace(b"{present}", ", ".join(columns).encode())


@cache
def of_counter(name: str, counter: str) -> bytes:
    """Return a statement in which ``{counter}`` stands for this one, ``{power}`` for what stands in for it.

    Raises:
        KeyError: there is none of this name.
    """
    return (
        query(name)
        .replace(b"{counter}", counter.encode())
        .replace(b"{power}", POWER_OF.get(counter, "").encode())
    )


@lru_cache(maxsize=512)
def merging(name: str, columns: frozenset[str]) -> tuple[bytes, tuple[str, ...]]:
    """Return a statement that merges rollups, with only these of its many columns, and their names in order.

    What it works out of counters on the way is left out where no column is of one. Else all is there: one
    counter that lacks its value before has all compared with what is known of earlier ones.

    Raises:
        KeyError: there is none of this name.
    """
    *head, lines, rest = _GENERATED.split(statements()[name])
    chosen = {_alias(line): line.rstrip(",") for line in lines.splitlines() if _alias(line) in columns}
    if not has_counters(columns):
        head[1::2] = map(_without_counters, head[1::2])
    lines = ",\n".join(chosen.values())
    return f"{''.join(head)}{lines}\n{rest}".encode(), tuple(chosen)


def has_counters(columns: Iterable[str]) -> bool:
    """Whether some of these columns are of counters."""
    return any(column.rpartition("_")[0] in _COUNTERS for column in columns)


def _without_counters(section: str) -> str:
    return "".join(line for line in section.splitlines(keepends=True) if not _OF_A_COUNTER.search(line))


def _alias(line: str) -> str:
    return line.rpartition(" AS ")[2].strip(" ,")
