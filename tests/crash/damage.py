"""Damages a spool's files, and finds out by itself which readings are on none of them any more.

Nothing here asks the spool: pages, frames and sums are read as https://www.sqlite.org/fileformat2.html has
them. A reading counts as destroyed only if it stood on a page that could be read before (in the file, or in a
frame of the log whose sum and commit are right) and stands on none afterwards, in no version however old.
"""

from __future__ import annotations

import json
import random
import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from sungrow_lib.spool.packing import unpack
from tests.crash.readings import Key, keys_of

PAGE: Final = 1024
LOG_HEAD: Final = 32
FRAME_HEAD: Final = 24
FRAME: Final = FRAME_HEAD + PAGE
_LEAF: Final = 13
_INDEX_LEAF: Final = 10
_INDEX_INTERIOR: Final = 2
_ONE: Final = 9
"""Kind of a column that holds the number 1."""
_COLUMNS: Final = 7
_WHOLE: Final = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
_MASK: Final = 0xFFFFFFFF
_LOG_MAGIC: Final = 0x377F0682
_MOST: Final = 3
"""Most pages or frames that one damage strikes."""


class Stood(NamedTuple):
    """A reading as it stands on some page: its running number, and its content as it was accepted."""

    seq: int
    content: str


@dataclass(frozen=True)
class Files:
    """What is in a spool's file, its log and its index of the log; None for one that is not there."""

    file: bytes
    log: bytes | None = None
    index: bytes | None = None

    @classmethod
    def read(cls, path: Path) -> Files:
        """Read them all."""
        found = [p.read_bytes() if p.exists() else None for p in _paths(path)]
        return cls(found[0] or b"", *found[1:])

    @property
    def frames(self) -> int:
        """How many frames the log has."""
        return len(frame_places(self.log or b""))

    def write(self, path: Path) -> None:
        """Put them in place of what is there."""
        for target, content in zip(_paths(path), (self.file, self.log, self.index), strict=True):
            if content is None:
                target.unlink(missing_ok=True)
            else:
                target.write_bytes(content)

    def write_into(self, path: Path) -> None:
        """Write what is different into the files that are there: whoever has them open has them still."""
        for target, content in zip(_paths(path), (self.file, self.log, self.index), strict=True):
            if content is None:
                target.unlink(missing_ok=True)
            elif content != target.read_bytes():
                with target.open("r+b") as stream:
                    stream.write(content)
                    stream.truncate()

    def pages(self) -> set[bytes]:
        """Every version of every page that can be read."""
        pages = {self.file[place : place + PAGE] for place in range(0, len(self.file), PAGE)}
        return pages.union(sound_frames(self.log or b""))

    def readings(self) -> set[Stood]:
        """The readings that can be read of some version of some page."""
        return {reading for page in self.pages() for reading in _readings_on(page)}

    def keys(self) -> set[Key]:
        """Keys of those that carry one."""
        return {key for reading in self.readings() for key in keys_in(reading)}


def keys_in(reading: Stood) -> list[Key]:
    """Return the keys a reading carries."""
    return keys_of(json.loads(reading.content))


def touched(before: Files, after: Files) -> set[Stood]:
    """Readings of which a version was on a page that is gone: the reading itself, or where it stands.

    Nothing but that may make a recovery doubt a reading.
    """
    pages = before.pages()
    gone = pages - after.pages()
    seqs = {seq for page in gone for seq in _standings_on(page)}
    return {r for page in pages for r in _readings_on(page) if page in gone or r.seq in seqs}


