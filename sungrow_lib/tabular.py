"""Series as tables: one Arrow schema for the server's Parquet files and for pandas, polars and Arrow users.

pyarrow, pandas and polars are loaded when a table is asked for and not before; the extras `server` and
`notebooks` bring what is needed.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from sungrow_lib.errors import UsageError
from sungrow_lib.quantities import QUANTITY_BY_NAME, QuantityKind

if TYPE_CHECKING:
    import pyarrow as pa

_BUCKET: Final = "bucket"
_OF_BUCKETS: Final = re.compile(
    r"bucket|sample_count|coverage|partial|energy_source|left_out|implausible|(avg|min|max)_.+|.+_(kwh|pct)"
)
"""Fields that buckets have beside those of readings."""
_ENERGIES: Final = ("pv", "load", "import", "export", "charge", "discharge")
Records = Sequence[Mapping[str, Any]]


def arrow_schema(names: Iterable[str], zone: str) -> pa.Schema:
    """Return the types of a series' columns; they depend on the names alone, never on the values.

    Times are milliseconds in the site's zone, numbers 64-bit floats in the unit of the name, unknown is null.

    Args:
        names: fields of a bucket or of a raw reading, `bucket` among them.
        zone: IANA name of the site's zone.
    """
    arrow = _loaded("pyarrow")
    fixed = {
        _BUCKET: arrow.timestamp("ms", tz=zone),
        "sample_count": arrow.int64(),
        "partial": arrow.bool_(),
        "left_out": arrow.list_(arrow.string()),
        "implausible": arrow.list_(arrow.string()),
        "extra": arrow.string(),
        "energy_source": arrow.struct([(energy, arrow.string()) for energy in _ENERGIES]),
    }
    return arrow.schema([(name, fixed.get(name) or _type_of(name, arrow)) for name in names])


def _type_of(name: str, arrow: ModuleType) -> Any:
    quantity = QUANTITY_BY_NAME.get(name)
    if quantity is None:
        return arrow.float64()
    if quantity.kind is QuantityKind.STATE:
        return arrow.string()
    if quantity.kind is QuantityKind.CODES:
        return arrow.list_(arrow.int32())
    return arrow.float64() if quantity.length is None else arrow.list_(arrow.float64())


def arrow_table(records: Records, schema: pa.Schema) -> pa.Table:
    """Put buckets or raw readings into a table; what a record lacks is null.

    Args:
        records: as the API answers them: `bucket` is RFC 3339 text.
        schema: from :func:`arrow_schema`.
    """
    arrow = _loaded("pyarrow")
    columns = [
        arrow.array(_values(name, records), type=type_)
        for name, type_ in zip(schema.names, schema.types, strict=True)
    ]
    return arrow.Table.from_arrays(columns, schema=schema)


def _values(name: str, records: Records) -> list[Any]:
    if name == _BUCKET:
        return [datetime.fromisoformat(record[name]) for record in records]
    return [record.get(name) for record in records]


def table_of(records: Records, zone: str, columns: Iterable[str]) -> pa.Table:
    """Put buckets or raw readings of any fields into a table.

    Fields that only a newer edge knows have the type of their values; where these differ, they are JSON.

    Args:
        records: as the API answers them.
        zone: IANA name of the site's zone.
        columns: those the table has at least, first and in this order.
    """
    arrow = _loaded("pyarrow")
    names = list(dict.fromkeys([*columns, *(name for record in records for name in record)]))
    table = arrow_table(
        [{name: record[name] for name in record if _is_known(name)} for record in records],
        arrow_schema([name for name in names if _is_known(name)], zone),
    )
    for name in names:
        if not _is_known(name):
            table = table.append_column(name, _guessed([record.get(name) for record in records], arrow))
    return table


def _is_known(name: str) -> bool:
    return name in QUANTITY_BY_NAME or _OF_BUCKETS.fullmatch(name) is not None


def _guessed(values: Sequence[Any], arrow: ModuleType) -> Any:
    try:
        return arrow.array(values)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, OverflowError):
        return arrow.array([None if value is None else json.dumps(value) for value in values])


def to_pandas(table: pa.Table) -> Any:
    """Return a `pandas.DataFrame` with the times of ``bucket`` as its index, in the site's zone."""
    _loaded("pandas")
    return table.to_pandas().set_index(_BUCKET)


def to_polars(table: pa.Table) -> Any:
    """Return a `polars.DataFrame`, its column ``bucket`` in the site's zone."""
    return _loaded("polars").from_arrow(table)


def _loaded(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UsageError(f"tables need {name}: pip install {name}") from None
