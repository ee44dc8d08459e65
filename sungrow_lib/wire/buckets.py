"""The buckets of a series, as a list that becomes a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from sungrow_lib.quantities import QUANTITIES
from sungrow_lib.tabular import table_of, to_pandas, to_polars
from sungrow_lib.wire.answers import SeriesBucket

if TYPE_CHECKING:
    import pyarrow as pa

Bucket = TypeVar("Bucket", bound=SeriesBucket)

_ALWAYS: Final = ("bucket", "sample_count", "coverage", "partial")


PLANT_COLUMNS: Final = (*(name for name in SeriesBucket.model_fields if name != "max_pv_power_w"), "left_out")
"""Columns of a table of a plant's buckets; the highest powers of its devices are of different moments."""


def bucket_columns(fields: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the columns of a table of a device's buckets, whatever is in it; None: the usual ones."""
    if fields is None:
        return tuple(SeriesBucket.model_fields)
    usual = [name for name in SeriesBucket.model_fields if name in fields or name in _ALWAYS]
    return tuple(dict.fromkeys([*usual, *fields]))


def raw_columns(fields: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the columns of a table of raw readings, likewise; None asks for every quantity there is."""
    chosen = [quantity.name for quantity in QUANTITIES] if fields is None else fields
    return tuple(dict.fromkeys(["bucket", *chosen, *_ALWAYS, "implausible"]))


class Buckets(list[Bucket], Generic[Bucket]):
    """The buckets of a series, in order, ready to become a table.

    In a table unknown is null (NaN in pandas), and times are those of the site's zone. All tables of one
    question have the same columns, also that of no buckets; what only a newer edge knows comes on top.

    Attributes:
        name: whose they are: a device's id, or a plant's name.
        timezone: IANA name of the site's zone.
        columns: what a table of them has, whatever is in it.
    """

    def __init__(
        self, buckets: Iterable[Bucket], *, name: str, timezone: str, columns: Sequence[str] = ("bucket",)
    ) -> None:
        super().__init__(buckets)
        self.name = name
        self.timezone = timezone
        self.columns = tuple(columns)

    def to_arrow(self) -> pa.Table:
        """Return a `pyarrow.Table`.

        Raises:
            UsageError: pyarrow is not installed.
        """
        records = [bucket.model_dump(exclude_unset=True) for bucket in self]
        return table_of(records, self.timezone, self.columns)

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`, its index the starts of the buckets.

        Raises:
            UsageError: pandas or pyarrow is not installed.
        """
        return to_pandas(self.to_arrow())

    def to_polars(self) -> Any:
        """Return a `polars.DataFrame`.

        Raises:
            UsageError: polars or pyarrow is not installed.
        """
        return to_polars(self.to_arrow())
