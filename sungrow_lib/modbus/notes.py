"""What a device was found to serve and to refuse, kept between runs so that nothing is refused twice."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Final, Self

from sungrow_lib.registers.identity import Identity
from sungrow_lib.registers.words import BLOCK_MAX, Block, Space

STATE_DIR_VARIABLE: Final = "SUNGROW_STATE_DIR"


def state_dir() -> Path:
    """Folder of the notes: ``SUNGROW_STATE_DIR``, else the user's state folder."""
    if named := os.environ.get(STATE_DIR_VARIABLE):
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "sungrow"


class DeviceNotes:
    """The experience with one unit, in a small file.

    Args:
        path: the file; None to keep nothing.
        fingerprint: which device and firmware the experience is with.
    """

    def __init__(self, path: Path | None = None, fingerprint: str = "") -> None:
        self.path = path
        self.answered: set[Block] = set()
        self.refused: dict[Block, int] = {}
        """Refused requests with their exception codes."""
        self._fingerprint = fingerprint

    @classmethod
    def load(cls, host: str, port: int, unit: int, identity: Identity) -> Self:
        """Read the notes on a unit; notes on another device at this address count for nothing."""
        place = re.sub(r"[^A-Za-z0-9._-]", "-", f"{host.lower()}-{port}-{unit}")
        fingerprint = f"{identity.family} {identity.type_code} {identity.serial} {identity.firmware}"
        notes = cls(state_dir() / f"device-{place}.json", fingerprint)
        try:
            assert notes.path is not None
            notes._fill(json.loads(notes.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            # Nothing there, or nothing usable: the device is asked afresh, which only takes longer.
            notes.forget()
        return notes

    def _fill(self, data: Any) -> None:
        if data["device"] != self._fingerprint:
            return
        self.answered = {_block(entry) for entry in data["answered"]}
        self.refused = {_block(entry): int(entry["code"]) for entry in data["refused"]}

    def forget(self) -> None:
        """Start afresh."""
        self.answered = set()
        self.refused = {}

    def add(self, block: Block, code: int | None = None) -> None:
        """Note that a request was served, or refused with ``code``, and write the file."""
        if code is None:
            self.answered.add(block)
        else:
            self.refused[block] = code
            self.save()

    def save(self) -> None:
        """Write the file whole, or leave the old one.

        A folder that cannot be written costs time at the next run and nothing now.
        """
        if self.path is None:
            return
        document = {
            "device": self._fingerprint,
            "answered": [_entry(block) for block in sorted(self.answered)],
            "refused": [{**_entry(block), "code": code} for block, code in sorted(self.refused.items())],
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = self.path.with_suffix(f".{os.getpid()}.tmp")
            draft.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            draft.replace(self.path)
        except OSError:
            self.path = None


def _entry(block: Block) -> dict[str, Any]:
    return {"space": block.space.name.lower(), "first": block.first, "count": block.count}


def _block(entry: Any) -> Block:
    block = Block(Space[entry["space"].upper()], int(entry["first"]), int(entry["count"]))
    if not (1 <= block.count <= BLOCK_MAX and block.first >= 1):
        raise ValueError("no block")
    return block
