"""What the daemon remembers of its spool in a file beside it, to notice that it got another edge's."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from sungrow_lib.spool import SpoolOwner

_LOG: Final = logging.getLogger("sungrow_edge")


class OwnerFile:
    """The file, and what it says.

    Args:
        spool_path: the spool; the file has its name with `.owner.json`.

    Attributes:
        owner: which spool it is; None where nothing is remembered.
        damage: what was found wrong with it, and not put right yet.
    """

    def __init__(self, spool_path: Path) -> None:
        self._spool = Path(os.path.realpath(spool_path))
        self._path = Path(f"{self._spool}.owner.json")
        self.owner: SpoolOwner | None = None
        self.damage: str | None = None
        self._is_written = True
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # then the spool is believed
            said = json.loads(self._path.read_text(encoding="utf-8"))
            damage = said.get("damage")
            if damage is not None and damage["inode"] == self._inode():
                self.damage = str(damage["reason"])
            spool_id = said.get("spool_id")
            self.owner = SpoolOwner(str(said["edge_id"]), None if spool_id is None else str(spool_id))

    def remember(self, owner: SpoolOwner) -> None:
        """Write down which spool it is, where that is new."""
        if owner != self.owner or not (self._is_written and self._is_there()):
            self.owner = owner
            self._write()

    def note_damage(self, reason: str | None) -> None:
        """Write down that the spool is damaged, or no longer: the daemon may end before it is recovered."""
        if reason != self.damage or not self._is_written:
            self.damage = reason
            self._write()

    def _write(self) -> None:
        """Write all of it; a disk that does not take it is tried again with the next change."""
        known = {} if self.owner is None else asdict(self.owner)
        draft = self._path.with_name(f"{self._path.name}.new")
        try:
            damage = None if self.damage is None else {"reason": self.damage, "inode": self._inode()}
            with draft.open("w", encoding="utf-8") as file:
                json.dump(known | {"damage": damage}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            self._sync_folder()
            self._is_written = True
        except OSError as error:
            self._is_written = False
            _LOG.debug("what is known of the spool is not written down", extra={"reason": error.strerror})

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _is_there(self) -> bool:
        try:
            return self._path.exists()
        except OSError:  # nobody can tell
            return True

    def _inode(self) -> int | None:
        """What tells the damaged file from one that somebody put into its place."""
        try:
            return self._spool.stat().st_ino
        except OSError:
            return None
