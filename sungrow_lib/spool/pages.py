"""Reads what can be read of a damaged SQLite file: page by page, without trusting any pointer between them.

The file format is documented at https://www.sqlite.org/fileformat2.html. SQLite itself gives up a whole
branch of a table when one page above it is damaged; here each row counts whose own pages are sound. The
spool's files have pages of one known size, no reserved bytes and text in UTF-8.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

from sungrow_lib.spool.bad_places import CarefulFile, read_all
from sungrow_lib.spool.schema import PAGE_BYTES

Value = int | str | bytes | None

_INTERIOR_INDEX: Final = 2
_INTERIOR_TABLE: Final = 5
_LEAF_INDEX: Final = 10
_LEAF_TABLE: Final = 13
_FILE_HEADER: Final = 100
MAGIC: Final = b"SQLite format 3\0"
"""What every file of SQLite begins with."""
_MIN_LOCAL: Final = (PAGE_BYTES - 12) * 32 // 255 - 23
_MAX_LOCAL_TABLE: Final = PAGE_BYTES - 35
_MAX_LOCAL_INDEX: Final = (PAGE_BYTES - 12) * 64 // 255 - 23
_INTEGER_BYTES: Final = (0, 1, 2, 3, 4, 6, 8)
_FLOAT, _ZERO, _ONE = 7, 8, 9
_FIRST_BLOB: Final = 12
_VARINT_BYTES: Final = 9
_MORE: Final = 0x80

_LOG_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_FRAME: Final = _FRAME_HEADER + PAGE_BYTES
_LOG_MAGIC: Final = 0x377F0682
_WORD: Final = 0xFFFFFFFF

_COLUMNS: Final = 7
"""of a reading: no other table with running numbers has so many."""
_DEEPEST: Final = 20


class Row(NamedTuple):
    """A row found.

    Attributes:
        rowid: its number; None in a table without, and in an index.
        values: its columns; None for NULL, and for numbers that are not whole. Text that is none is bytes.
    """

    rowid: int | None
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """What the write-ahead log holds.

    SQLite reads a log up to the first fault. A power cut in the middle of a commit leaves one, too, and sound
    pages of that one commit behind it: nothing says in which order a disk writes.

    Attributes:
        frames: page number -> where its newest committed version begins in the log, as SQLite sees it.
        behind: the same of sound pages committed behind the first fault.
        commits: how many commits are behind it.
        size: how many pages the newest commit that SQLite sees says the file has; 0 when there is none.
        versions: where every sound committed version of any page begins.
        broken: page number -> where its newest damaged version is.
        nameless: where the last damaged version is that does not tell which page it was.
        is_whole: whether the disk let all of it be read.
    """

    frames: dict[int, int]
    behind: dict[int, int]
    commits: int
    size: int
    versions: tuple[int, ...] = ()
    broken: dict[int, int] = field(default_factory=dict)
    nameless: int = 0
    is_whole: bool = True

    @property
    def is_damaged(self) -> bool:
        """Whether something was committed behind a place SQLite does not read beyond."""
        return bool(self.behind)

    @property
    def is_torn(self) -> bool:
        """Whether that is one commit only, which may have been cut off: all before it is as it should be."""
        return self.is_damaged and self.commits == 1

    def is_stale(self, page: int) -> bool:
        """Whether a newer version of a page was damaged: what can be read of it may have changed since."""
        newest = self.behind.get(page, self.frames.get(page, 0))
        return not self.is_torn and max(self.broken.get(page, 0), self.nameless) > newest


def _no_step() -> None:
    pass


def read_log(path: Path, step: Callable[[], None] = _no_step) -> Log:
    """Find the sound committed pages of a log; one that is not there is empty.

    Args:
        path: the log.
        step: called for each page; what it raises ends the reading.
    """
    try:
        content, is_whole = read_all(path)
    except FileNotFoundError:
        content, is_whole = b"", True
    if len(content) < _LOG_HEADER + _FRAME:
        return Log({}, {}, 0, 0)
    magic, _, _, _, *salt, sum_1, sum_2 = struct.unpack(">8I", content[:_LOG_HEADER])
    big = bool(magic & 1)
    stored = (sum_1, sum_2)
    is_broken = magic & ~1 != _LOG_MAGIC or _checksum(content[: _LOG_HEADER - 8], (0, 0), big=big) != stored
    if is_broken:  # the frames still tell; the byte order is this machine's, as it made the log
        salt = _salt_of_frames(content)
        big = sys.byteorder == "big"
    frames: dict[int, int] = {}
    behind: dict[int, int] = {}
    pending: dict[int, int] = {}
    broken: dict[int, int] = {}
    versions: list[int] = []
    commits = size_seen = nameless = last = 0
    for start in range(_LOG_HEADER, len(content) - _FRAME + 1, _FRAME):
        step()
        page, size, *found, sum_1, sum_2 = struct.unpack_from(">6I", content, start)
        # The sum before comes from the frame before, sound or not: so one damaged page voids one frame only.
        data = content[start : start + 8] + content[start + _FRAME_HEADER : start + _FRAME]
        is_sound = found == salt and _checksum(data, stored, big=big) == (sum_1, sum_2)
        stored = (sum_1, sum_2)
        is_broken |= not is_sound
        commits += bool(is_broken and size and found == salt)
        if not is_sound:
            # Its number is believed when the rest of the frame's head is that of this log.
            broken[page if found == salt else 0] = start + _FRAME_HEADER
            continue
        pending[page] = start + _FRAME_HEADER
        versions.append(start + _FRAME_HEADER)
        if size:
            last = start + _FRAME_HEADER
            nameless = broken.get(0, 0)
            (behind if is_broken else frames).update(pending)
            pending.clear()
            size_seen = size_seen if is_broken else size
    # Behind the last commit there is nothing, or what an earlier round has left.
    broken = {page: place for page, place in broken.items() if page and place < last}
    sound = tuple(place for place in versions if place <= last)
    return Log(frames, behind, commits, size_seen, sound, broken, nameless, is_whole)


def _salt_of_frames(content: bytes) -> list[int]:
    """Return the salt most of the first frames have: those further on may be left from an earlier round."""
    places = range(_LOG_HEADER, min(len(content) - _FRAME + 1, _LOG_HEADER + 8 * _FRAME), _FRAME)
    salts = Counter(struct.unpack_from(">2I", content, place + 8) for place in places)
    return list(salts.most_common(1)[0][0])


def _checksum(data: bytes, start: tuple[int, int], *, big: bool) -> tuple[int, int]:
    one, two = start
    words = struct.unpack(f"{'>' if big else '<'}{len(data) // 4}I", data)
    for index in range(0, len(words), 2):
        one = (one + words[index] + two) & _WORD
        two = (two + words[index + 1] + one) & _WORD
    return one, two


class Pages:
    """The pages of a file with its log, one at a time.

    Where the log's last commit may only have been cut off, the file is what it was before that commit, and
    `rows_behind` are apart: a row that moves to another page is else on none while one of the two is missing.

    Where the file has readings that are newer than all SQLite would see through its log (`is_ahead`), the log
    is one of an older copy, or was cut off while it was being folded in: then nobody knows which version of a
    page is the newest, and all pages count as stale.

    Args:
        path: the file.
        log: what its log holds, if that is known already.
        is_mixed: the file and its log are at odds, as something else has shown: also as above.
        is_log_alone: the file is not the log's: only what the log holds counts.
        step: called for each page; what it raises ends the reading.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(
        self,
        path: Path,
        log: Log | None = None,
        *,
        is_mixed: bool = False,
        is_log_alone: bool = False,
        step: Callable[[], None] = _no_step,
    ) -> None:
        self._step = step
        self._file = CarefulFile(None if is_log_alone else path)
        self._log_file: CarefulFile | None = None
        try:
            self._log_path = path.with_name(f"{path.name}-wal")
            self._read = log = log or read_log(self._log_path, step)
            self._log = log.frames if log.is_torn else log.frames | log.behind
            self._behind = log.behind if log.is_torn else {}
            self._log_file = CarefulFile(self._log_path) if self._log or self._behind else None
            in_file = 0 if is_log_alone else -(-path.stat().st_size // PAGE_BYTES)
            self.count = max([in_file, *self._log])
            if log.is_torn and log.size:
                self.count = log.size
            self.is_ahead = bool(log.frames) and not is_log_alone and (is_mixed or self._is_ahead())
            if self.is_ahead:
                self.count, self._log, self._behind = max(in_file, *self._log), {}, {}
                self._read = replace(log, frames={}, behind={}, broken={}, nameless=0)
            self._told = bytearray(max([self.count, *self._behind]) + 1)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._log_file is not None:
            self._log_file.close()

    def require_settled(self) -> None:
        """Make sure that what could not be read of the files is not just away for a moment.

        Raises:
            OSError: it is.
        """
        self._file.require_settled()
        if self._log_file is not None:
            self._log_file.require_settled()
        if not self._read.is_whole and read_all(self._log_path)[1]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def page(self, number: int) -> bytes:
        """Return a page, filled up with zeros where the file ends early."""
        self._step()
        if number in self._log and self._log_file is not None:
            return self._log_file.at(self._log[number], PAGE_BYTES)
        return self._page_of_file(number)

    def _page_of_file(self, number: int) -> bytes:
        """Return a page as it is when the log is left out of account."""
        self._step()
        return self._file.at((number - 1) * PAGE_BYTES, PAGE_BYTES).ljust(PAGE_BYTES, b"\0")

    def is_stale(self, number: int) -> bool:
        """Whether a newer version of a page was damaged, or may be elsewhere."""
        return self.is_ahead or self._read.is_stale(number)

    def _is_ahead(self) -> bool:
        """Whether the file has later readings than are seen through its log; the last never goes."""
        seen = self._last_reading(self.page)
        # Where the log was being folded in, the pointers of the file alone lead nowhere.
        hidden = (n for n in range(1, self.count + 1) if n in self._log or n > self._read.size)
        found = [self._last_on(number, self._page_of_file(number)) for number in hidden]
        alone = max([self._last_reading(self._page_of_file), *found], key=lambda last: last or 0)
        return alone is not None and seen is not None and alone > seen

    def _last_on(self, number: int, page: bytes) -> int | None:
        """Return the number of the last reading on a page of readings; every start looks, so it is quick."""
        head = _FILE_HEADER if number == 1 else 0
        kind, _, cells = struct.unpack_from(">BHH", page, head)
        if kind != _LEAF_TABLE or not 0 < cells <= PAGE_BYTES // 4:
            return None
        (place,) = struct.unpack_from(">H", page, head + 6 + 2 * cells)
        try:
            row = self._row(page, place, kind)
        except (IndexError, ValueError, struct.error):
            return None
        return row.rowid if len(row.values) == _COLUMNS else None

    def _last_reading(self, page: Callable[[int], bytes]) -> int | None:
        """Return the highest running number by the tables' own pointers; None when they lead nowhere."""
        number = next(self._roots(1, page, _DEEPEST), 0)
        for _ in range(_DEEPEST):
            content = page(number) if 1 < number <= self.count else b"\0"
            if content[0] == _LEAF_TABLE:
                return self._last_on(number, content)
            if content[0] != _INTERIOR_TABLE:
                return None
            (number,) = struct.unpack_from(">I", content, 8)
        return None

    def _roots(self, number: int, page: Callable[[int], bytes], depth: int) -> Iterator[int]:
        """Yield where the table of readings begins: it is described from the first page on."""
        content, head = page(number), _FILE_HEADER if number == 1 else 0
        for row in self._rows_of(number, content):
            match row.values:
                case ("table", "reading", _, int() as root, *_):
                    yield root
        if content[head] == _INTERIOR_TABLE and depth:
            (cells,) = struct.unpack_from(">H", content, head + 3)
            places = content[head + 12 : head + 12 + 2 * cells]
            below = [head + 8, *(place for (place,) in struct.iter_unpack(">H", places[: len(places) & ~1]))]
            for place in below:
                child = int.from_bytes(content[place : place + 4])
                if 1 < child <= self.count:
                    yield from self._roots(child, page, depth - 1)

    def free(self) -> set[int] | None:
        """Return numbers of pages no table uses; None when the list of them is damaged."""
        head = self.page(1)
        if not head.startswith(MAGIC) or self.is_stale(1):
            return None
        trunk, expected = struct.unpack_from(">2I", head, 32)
        free: set[int] = set()
        while trunk:
            if trunk > self.count or trunk in free or self.is_stale(trunk):
                return None
            free.add(trunk)
            trunk_page = self.page(trunk)
            trunk, leaves = struct.unpack_from(">2I", trunk_page)
            if leaves > PAGE_BYTES // 4 - 2:
                return None
            free.update(struct.unpack_from(f">{leaves}I", trunk_page, 8))
        return free if len(free) == expected else None

    @property
    def is_doubtful(self) -> bool:
        """Whether the newest version of some page is damaged, and there may be an older one."""
        return bool(self._behind) or any(self.is_stale(number) for number in range(1, self.count + 1))

    def _maps(self) -> set[int]:
        """Return numbers of the pages that only say whose the others are: in a file that can shrink."""
        (largest_root,) = struct.unpack_from(">I", self.page(1), 52)
        return set(range(2, self.count + 1, PAGE_BYTES // 5 + 1)) if largest_root else set()

    def rows(self, *, stale: bool | None = None) -> Iterator[Row]:
        """Return every row of every sound page, in no useful order.

        Args:
            stale: only of pages whose newest version is damaged, or only of the others.
        """
        free = (self.free() or set()) | self._maps()
        for number in range(1, self.count + 1):
            if number not in free and stale in {None, self.is_stale(number)}:
                self._told[number] = number not in self._log
                yield from self._rows_of(number, self.page(number))

    def versions(self, *, again: bool = True) -> Iterator[Row]:
        """Return rows as they are and once were: of the file's pages, then of each version in the log.

        Args:
            again: also of those pages of the file whose rows `rows` has returned.
        """
        for number in range(1, self.count + 1):
            if again or not self._told[number]:
                yield from self._rows_of(number, self._page_of_file(number))
        if self._log_file is not None:
            for place in self._read.versions:
                self._step()
                frame = self._log_file.at(place - _FRAME_HEADER, _FRAME)
                yield from self._rows_of(int.from_bytes(frame[:4]), frame[_FRAME_HEADER:])

    def rows_behind(self) -> Iterator[Row]:
        """Return rows as a last commit that may have been cut off has them, as far as it is there."""
        self._log = self._log | self._behind
        self.count = max([self.count, *self._behind])
        for number in sorted(self._behind.keys() - self._maps()):
            yield from self._rows_of(number, self.page(number))

    def _rows_of(self, number: int, page: bytes) -> Iterator[Row]:
        head = _FILE_HEADER if number == 1 else 0
        kind, _, cells = struct.unpack_from(">BHH", page, head)
        if kind not in {_LEAF_TABLE, _LEAF_INDEX, _INTERIOR_INDEX}:
            return
        pointers = head + (12 if kind == _INTERIOR_INDEX else 8)
        if pointers + 2 * cells > PAGE_BYTES:
            return
        for (place,) in struct.iter_unpack(">H", page[pointers : pointers + 2 * cells]):
            try:
                yield self._row(page, place + (4 if kind == _INTERIOR_INDEX else 0), kind)
            except (IndexError, ValueError, struct.error):  # this cell is damaged; the next may not be
                continue

    def _row(self, page: bytes, place: int, kind: int) -> Row:
        size, place = _varint(page, place)
        rowid = None
        most = _MAX_LOCAL_INDEX
        if kind == _LEAF_TABLE:
            rowid, place = _varint(page, place)
            most = _MAX_LOCAL_TABLE
        return Row(rowid, _values(self._payload(page, place, size, most)))

    def _payload(self, page: bytes, place: int, size: int, most: int) -> bytes:
        """Return a row's bytes, also those on overflow pages."""
        if size <= most:
            return _exactly(page[place : place + size], size)
        local = _MIN_LOCAL + (size - _MIN_LOCAL) % (PAGE_BYTES - 4)
        local = local if local <= most else _MIN_LOCAL
        if size > self.count * PAGE_BYTES:
            raise ValueError("longer than the file")
        (following,) = struct.unpack_from(">I", page, place + local)
        payload = bytearray(_exactly(page[place : place + local], local))
        while len(payload) < size:
            if not 1 < following <= self.count:
                raise ValueError("the overflow chain is broken")
            more = self.page(following)
            (following,) = struct.unpack_from(">I", more)
            payload += more[4 : 4 + size - len(payload)]
        return bytes(payload)


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ValueError("runs over the end of its page")
    return data


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = data[place]
    if value < _MORE:
        return value, place + 1
    value = 0
    for index in range(_VARINT_BYTES):
        byte = data[place + index]
        if index == _VARINT_BYTES - 1:
            return (value << 8) | byte, place + index + 1
        value = (value << 7) | (byte & ~_MORE)
        if byte < _MORE:
            return value, place + index + 1
    raise AssertionError


def _values(payload: bytes) -> tuple[Value, ...]:
    head, place = _varint(payload, 0)
    body = head
    values: list[Value] = []
    while place < head:
        kind = payload[place]  # nearly all are one byte, and there are millions
        if kind < _MORE:
            place += 1
        else:
            kind, place = _varint(payload, place)
        end = body + (_INTEGER_BYTES[kind] if kind < len(_INTEGER_BYTES) else _size(kind))
        if end > len(payload):
            raise ValueError("runs over the end of its row")
        values.append(_value(kind, payload[body:end]))
        body = end
    if body != len(payload):
        raise ValueError("the lengths do not add up")
    return tuple(values)


def _size(kind: int) -> int:
    if kind < len(_INTEGER_BYTES):
        return _INTEGER_BYTES[kind]
    if kind < _FIRST_BLOB:
        return 8 if kind == _FLOAT else 0
    return (kind - _FIRST_BLOB) // 2


def _value(kind: int, data: bytes) -> Value:
    if kind == 0:
        return None
    if kind in {_ZERO, _ONE}:
        return kind - _ZERO
    if 0 < kind < len(_INTEGER_BYTES):
        return int.from_bytes(data, signed=True)
    if kind > _FIRST_BLOB and kind % 2:
        with suppress(UnicodeDecodeError):
            return data.decode()
    return data if kind >= _FIRST_BLOB else None
