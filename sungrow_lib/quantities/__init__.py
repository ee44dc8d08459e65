"""One declarative description per measured quantity.

Everything else that lists quantities follows from this table or is checked against it: the fields of
:class:`~sungrow_lib.sample.SungrowSample`, the decoder, the API schema, the database columns, the
documentation table and the metric names.

A value of a quantity is a multiple of its resolution, ``10 ** -decimals`` of its unit. It is rounded to
it once, before the spool; the database holds the integer number of resolution steps. So a value is the
same number in the spool, on the wire, in the database and in every answer.
"""

from sungrow_lib.quantities.model import Family, Pace, Quantity, QuantityKind, Source, Tier
from sungrow_lib.quantities.table import QUANTITIES, QUANTITY_BY_NAME

__all__ = ["QUANTITIES", "QUANTITY_BY_NAME", "Family", "Pace", "Quantity", "QuantityKind", "Source", "Tier"]