def fold(path: Path) -> None:
    """Fold a spool's log into its file, as SQLite does by itself now and then."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _paths(path: Path) -> list[Path]:
    return [Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm")]


# --- what is left of the log -----------------------------------------------------------------------------


def frame_places(log: bytes) -> range:
    """Where the frames of a log begin."""
    return range(LOG_HEAD, len(log) - FRAME + 1, FRAME)


def sound_frames(log: bytes) -> Iterator[bytes]:
    """Yield the pages of all frames that are as they were written and belong to a commit.

    A frame's sum goes on from that of the frame before; where that one is damaged, from what it says.
    """
    places = frame_places(log)
    if not places:
        return
    magic, *_, salt_1, salt_2, one, two = struct.unpack_from(">8I", log)
    order = ">" if magic & 1 else "<"
    is_head = magic & ~1 == _LOG_MAGIC and _sum(log[: LOG_HEAD - 8], 0, 0, order) == (one, two)
    if not is_head:  # the frames say what it said
        order, (salt_1, salt_2) = "<", struct.unpack_from(">2I", log, LOG_HEAD + 8)
    pending: list[bytes] = []
    for place in places:
        _, size, *salt, right_1, right_2 = struct.unpack_from(">6I", log, place)
        page = log[place + FRAME_HEAD : place + FRAME]
        right = _sum(log[place : place + 8] + page, one, two, order) == (right_1, right_2)
        one, two = right_1, right_2
        if salt == [salt_1, salt_2] and right:
            pending.append(page)
            if size:
                yield from pending
                pending.clear()


def _sum(data: bytes, one: int, two: int, order: str) -> tuple[int, int]:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for a, b in zip(words[::2], words[1::2], strict=True):
        one = (one + a + two) & _MASK
        two = (two + b + one) & _MASK
    return one, two


# --- the readings on a page ------------------------------------------------------------------------------


def _readings_on(page: bytes) -> Iterator[Stood]:
    """Yield each reading on a page."""
    for place in _cells(page, (_LEAF,)):
        with suppress(IndexError, ValueError, KeyError, TypeError):
            _, begin = _number(page, place)
            seq, begin = _number(page, begin)
            content = _columns(page, begin)[-1]
            if len(content) > max(_WHOLE):  # a number is none
                text = unpack(content)
                if isinstance(json.loads(text), dict):
                    yield Stood(seq, text)


def _standings_on(page: bytes) -> Iterator[int]:
    """Yield the running number of each reading of which a page says where it stands."""
    for place in _cells(page, (_INDEX_LEAF, _INDEX_INTERIOR)):
        with suppress(IndexError, ValueError):
            child = 4 if page[0] == _INDEX_INTERIOR else 0
            _, begin = _number(page, place + child)
            yield int.from_bytes(_columns(page, begin)[2])


def _cells(page: bytes, kinds: Sequence[int]) -> Iterator[int]:
    if len(page) < PAGE or page[0] not in kinds:
        return
    (cells,) = struct.unpack_from(">H", page, 3)
    head = 12 if page[0] == _INDEX_INTERIOR else 8
    for place in range(head, min(head + 2 * cells, PAGE - 1), 2):
        yield struct.unpack_from(">H", page, place)[0]


def _columns(page: bytes, place: int) -> list[bytes]:
    """Return the seven columns of a row as they are on the page; numbers 0 and 1 take no room at all."""
    head, kinds_at = _number(page, place)
    begin, kinds = place + head, []
    while kinds_at < place + head:
        kind, kinds_at = _number(page, kinds_at)
        kinds.append(kind)
    if len(kinds) != _COLUMNS:
        raise ValueError("neither a reading nor where one stands")
    found = []
    for kind in kinds:
        size = _WHOLE[kind] if kind < len(_WHOLE) else (kind - 12) // 2
        found.append(b"\x01" if kind == _ONE else page[begin : begin + size])
        begin += size
    return found


def _number(page: bytes, place: int) -> tuple[int, int]:
    value = 0
    while page[place] & 0x80:
        value, place = (value << 7) | (page[place] & 0x7F), place + 1
    return (value << 7) | page[place], place + 1


# --- damages ---------------------------------------------------------------------------------------------


def pages_overwritten(files: Files, older: Files, draw: random.Random) -> Files:
    """Overwrite some pages of the file."""
    del older
    content = bytearray(files.file)
    pages = len(content) // PAGE
    for page in draw.sample(range(1, pages), min(_MOST, max(0, pages - 1))):
        content[page * PAGE : (page + 1) * PAGE] = draw.randbytes(PAGE)
    return Files(bytes(content), files.log, files.index)


def frames_flipped(files: Files, older: Files, draw: random.Random) -> Files:
    """Flip bytes in some frames of the log: in their pages or in their heads."""
    del older
    log = bytearray(files.log or b"")
    places = frame_places(bytes(log))
    for place in draw.sample(places, min(draw.randint(1, _MOST), len(places))):
        begin = place + (draw.randrange(FRAME_HEAD, FRAME - 8) if draw.random() < 0.8 else 0)
        for at in range(begin, begin + 8):
            log[at] ^= draw.randint(1, 255)
    return Files(files.file, bytes(log), files.index)


def one_frame_flipped(files: Files, older: Files, draw: random.Random) -> Files:
    """Flip a byte in the page of one frame of the log."""
    del older
    log = bytearray(files.log or b"")
    if places := frame_places(bytes(log)):
        log[draw.choice(places) + draw.randrange(FRAME_HEAD, FRAME)] ^= 0xFF
    return Files(files.file, bytes(log), files.index)


def header_overwritten(files: Files, older: Files, draw: random.Random) -> Files:
    """Overwrite the first page, which holds no reading: in the file, and wherever the log has it."""
    del older
    log = bytearray(files.log or b"")
    for place in frame_places(bytes(log)):
        if log[place : place + 4] == (1).to_bytes(4):
            log[place + FRAME_HEAD : place + FRAME_HEAD + 8] = draw.randbytes(8)
    return Files(draw.randbytes(PAGE) + files.file[PAGE:], bytes(log), files.index)


def names_overwritten(files: Files, older: Files, draw: random.Random) -> Files:
    """Overwrite the pages that name devices, the table and its index; they hold no reading."""
    del older
    content = bytearray(files.file)
    content[18:20] = b"\1\1"  # what is read from memory has no log
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(bytes(content))
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_schema").fetchall())
    content[18:20] = files.file[18:20]
    for name in ("device", "sqlite_autoindex_device_1"):
        place = (roots[name] - 1) * PAGE
        content[place : place + PAGE] = draw.randbytes(PAGE)
    return Files(bytes(content), files.log, files.index)


def log_cut_short(files: Files, older: Files, draw: random.Random) -> Files:
    """Cut the log off somewhere."""
    del older
    log = files.log or b""
    return Files(files.file, log[: draw.randrange(len(log) // 2, len(log))] if log else log, files.index)


def log_header_zeroed(files: Files, older: Files, draw: random.Random) -> Files:
    """Put zeros where the log begins."""
    del older, draw
    log = files.log or b""
    return Files(files.file, bytes(min(len(log), LOG_HEAD)) + log[LOG_HEAD:], files.index)


def log_deleted(files: Files, older: Files, draw: random.Random) -> Files:
    """Take the log away."""
    del older, draw
    return Files(files.file, None, files.index)


def log_of_older_copy(files: Files, older: Files, draw: random.Random) -> Files:
    """Put the log of an older copy beside the file."""
    del draw
    return Files(files.file, older.log, files.index)


def both_damaged(files: Files, older: Files, draw: random.Random) -> Files:
    """Overwrite pages of the file and flip bytes in the log."""
    return frames_flipped(pages_overwritten(files, older, draw), older, draw)


def index_damaged(files: Files, older: Files, draw: random.Random) -> Files:
    """Damage, delete or replace by an older one what SQLite keeps of the log in shared memory."""
    index = files.index or b""
    changed = draw.choice([None, draw.randbytes(len(index)), older.index, index[: len(index) // 2]])
    return Files(files.file, files.log, changed)


def frames_overwritten(files: Files, older: Files, draw: random.Random) -> Files:
    """Overwrite the pages in some frames of the log."""
    del older
    log = bytearray(files.log or b"")
    places = frame_places(bytes(log))
    for place in draw.sample(places, min(_MOST, len(places))):
        log[place + FRAME_HEAD : place + FRAME] = draw.randbytes(PAGE)
    return Files(files.file, bytes(log), files.index)


def file_cut_short(files: Files, older: Files, draw: random.Random) -> Files:
    """Cut the file off somewhere, or all of it."""
    del older
    pages = draw.randrange(len(files.file) // PAGE) if files.file else 0
    return Files(files.file[: pages * PAGE], files.log, files.index)


Damage = Callable[[Files, Files, random.Random], Files]

DAMAGES: Final[dict[str, Damage]] = {
    "spool damaged: pages of the file": pages_overwritten,
    "spool damaged: bytes flipped in its log": frames_flipped,
    "spool damaged: log cut short": log_cut_short,
    "spool damaged: header of the log zeroed": log_header_zeroed,
    "spool damaged: log deleted": log_deleted,
    "spool damaged: log of an older copy": log_of_older_copy,
    "spool damaged: file and log": both_damaged,
    "spool damaged: index of the log": index_damaged,
}
"""Every way to damage a spool, by the name it is counted under."""
DAMAGES_IN_USE: Final[dict[str, Damage]] = {
    "spool damaged in use: pages of the file": pages_overwritten,
    "spool damaged in use: file cut short": file_cut_short,
    "spool damaged in use: pages in its log": frames_overwritten,
    "spool damaged in use: log cut short": log_cut_short,
}
"""Every way to damage one that a process has open: in the files that it has open."""
REWINDING: Final = frozenset({log_cut_short, log_deleted, log_of_older_copy, file_cut_short})
"""Those nothing may tell of afterwards: the spool is then like an older copy of itself."""
OF_FILE: Final = frozenset({pages_overwritten, names_overwritten, file_cut_short})
"""Those that strike the file alone, whatever its log has."""
