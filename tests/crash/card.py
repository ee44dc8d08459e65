"""The folder a spool lies in: what the harness does to its files, and its record of what that takes."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from sungrow_lib.spool import SpoolRecord, SpoolState
from tests.crash.account import spool_records
from tests.crash.damage import (
    OF_FILE,
    REWINDING,
    Damage,
    Files,
    Stood,
    fold,
    frames_overwritten,
    keys_in,
    names_overwritten,
    pages_overwritten,
    touched,
)
from tests.crash.readings import Key, keys_of

NEWER_THAN_COPY: Final = "taken from a spool: newer than the copy it put back"
NEWER_THAN_OWN: Final = "taken from a spool: another edge's, put aside when its own came back"
BEGUN_ANEW: Final = "taken from a spool: the file was deleted"
COPIED_OVER: Final = "taken from a spool: replaced by a copy of another edge's"
DAMAGED: Final = "taken from a spool: on pages and in frames it damaged or took away, and on no other"
FULL_AND_RESTORED: Final = "delivered, let go by a full spool, then taken from the server by an older backup"
LET_GO_UNASKED: Final = (
    "delivered, taken from the server by an older backup, let go by a full spool before it asked"
)
"""Why a reading can be nowhere although nothing of the product failed."""
_FEW_FRAMES: Final = 8
"""A log with fewer has hardly begun."""


class Names(Protocol):
    """Tells which readings of the harness's own count a spool holds."""

    def of_record(self, record: SpoolRecord) -> list[Key]:
        """Return the keys of a reading the spool has."""

    def of_reading(self, reading: Stood) -> list[Key]:
        """Return the keys of a reading as it stands on a page."""


class Carried:
    """The names of fed readings: each carries its own."""

    def of_record(self, record: SpoolRecord) -> list[Key]:
        """Return the keys of a reading the spool has."""
        return keys_of(json.loads(record.entry.content))

    def of_reading(self, reading: Stood) -> list[Key]:
        """Return the keys of a reading as it stands on a page."""
        return keys_in(reading)


