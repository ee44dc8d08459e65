"""What the daemon remembers of its spool in a file beside it, to notice that it got another edge's."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sungrow_lib.errors import SpoolUnavailableError
from sungrow_lib.spool import SpoolOwner
from sungrow_lib.spool.disk import is_setting, sync

_LOG: Final = logging.getLogger("sungrow_edge")
_SUM: Final = "sha256"
_KEYS: Final = frozenset({"edge_id", "spool_id", "damage", _SUM})


class OwnerFile:
    """The file, and what it says, once it was read.

    Args:
        spool_path: the spool; the file has its name with `.owner.json`.

    Attributes:
        folder: where the spool is, which a link may say is elsewhere.
        owner: which spool it is; None where nothing is remembered.
        damage: what was found wrong with it, and not put right yet.
    """

    def __init__(self, spool_path: Path) -> None:
        self._spool = Path(os.path.realpath(spool_path))
        self._path = Path(f"{self._spool}.owner.json")
        self.folder = self._spool.parent
        self.owner: SpoolOwner | None = None
        self.damage: str | None = None
        self._is_written = True
        self._is_read = False

    @classmethod
    def read_at(cls, spool_path: Path) -> OwnerFile:
        """Return the file, read where the disk lets that."""
        file = cls(spool_path)
        with suppress(SpoolUnavailableError):
            file.read()
        return file

    def read(self) -> None:
        """Read the file, unless that was done: before the spool is opened, which tells nobody whose it is.

        Raises:
            SpoolUnavailableError: the disk fails; what is remembered cannot be known yet.
        """
        if self._is_read:
            return
        content = b""
        try:
            content = self._path.read_bytes()
            self._is_read = True
        except OSError as error:
            self._is_read = is_setting(error)  # most often there is none
            if not (self._is_read or self._is_out_of_reach()):
                raise SpoolUnavailableError(
                    f"the file {self._path}, which tells whose the spool is, cannot be read: {error.strerror}"
                ) from error
        self._fill(content)

    def _is_out_of_reach(self) -> bool:
        """Whether the disk fails at this file alone, and goes on to: then there is none."""
        try:
            with self._spool.open("rb") as file:
                file.read(1)
        except OSError:
            return False
        try:
            self._path.read_bytes()
        except OSError:
            return True
        return False

    def _fill(self, content: bytes) -> None:
        if not content:
            return
        try:
            said = _believed(content)
        except (ValueError, KeyError, TypeError, AttributeError):
            self._is_written = False
            _LOG.warning(
                "what was written down of the spool is damaged; the spool is believed",
                extra={"file": str(self._path)},
            )
            return
        self._is_written = _SUM in said
        damage = said.get("damage")
        if damage is not None and damage["inode"] == self._inode():
            self.damage = str(damage["reason"])
        if "edge_id" in said:
            self.owner = SpoolOwner(said["edge_id"], said.get("spool_id"))

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
            said = known | {"damage": damage}
            with draft.open("w", encoding="utf-8") as file:
                json.dump(said | {_SUM: _sum(said)}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            sync(self._path.parent)
            self._is_written = self._is_read = True
        except OSError as error:
            self._is_written = False
            _LOG.debug("what is known of the spool is not written down", extra={"reason": error.strerror})

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


def _believed(content: bytes) -> dict[str, Any]:
    """Return what a note says that is just as it was written: a wrong one would disown the whole spool.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not.
    """
    said = json.loads(content.decode("utf-8"))
    if not isinstance(said, dict) or not said.keys() <= _KEYS:
        raise ValueError("other keys than ours")
    rest = {key: value for key, value in said.items() if key != _SUM}
    if _SUM in said:
        if said[_SUM] != _sum(rest):
            raise ValueError("the sum does not fit")
        return said
    # An earlier version wrote it.
    names = [rest["edge_id"]] if rest.get("spool_id") is None else [rest["edge_id"], rest["spool_id"]]
    if any(str(UUID(name)) != name for name in names):
        raise ValueError("no names of ours")
    if rest.get("damage") is not None:
        _ = rest["damage"]["inode"], rest["damage"]["reason"]
    return said


def _sum(said: dict[str, Any]) -> str:
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
