"""Series as Parquet: a file that grows by a row group at a time, so that it is never whole in memory."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sungrow_lib.tabular import arrow_schema, arrow_table

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
        self._writer = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")

    def add(self, records: Sequence[Mapping[str, Any]]) -> bytes:
        """Add buckets as a row group, and return the next bytes of the file."""
        if records:
            self._writer.write_table(arrow_table(records, self._schema))
        return self._sink.taken()

    def end(self) -> bytes:
        """Return the last bytes of the file."""
        self._writer.close()
        return self._sink.taken()


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
