"""The lists collected from documents and projects, which are no part of the project."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from sungrow_lib.quantities import Family

TABLES: Final = (
    ("sh_registers.csv", (Family.SH, Family.BATTERY)),
    ("sg_registers.csv", (Family.SG,)),
    ("ihm_registers.csv", (Family.IHM,)),
)
"""Lists of registers, and the families whose maps they are."""

Rows: TypeAlias = Callable[[str], list[dict[str, str]]]
