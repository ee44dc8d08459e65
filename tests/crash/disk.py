"""What a disk may hold after the power failed: a model, fed with what a process wrote and when it synced.

`recorder.c`, preloaded into a process, lists every change to the files of one folder. `Disk` follows the list
and, at any entry of it, builds a folder as a power cut at that moment could have left it:

* what was written before the file's last sync is there;
* what was written after it is there, or not, in pieces of 512 bytes and in any order;
* a name that came or went is only certain once its folder was synced; until then some of the changes, from
  the first on, may be there.

What the model cannot show: a drive that says "synced" before it is, or that damages neighbours of what it was
writing; a file system with weaker rules; what is written through memory maps (SQLite's `-shm` alone, which
it builds anew).
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

_HEAD: Final = struct.Struct("<IIQQQ")
_SECTOR: Final = 512
_SOURCE: Final = Path(__file__).with_name("recorder.c")


class Kind(IntEnum):
    """The kinds of entries, as `recorder.c` numbers them."""

    WRITE = 1
    TRUNCATE = 2
    SYNC = 3
    CREATE = 4
    RENAME = 5
    UNLINK = 6
    SYNC_FOLDER = 7


class Change(NamedTuple):
    """One entry of the list."""

    kind: Kind
    name: str
    inode: int
    offset: int
    data: bytes


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)


def build_recorder(compiler: Path, folder: Path) -> Path:
    """Compile the recorder; return the library to preload."""
    library = folder / "recorder.so"
    options = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *options, "-o", library, _SOURCE, "-ldl", "-lpthread"], check=True)
    return library


def recorded(library: Path, folder: Path, listing: Path, *, killed_after: int = 0) -> dict[str, str]:
    """Environment that makes a process record its changes to ``folder`` in ``listing``.

    Args:
        library: what `build_recorder` made.
        folder: what is watched.
        listing: a file elsewhere.
        killed_after: after so many changes the process kills itself; 0 for never.
    """
    return {
        "RECORDER_KILL": str(killed_after),
        "LD_PRELOAD": str(library),
        "RECORDER_FOLDER": str(folder),
        "RECORDER_FILE": str(listing),
        "RECORDER_FULL": f"{listing}.full",
    }


def read_changes(listing: Path) -> Iterator[Change]:
    """Yield the whole entries of a list; the last one may be cut off."""
    with listing.open("rb") as stream:
        while len(head := stream.read(_HEAD.size)) == _HEAD.size:
            kind, name_length, inode, offset, length = _HEAD.unpack(head)
            name, data = stream.read(name_length), stream.read(length)
            if len(data) < length or len(name) < name_length:
                return
            yield Change(Kind(kind), name.decode(), inode, offset, data)


class Disk:
    """A folder on a disk whose power may fail.

    Args:
        folder: the folder as the recording began; all that is in it then is durable.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}
        self._pending_names: list[Change] = []
        for file in folder.iterdir():
            self._names[str(file)] = file.stat().st_ino
            self._files[file.stat().st_ino] = _File(bytearray(file.read_bytes()))

    def apply(self, change: Change) -> None:
        """Follow one change."""
        match change.kind:
            case Kind.WRITE | Kind.TRUNCATE:
                self._files[change.inode].pending.append(change)
            case Kind.SYNC:
                file = self._files[change.inode]
                for pending in file.pending:
                    _do(file.durable, pending)
                file.pending.clear()
            case Kind.SYNC_FOLDER:
                for pending in self._pending_names:
                    _rename(self._names, pending)
                self._pending_names.clear()
            case Kind.CREATE:
                self._files[change.inode] = _File()  # an inode may serve again
                self._pending_names.append(change)
            case _:
                self._pending_names.append(change)

    def content(self, name: str) -> bytes:
        """All that was written so far to the file of a name, synced or not."""
        names = dict(self._names)
        for pending in self._pending_names:
            _rename(names, pending)
        inode = next(inode for path, inode in names.items() if Path(path).name == name)
        content = bytearray(self._files[inode].durable)
        for pending in self._files[inode].pending:
            _do(content, pending)
        return bytes(content)

    def cut(self, target: Path, draw: random.Random) -> None:
        """Write to ``target``, a new folder, what a power cut now may leave."""
        names = dict(self._names)
        for pending in self._pending_names[: draw.randint(0, len(self._pending_names))]:
            _rename(names, pending)
        share = draw.choice((0.0, 0.0, 0.1, 0.5, 0.9, 1.0))
        target.mkdir()
        for name, inode in names.items():
            if name.endswith("-shm"):
                continue
            content = bytearray(self._files[inode].durable)
            for pending in self._files[inode].pending:
                for piece in _pieces(pending):
                    if draw.random() < share:
                        _do(content, piece)
            (target / Path(name).name).write_bytes(content)


def _pieces(change: Change) -> Iterator[Change]:
    if change.kind is Kind.TRUNCATE:
        yield change
    for start in range(0, len(change.data), _SECTOR):
        yield change._replace(offset=change.offset + start, data=change.data[start : start + _SECTOR])


def _do(content: bytearray, change: Change) -> None:
    if change.kind is Kind.TRUNCATE:
        del content[change.offset :]
        content.extend(bytes(change.offset - len(content)))
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


def _rename(names: dict[str, int], change: Change) -> None:
    if change.kind is Kind.CREATE:
        names[change.name] = change.inode
    elif change.kind is Kind.RENAME and change.name in names:
        names[change.data.decode()] = names.pop(change.name)
    elif change.kind is Kind.UNLINK:
        names.pop(change.name, None)


def replace_folder(folder: Path, content: Path) -> None:
    """Put what a power cut left in the place of what was there."""
    shutil.rmtree(folder)
    content.rename(folder)
