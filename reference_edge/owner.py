"""What the daemon remembers of its spool in a file beside it, to notice that it got another edge's."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Final

from sungrow_lib.spool import SpoolOwner

_LOG: Final = logging.getLogger("sungrow_edge")


class OwnerFile:
    """The file, and what it says.

    Args:
        spool_path: the spool; the file has its name with `.owner.json`.
    """

    def __init__(self, spool_path: Path) -> None:
        self._path = Path(f"{os.path.realpath(spool_path)}.owner.json")
        self.owner = self._read()

    def _read(self) -> SpoolOwner | None:
        try:
            said = json.loads(self._path.read_text(encoding="utf-8"))
            devices = {str(name): int(key) for name, key in said["devices"].items()}
            return SpoolOwner(str(said["edge_id"]), devices)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # none yet, or damaged: then the spool is believed

    def remember(self, owner: SpoolOwner) -> None:
        """Write down what is new; a disk that takes nothing is tried again with the next call."""
        if owner == self.owner and self._path.exists():
            return
        draft = self._path.with_name(f"{self._path.name}.new")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump({"edge_id": owner.edge_id, "devices": dict(owner.devices)}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError as error:
            _LOG.debug("what is known of the spool is not written down", extra={"reason": error.strerror})
        self.owner = owner
