"""Turns the JSON of many readings into rows at once: the short way beside `SungrowSample`.

A parser that knows the fields and their types makes readings of it, and those of one device are taken
together as a block, column by column (:mod:`reference_server.columns`). Only what is beyond doubt is taken;
at anything unusual (another type, an implausible value, an odd time stamp) it gives up, and the reading is
left to :class:`~sungrow_lib.sample.SungrowSample`, whose judgement counts. So this is fast or silent, never
wrong.

There are two such ways. :func:`read_body` takes a whole body when all its readings are of one device and
usual, which is what an edge sends all day; a large one in pieces. :func:`decode_batch` takes what the parser
for any JSON has read, and leaves out single readings.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from operator import itemgetter, ne
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from msgspec.structs import astuple

from reference_server.columns import FIELDS, UNKNOWN, UnusualError, to_block
from reference_server.storage.blocks import Block
from reference_server.storage.codec import Row, endless_field
from sungrow_lib.quantities import QUANTITIES, QUANTITY_BY_NAME, Quantity, QuantityKind
from sungrow_lib.sample import DEVICE_ID_PATTERN
from sungrow_lib.wire import Envelope

_DEVICE_ID: Final = re.compile(DEVICE_ID_PATTERN[1:-1])
_LARGE_BODY: Final = 2**17
"""Bytes of a body that gains nothing by company."""
_TOGETHER: Final = 200
"""Readings from which on no more are taken together: their values would not stay in the processor's cache."""
_PIECE: Final = 2**18
"""Bytes of a body that hold about as many."""
_LIST: Final = b'"samples":['
_NEXT: Final = b'},{"device_id":"'
_ENVELOPE: Final = tuple(Envelope.model_fields)
_FIELDS: Final = QUANTITY_BY_NAME.keys() | {"device_id", "ts"}


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of one device.

    Attributes:
        device_id: which.
        block: what they say, with no key of the device yet.
    """

    device_id: str
    block: Block

    def of_device(self, key: int) -> Block:
        """Return what they say, for the device with this key."""
        block = self.block
        return Block(key, block.stamps, block.cells, block.flags)


Found = tuple[dict[str, Any], Readings] | None
"""Fields of the envelope, and the readings, of a body; None when it has to be read the long way."""


def read_body(body: bytes) -> Found:
    """Read the body of a request; a large one piece by piece."""
    pieces = _pieces_of(body)
    return read_bodies([body])[0] if pieces is None else _put_together(*pieces)


def _pieces_of(body: bytes) -> tuple[bytes, Iterator[bytes]] | None:
    """Cut a large body, as edges write it: into one with its last readings, and lists of those before them.

    None when there is no need to, or it is written in another way. Where the readings begin, and that these
    are all of them, is beyond doubt only if the body without the first lists is JSON, and the lists are.
    """
    begin = body.find(_LIST) + len(_LIST)
    cuts = [begin]
    while (cut := body.find(_NEXT, cuts[-1] + _PIECE)) >= 0:
        cuts.append(cut + len("},"))
    head, tail = body[:begin], body[cuts[-1] :]
    if len(cuts) == 1 or b"\\" in tail or b'"samples"' in tail:  # another list there would count in its place
        return None
    whole_head = _parsed_body(head + b"]}")
    if whole_head is None or whole_head.samples:
        return None
    return head + tail, (b"[%b]" % body[first : end - 1] for first, end in pairwise(cuts))


def _put_together(rest: bytes, lists: Iterable[bytes]) -> Found:
    """Read a body whose readings but the last are in lists of their own."""
    try:
        parsed: Any = _BODY.decode(rest)
        every = chain(map(_READINGS.decode, lists), [parsed.samples])
        found = [readings for samples in every for readings in _together([samples])]
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
    if len({readings.device_id for readings in found}) > 1:
        return None
    return _found(parsed, Readings(found[0].device_id, Block.joined([readings.block for readings in found])))


def read_bodies(bodies: Sequence[bytes]) -> list[Found]:
    """Read bodies, each as if it were alone; together takes less time."""
    found: list[Found] = []
    some: list[Any] = []
    count = 0
    for parsed in map(_parsed, bodies):
        some.append(parsed)
        count += len(parsed.samples) if parsed is not None else 0
        if count >= _TOGETHER:
            found += _read(some)
            some, count = [], 0
    return found + _read(some)


def _read(some: Sequence[Any]) -> list[Found]:
    """Take what was parsed of some bodies, None of those that have to be read the long way."""
    readings = iter(_each([body.samples for body in some if body is not None]))
    return [None if body is None else _found(body, next(readings)) for body in some]


class BodyReader:
    """Reads what comes at the same time together.

    Nothing waits for company: what the event loop has received by its next round is read then.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[bytes, asyncio.Future[Found]]] = []

    async def read(self, body: bytes) -> Found:
        """Read the body of a request."""
        if len(body) > _LARGE_BODY:
            return read_body(body)
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._read_all)
        found: asyncio.Future[Found] = loop.create_future()
        self._waiting.append((body, found))
        return await found

    def _read_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            results = read_bodies([body for body, _ in waiting])
        except BaseException as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else RuntimeError("stopping"))
            raise
        for (_, future), result in zip(waiting, results, strict=True):
            if not future.done():  # else its client has gone
                future.set_result(result)


