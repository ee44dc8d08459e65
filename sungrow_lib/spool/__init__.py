"""The durable spool: no accepted reading is ever lost."""

from sungrow_lib.spool.clock import BootStamp, ClockState
from sungrow_lib.spool.durable import DurableSpool
from sungrow_lib.spool.entries import (
    HeldDevice,
    HeldWhy,
    Judged,
    Lane,
    SetApart,
    Settlement,
    SpoolCounts,
    SpoolEntry,
    SpoolIdentity,
    SpoolImport,
    SpoolMerging,
    SpoolOptions,
    SpoolOwner,
    SpoolRecord,
    SpoolRecovery,
    SpoolRenaming,
    SpoolState,
)
from sungrow_lib.spool.opening import SpoolOpening
from sungrow_lib.spool.system_clock import SystemClock

__all__ = [
    "BootStamp",
    "ClockState",
    "DurableSpool",
    "HeldDevice",
    "HeldWhy",
    "Judged",
    "Lane",
    "SetApart",
    "Settlement",
    "SpoolCounts",
    "SpoolEntry",
    "SpoolIdentity",
    "SpoolImport",
    "SpoolMerging",
    "SpoolOpening",
    "SpoolOptions",
    "SpoolOwner",
    "SpoolRecord",
    "SpoolRecovery",
    "SpoolRenaming",
    "SpoolState",
    "SystemClock",
]