class _Kept:
    """A copy of a spool's files.

    Args:
        folder: where they are kept.

    Attributes:
        is_behind: whether the server has gone back since, so that the copy cannot know what it lacks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.is_behind = folder, False

    @property
    def is_there(self) -> bool:
        """Whether there is one."""
        return self.folder.exists()

    def take(self, files: Iterable[Path], *, is_behind: bool) -> None:
        """Keep these from now on, and nothing else."""
        self.drop()
        self.folder.mkdir()
        for file in files:
            shutil.copy(file, self.folder)
        self.is_behind = is_behind

    def drop(self) -> None:
        """Keep nothing any more."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Card:
    """A spool's folder. Whatever is done to it here, no process may have it open meanwhile.

    Args:
        folder: the folder.
        names: tells its readings apart.
        lets_go: whether its spool cannot keep what is delivered.
    """

    def __init__(self, folder: Path, names: Names, *, lets_go: bool) -> None:
        self.folder, self.names, self.lets_go = folder, names, lets_go
        self.taken: dict[Key, bool] = {}
        """Readings the harness took from the spool; whether the server has had them ever since."""
        self._why: dict[Key, str] = {}
        self._older: Files | None = None
        self.touched = set[Key]()
        """Readings of which it damaged a page, of whatever version."""
        self.undone = set[Key]()
        """Readings that went from the server when an older backup came back."""
        self._nowhere = set[Key]()
        """Those of them that the spool, for want of room, had not kept."""
        self.others = set[Key]()
        """Readings of other edges that came with their spools."""
        self._copy = _Kept(folder.with_name(f"{folder.name}-copy"))
        self._own = _Kept(folder.with_name(f"{folder.name}-own"))
        self.wants_resend = False
        """Whether it is now like an older copy of itself, and the server has lost readings since: nothing
        tells the edge, so the runbook has `spool resend` for it."""

    @property
    def path(self) -> Path:
        """The spool's file."""
        return self.folder / "spool.sqlite"

    @property
    def is_lent(self) -> bool:
        """Whether another edge's spool is in it, and its own is kept to be put back."""
        return self._own.is_there

    @property
    def may_hold(self) -> bool:
        """Whether its spool may keep readings back: it was damaged, or another one came in its place."""
        return self._older is not None or bool(self.others)

    def states(self) -> dict[Key, SpoolState]:
        """Return where each reading stands."""
        records = spool_records(self.folder)
        return {key: record.entry.state for record in records for key in self.names.of_record(record)}

    def look(self) -> None:
        """Look what the process left: what waits in the spool is not taken away any more."""
        if self.lets_go and self.undone:
            states = self.states()
            self.undone -= {key for key, state in states.items() if state is not SpoolState.DELIVERED}

    def copy(self) -> None:
        """Keep a copy to restore later."""
        self._copy.take(self._files(), is_behind=self.wants_resend)

    def restore(self) -> None:
        """Put the copy in the place of the spool, and note what that takes away."""
        self._put_back(self._copy, NEWER_THAN_COPY)

    def take_over(self, other: Card) -> None:
        """Replace the spool by a copy of another edge's, as a copied card does."""
        self._replace(other._files(), other.states(), COPIED_OVER)

    def take_in(self, other: Card) -> None:
        """Keep the spool to be put back later, and move another edge's into its place."""
        self._own.take(self._files(), is_behind=self.wants_resend)
        there = other.states()
        for file in self._files():
            file.unlink()
        for file in other._files():
            shutil.move(file, self.folder)
        self._note_back(there)
        self.undone |= other.undone & there.keys()
        self.touched |= other.touched & there.keys()
        self.wants_resend, other.wants_resend = other.wants_resend, False

    def give_back(self) -> None:
        """Put its own spool back in its place, and note what of the other's that takes away."""
        self._put_back(self._own, NEWER_THAN_OWN)
        self._own.drop()

    def begin_anew(self) -> None:
        """Delete the spool, and note what that takes away."""
        self._replace([], {}, BEGUN_ANEW)
        self.wants_resend = False

    def damage(self, damage: Damage, draw: random.Random) -> bool:
        """Damage the spool's files, and note which readings are on none of them any more.

        Returns:
            Whether there was anything to damage.
        """
        if damage is names_overwritten or (damage is pages_overwritten and draw.random() < 0.5):
            self._fold()
        files, after = self._damaged(damage, draw)
        after.write(self.path)
        return after != files and (damage in OF_FILE or files.frames >= _FEW_FRAMES)

    def _fold(self) -> None:
        """Fold the log into the file, and note what that takes away: all behind a frame damaged in use."""
        before = self.states()
        fold(self.path)
        after = self.states()
        self._note_taken({key: state for key, state in before.items() if key not in after}, DAMAGED)
        self.wants_resend |= after != before and bool(self.undone)  # it is like an older copy of itself

    def damage_in_use(self, damage: Damage, draw: random.Random) -> bool:
        """Do the same to the files a process has open; it must be held meanwhile."""
        files, after = self._damaged(damage, draw)
        after.write_into(self.path)
        return after != files

    def _damaged(self, damage: Damage, draw: random.Random) -> tuple[Files, Files]:
        before, files = self.states(), Files.read(self.path)
        older, self._older = self._older or Files.read(self._copy.folder / self.path.name), files
        after = damage(files, older, draw)
        there, hurt = self._named(files.readings()), self._named(touched(files, after))
        assert before.keys() <= there, "the harness does not find what the spool has"
        self.touched |= hurt
        # A process that has the log open writes it into the file, over what stands there of older versions.
        hit = hurt if damage is frames_overwritten else there - self._named(after.readings())
        self._note_taken({key: state for key, state in before.items() if key in hit}, DAMAGED)
        self.wants_resend |= damage in REWINDING and bool(self.undone)  # it cannot know either
        return files, after

    def note_server_restored(self, gone: set[Key]) -> None:
        """Note which readings went from the server: what was taken from the spool is nowhere now."""
        self._copy.is_behind = self._own.is_behind = True
        if self.lets_go:  # it does not run
            self._nowhere |= gone - self.states().keys() - self._states_of(self._own).keys()
        self.undone |= gone - self._nowhere
        self.taken |= dict.fromkeys(gone & self.taken.keys(), False)

    def destroyed(self) -> dict[Key, str]:
        """Readings that were nowhere any more once the harness was done, and why."""
        let_go = self.undone - self.states().keys() if self.lets_go else set[Key]()
        taken = {key: self._why[key] for key, delivered in self.taken.items() if not delivered}
        restored = dict.fromkeys(self._nowhere, FULL_AND_RESTORED)
        return dict.fromkeys(let_go, LET_GO_UNASKED) | restored | taken

    def set_apart(self) -> set[Key]:
        """Readings a recovery kept and did not send: it could not know whether they had been sent already."""
        doubtful = [record for record in spool_records(self.folder) if record.code == "doubtful"]
        return {key for record in doubtful for key in self.names.of_record(record)}

    def _files(self) -> list[Path]:
        return [path for suffix in ("", "-wal", "-shm") if (path := Path(f"{self.path}{suffix}")).exists()]

    def _states_of(self, kept: _Kept) -> dict[Key, SpoolState]:
        return Card(kept.folder, self.names, lets_go=False).states() if kept.is_there else {}

    def _put_back(self, kept: _Kept, why: str) -> None:
        self._replace(kept.folder.iterdir(), self._states_of(kept), why)
        self.wants_resend = kept.is_behind  # it cannot know

    def _replace(self, files: Iterable[Path], there: dict[Key, SpoolState], why: str) -> None:
        before = self.states()
        self._note_taken({key: state for key, state in before.items() if key not in there}, why)
        self._note_back(there)
        for file in self._files():
            file.unlink()
        for file in files:
            shutil.copy(file, self.folder)

    def _note_back(self, there: dict[Key, SpoolState]) -> None:
        """Note what is in the spool from now on: it has to come to the server, wherever it was before."""
        self.others |= there.keys()
        for key in there:
            self.taken.pop(key, None)

    def _named(self, readings: Iterable[Stood]) -> set[Key]:
        return {key for reading in readings for key in self.names.of_reading(reading)}

    def _note_taken(self, gone: dict[Key, SpoolState], why: str) -> None:
        # What is called delivered may have gone from the server, and not have been asked for again yet.
        self._why |= dict.fromkeys(gone, why)
        self.taken |= {
            key: state is SpoolState.DELIVERED and key not in self.undone for key, state in gone.items()
        }
        self.undone -= gone.keys()
