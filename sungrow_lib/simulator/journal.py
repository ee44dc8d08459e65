"""What a simulator answered, line by line: the other side's proof in an end-to-end count."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sungrow_lib.errors import ConfigurationError
from sungrow_lib.registers.words import Block, Space
from sungrow_lib.sample import whole_milliseconds

_TAIL_BYTES: Final = 4096
"""More than the longest line (125 words)."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One answered read.

    Attributes:
        number: running number, from 1, never repeated in a file.
        answered_at: aware UTC time, whole milliseconds.
        unit: Modbus unit id.
        block: what was asked for.
        words: what was answered.
        fault: name of the fault that spoiled the answer on its way, if one did.
    """

    number: int
    answered_at: datetime
    unit: int
    block: Block
    words: tuple[int, ...]
    fault: str | None = None

    def to_json(self) -> str:
        """Return one line of JSON, without the line feed."""
        stamp = self.answered_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry: dict[str, object] = {
            "n": self.number,
            "ts": stamp,
            "unit": self.unit,
            "space": self.block.space.name.lower(),
            "first": self.block.first,
            "count": self.block.count,
            "words": list(self.words),
        }
        if self.fault is not None:
            entry["fault"] = self.fault
        return json.dumps(entry, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> JournalEntry:
        """Read one line.

        Raises:
            ValueError: it is not an entry.
        """
        try:
            data = json.loads(line)
            block = Block(Space[data["space"].upper()], data["first"], data["count"])
            stamp = datetime.fromisoformat(data["ts"])
            return cls(data["n"], stamp, data["unit"], block, tuple(data["words"]), data.get("fault"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a journal entry: {line!r}") from error


class Journal:
    """An append-only file with one line of JSON per answered read.

    Each line is one write, made before the answer leaves: a killed simulator has never answered more than
    its journal says. A file that exists is continued; a last line cut off by a crash is closed off.

    Args:
        path: the file.

    Raises:
        ConfigurationError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigurationError(f"cannot write the journal {path}: {error.strerror}") from None
        self._number = self._continue()

    def _continue(self) -> int:
        size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        if tail and not tail.endswith(b"\n"):
            os.write(self._fd, b"\n")
        for line in reversed(tail.splitlines()):
            try:
                return JournalEntry.from_json(line.decode()).number
            except ValueError:
                continue
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def record(self, unit: int, block: Block, words: tuple[int, ...], fault: str | None = None) -> None:
        """Append one answered read, dated now."""
        self._number += 1
        now = whole_milliseconds(datetime.now(UTC))
        entry = JournalEntry(self._number, now, unit, block, words, fault)
        os.write(self._fd, entry.to_json().encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_journal(path: Path) -> Iterator[JournalEntry]:
    """Yield the entries of a journal, skipping a line that a crash cut off."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            try:
                yield JournalEntry.from_json(line)
            except ValueError:
                continue