def _parsed(body: bytes) -> Any:
    """The body as :data:`_Body`, None when it is none or holds no reading."""
    parsed = _parsed_body(body)
    return parsed if parsed is not None and parsed.samples else None


def _parsed_body(body: bytes) -> Any:
    """The body as :data:`_Body`, None when it is none."""
    try:
        return _BODY.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _found(parsed: Any, readings: Readings | None) -> Found:
    if readings is None:
        return None
    envelope = {name: getattr(parsed, name) for name in _ENVELOPE}
    return {name: value for name, value in envelope.items() if value is not msgspec.UNSET}, readings


def _each(batches: Sequence[Sequence[msgspec.Struct]]) -> Sequence[Readings | None]:
    """Take batches of at least one reading together, None for each that is unusual or not of one device."""
    try:
        return _together(batches)
    except (ValueError, OverflowError):
        if len(batches) <= 1:
            return [None] * len(batches)
    return [readings for batch in batches for readings in _each([batch])]


def _together(batches: Sequence[Sequence[msgspec.Struct]]) -> list[Readings]:
    """Take batches together.

    Raises:
        ValueError, OverflowError: there are none, or one of them is unusual or not of one device.
    """
    devices, stamps, *given = zip(*map(astuple, chain.from_iterable(batches)), strict=True)
    block = to_block(stamps, _IN_ORDER(given))
    if len(batches) == 1:
        return [Readings(_only(devices), block)]
    ends = list(accumulate(map(len, batches)))
    spans = zip((0, *ends), ends, strict=False)
    return [Readings(_only(devices[begin:end]), block.part(begin, end)) for begin, end in spans]


def _only(devices: Sequence[str]) -> str:
    """Return the one device of these readings."""
    device_id = devices[0]
    if devices.count(device_id) != len(devices) or _DEVICE_ID.fullmatch(device_id) is None:
        raise UnusualError
    return device_id


def decode_batch(items: Sequence[dict[str, Any]], keys: Mapping[str, int]) -> list[Row | None]:
    """Rows of the readings, None for each that the model has to judge.

    Args:
        items: objects of JSON, each with a `device_id` among ``keys``.
        keys: the devices' keys in the fact tables, by name.
    """
    found: list[Row | None] = [None] * len(items)
    by_device: dict[str, list[tuple[int, msgspec.Struct]]] = {}
    for index, item in enumerate(items):
        reading = _reading(item)
        if reading is not None:
            by_device.setdefault(item["device_id"], []).append((index, reading))
    for device_id, numbered in by_device.items():
        rows = _rows([reading for _, reading in numbered], keys[device_id])
        for (index, _), row in zip(numbered, rows, strict=True):
            unknown = items[index].keys() - _FIELDS
            found[index] = _with_extra(row, items[index], unknown) if row and unknown else row
    return found


def _reading(item: dict[str, Any]) -> msgspec.Struct | None:
    known = item if item.keys() <= _FIELDS else {name: item[name] for name in item.keys() & _FIELDS}
    if any(map(ne, known.values(), known.values())):
        return None  # no JSON has it, but NaN stands for unknown here
    try:
        return msgspec.convert(known, _Reading)
    except (msgspec.ValidationError, UnicodeError, OverflowError):
        return None


def _rows(readings: list[msgspec.Struct], device: int) -> Sequence[Row | None]:
    """Rows of readings of one device; an unusual one does not keep the others from the short way."""
    [found] = _each([readings])
    if found is not None:
        return found.of_device(device).rows()
    return [None] if len(readings) == 1 else [row for reading in readings for row in _rows([reading], device)]


def _with_extra(row: Row, item: dict[str, Any], unknown: Iterable[str]) -> Row | None:
    extra = {name: item[name] for name in unknown if item[name] is not None}
    return row._replace(extra=extra) if endless_field(extra) is None else None


_CODES_LIMIT: Final = 64
_CODE_LIMIT: Final = 65_535


def _json_type(quantity: Quantity) -> tuple[Any, Any]:
    """Type of a quantity's values in JSON, and what stands for none. An integer is a number, too."""
    if quantity.kind is QuantityKind.STATE:
        return str | None, None
    if quantity.kind is QuantityKind.CODES:
        code = Annotated[int, Meta(ge=0, le=_CODE_LIMIT)]
        return Annotated[list[code], Meta(max_length=_CODES_LIMIT)] | None, None
    if quantity.length is None:
        return float | None, UNKNOWN
    return Annotated[list[float | None], Meta(max_length=quantity.length)] | None, None


# In the order of a reading's JSON: the parser looks for each name first where the one before ended.
_Reading: Final = msgspec.defstruct(
    "_Reading",
    [("device_id", str), ("ts", str), *((quantity.name, *_json_type(quantity)) for quantity in QUANTITIES)],
    forbid_unknown_fields=True,
    gc=False,
)
_IN_ORDER: Final = itemgetter(*map(QUANTITIES.index, FIELDS))
_Body: Final = msgspec.defstruct(
    "_Body",
    [("samples", list[_Reading]), *((name, Any, msgspec.UNSET) for name in _ENVELOPE)],  # type: ignore[valid-type]
    forbid_unknown_fields=True,
)
_BODY: Final = msgspec.json.Decoder(_Body)
_READINGS: Final = msgspec.json.Decoder(list[_Reading])  # type: ignore[valid-type]
