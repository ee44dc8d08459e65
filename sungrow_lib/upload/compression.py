"""A request's body made small as it is written: it is never in memory as a whole."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from sungrow_lib.spool import SpoolEntry
from sungrow_lib.upload.settings import Compression
from sungrow_lib.wire import Envelope

if sys.version_info >= (3, 14):
    from compression.zstd import CompressionParameter, ZstdCompressor
else:
    from backports.zstd import CompressionParameter, ZstdCompressor

_ZSTD: Final[Mapping[int, int]] = {
    CompressionParameter.compression_level: 8,
    CompressionParameter.window_log: 17,
    CompressionParameter.hash_log: 15,
    CompressionParameter.chain_log: 15,
}
"""A sixth fewer bytes than by the usual level 3, for microseconds a reading. The level alone would take 4 MB
for a body of 500 readings. Looking back on some hundred of them makes it no larger, and takes 1 MB.
"""
_GZIP_LEVEL: Final = 6
_AS_GZIP: Final = 31


def write_body(envelope: Envelope, batch: Sequence[SpoolEntry]) -> Iterator[str]:
    """Yield a request's JSON; its samples go as they were accepted, text for text."""
    yield f'{envelope.model_dump_json(exclude_none=True)[:-1]},"samples":['
    for number, entry in enumerate(batch):
        yield f",{entry.to_json()}" if number else entry.to_json()
    yield "]}"


def compress(parts: Iterable[str], compression: Compression) -> tuple[bytes, str | None]:
    """Return a body and its `Content-Encoding`, None for none.

    Args:
        parts: its text; each is asked for when the one before it is packed.
        compression: how.
    """
    texts = map(str.encode, parts)
    if compression == "none":
        return b"".join(texts), None
    packer = (
        ZstdCompressor(options=_ZSTD)
        if compression == "zstd"
        else zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _AS_GZIP)
    )
    return b"".join([*map(packer.compress, texts), packer.flush()]), compression
