"""Series as Parquet: a file that grows by a row group at a time, so that it is never whole in memory."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sungrow_lib.tabular import arrow_schema, arrow_table

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET: Final = "application/vnd.apache.parquet"


class ParquetFile:
    """A Parquet file on its way to a client.

    Args:
        names: the columns, `bucket` among them.
        zone: IANA name of the zone of `bucket`.
    """

    def __init__(self, names: Iterable[str], zone: str) -> None:
        from pyarrow import parquet  # noqa: PLC0415 - 60 MB that a server needs only when it is asked for it

        self._schema = arrow_schema(names, zone)
        self._sink = _Sink()
        self._waiting: list[pa.Table] = []
        self._writer = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")

    @property
    def waiting(self) -> int:
        """How many buckets wait to become a row group."""
        return sum(table.num_rows for table in self._waiting)

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add a few buckets to the next row group: for many at once others would wait."""
        self._waiting.append(arrow_table(records, self._schema))

    def row_group(self) -> bytes:
        """Make those that wait a row group, and return the next bytes of the file.

        It takes its time, nearly all of it in Arrow, which leaves the interpreter to other threads.
        """
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
