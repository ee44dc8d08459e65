"""Series as Parquet: a file that grows by a row group at a time, so that it is never whole in memory.

Arrow takes more memory than all the rest of a server and never gives it back, so files are made in processes
of their own: `python -m reference_server.parquet`; :mod:`reference_server.parquet_process` starts and ends
them. Such a process reads lines of JSON: what the file is about, then buckets to add (a list), or what it is
to answer (:data:`ROW_GROUP`, :data:`END`). It says nothing unasked, so the two never lock up.
An answer is its kind and length (:data:`HEAD`), then so many bytes.
"""

from __future__ import annotations

import io
import json
import signal
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from sungrow_lib.tabular import arrow_schema, arrow_table

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET: Final = "application/vnd.apache.parquet"

ROW_GROUP: Final = "row group"
END: Final = "end"
HEAD: Final = struct.Struct("!cI")
MADE: Final = b"+"
"""What follows are the next bytes of the file."""
FAILED: Final = b"-"
"""What follows is why there is no file: text."""


class ParquetFile:
    """A Parquet file on its way to a client.

    Args:
        names: the columns, `bucket` among them.
        zone: IANA name of the zone of `bucket`.
    """

    def __init__(self, names: Iterable[str], zone: str) -> None:
        self._schema = arrow_schema(names, zone)  # says what to install where Arrow is not
        from pyarrow import parquet  # noqa: PLC0415 - 60 MB that only the process needs that makes a file

        self._sink = _Sink()
        self._waiting: list[pa.Table] = []
        self._writer = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add a few buckets to the next row group."""
        self._waiting.append(arrow_table(records, self._schema))

    def row_group(self) -> bytes:
        """Make those that wait a row group, and return the next bytes of the file."""
        tables, self._waiting = self._waiting, []
        if tables:
            import pyarrow as pa  # noqa: PLC0415 - as above

            self._writer.write_table(pa.concat_tables(tables).combine_chunks())
        return self._sink.taken()

    def end(self) -> bytes:
        """Make those that wait the last row group, and return the last bytes of the file."""
        last = self.row_group()
        self._writer.close()
        return last + self._sink.taken()


class _Sink(io.RawIOBase):
    """Collects what is written until it is taken; remembers how much there was before."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._length

    def write(self, data: Any, /) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._length += len(part)
        return len(part)

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def main() -> None:
    """Make one file; it ends when the server closes the connection, not by what is sent to all processes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    parts = _parts(asked)
    while True:
        kind = MADE
        try:
            made = next(parts, None)
        except Exception as error:  # noqa: BLE001 - whatever it is, the server says so
            kind, made = FAILED, f"{type(error).__name__}: {error}".encode(errors="replace")
        if made is None:
            return
        try:
            _answer(answers, kind, made)
            if kind == FAILED:
                for _ in asked:  # the server reads the answer once it has asked for one
                    pass
                return
        except OSError:  # the server is gone: nobody waits for the file
            return


def _parts(asked: Iterable[bytes]) -> Iterator[bytes]:
    """The parts of the file, each when it is asked for."""
    lines = map(json.loads, asked)
    about = next(lines, None)
    if about is None:
        return
    file = ParquetFile(**about)
    for line in lines:
        if line == END:
            yield file.end()
            return
        if line == ROW_GROUP:
            yield file.row_group()
        else:
            file.add(line)


def _answer(answers: BinaryIO, kind: bytes, content: bytes) -> None:
    answers.write(HEAD.pack(kind, len(content)))
    answers.write(content)
    answers.flush()


if __name__ == "__main__":
    main()
