"""The buckets of a series, as a list that becomes a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sungrow_lib.tabular import table_of, to_pandas, to_polars
from sungrow_lib.wire.answers import SeriesBucket

if TYPE_CHECKING:
    import pyarrow as pa

Bucket = TypeVar("Bucket", bound=SeriesBucket)


class Buckets(list[Bucket], Generic[Bucket]):
    """The buckets of a series, in order, ready to become a table.

    In a table unknown is null (NaN in pandas), and times are those of the site's zone.

    Attributes:
        name: whose they are: a device's id, or a plant's name.
        timezone: IANA name of the site's zone.
    """

    def __init__(self, buckets: Iterable[Bucket], *, name: str, timezone: str) -> None:
        super().__init__(buckets)
        self.name = name
        self.timezone = timezone

    def to_arrow(self) -> pa.Table:
        """Return a `pyarrow.Table`.

        Raises:
            UsageError: pyarrow is not installed.
        """
        records = [bucket.model_dump(exclude_unset=True) for bucket in self]
        return table_of(records, self.timezone)

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
