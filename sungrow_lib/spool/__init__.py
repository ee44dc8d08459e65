"""The durable spool: no accepted reading is ever lost."""

from sungrow_lib.spool.clock import BootStamp, ClockState
from sungrow_lib.spool.durable import DurableSpool
from sungrow_lib.spool.entries import (
    Judged,
    Lane,
    Settlement,
    SpoolCounts,
    SpoolEntry,
    SpoolIdentity,
    SpoolOptions,
    SpoolRecord,
    SpoolState,
)
from sungrow_lib.spool.salvage import SpoolRecovery
from sungrow_lib.spool.system_clock import SystemClock
from sungrow_lib.spool.transfer import SpoolImport

__all__ = [
    "BootStamp",
    "ClockState",
    "DurableSpool",
    "Judged",
    "Lane",
    "Settlement",
    "SpoolCounts",
    "SpoolEntry",
    "SpoolIdentity",
    "SpoolImport",
    "SpoolOptions",
    "SpoolRecord",
    "SpoolRecovery",
    "SpoolState",
    "SystemClock",
]
