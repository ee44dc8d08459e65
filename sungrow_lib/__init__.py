"""Typed access to Sungrow inverters: read politely, keep durably, deliver exactly once.

Everything public is importable from here and loaded when it is first used, so that `import sungrow_lib`
costs next to nothing and a program loads only the parts it uses.
"""

from __future__ import annotations

import importlib

from sungrow_lib._version import __version__

TYPE_CHECKING = False  # true to type checkers, and cheaper than an import of typing
if TYPE_CHECKING:
    from typing import Any

    from sungrow_lib.blocking import BlockingSungrowClient as BlockingSungrowClient
    from sungrow_lib.capture import (
        Capture as Capture,
        load_capture as load_capture,
        merge_captures as merge_captures,
        write_capture as write_capture,
    )
    from sungrow_lib.client import SungrowClient as SungrowClient
    from sungrow_lib.counters import CounterBreak as CounterBreak, CounterWatch as CounterWatch
    from sungrow_lib.errors import (
        CaptureError as CaptureError,
        ConfigurationError as ConfigurationError,
        CredentialsRefusedError as CredentialsRefusedError,
        DamagedReplyError as DamagedReplyError,
        DeviceBusyError as DeviceBusyError,
        DeviceError as DeviceError,
        DeviceTimeoutError as DeviceTimeoutError,
        DeviceUnreachableError as DeviceUnreachableError,
        NotASpoolError as NotASpoolError,
        RegisterRefusedError as RegisterRefusedError,
        RequestRefusedError as RequestRefusedError,
        ServerBusyError as ServerBusyError,
        ServerError as ServerError,
        ServerUnreachableError as ServerUnreachableError,
        SpoolCorruptError as SpoolCorruptError,
        SpoolError as SpoolError,
        SpoolFullError as SpoolFullError,
        SpoolUnavailableError as SpoolUnavailableError,
        SungrowError as SungrowError,
        UnexpectedAnswerError as UnexpectedAnswerError,
        UnknownFamilyError as UnknownFamilyError,
        UsageError as UsageError,
    )
    from sungrow_lib.inverter import (
        InverterReader as InverterReader,
        Reading as Reading,
        SungrowInverter as SungrowInverter,
        UnitSettings as UnitSettings,
    )
    from sungrow_lib.modbus.connection import ConnectionState as ConnectionState
    from sungrow_lib.modbus.learning import UnitPlan as UnitPlan
    from sungrow_lib.modbus.poller import ModbusPoller as ModbusPoller
    from sungrow_lib.modbus.refusals import Refusal as Refusal
    from sungrow_lib.modbus.results import (
        MissingBlock as MissingBlock,
        Outcome as Outcome,
        PollResult as PollResult,
        UnitResult as UnitResult,
    )
    from sungrow_lib.modbus.settings import ConnectionSettings as ConnectionSettings
    from sungrow_lib.normalizer import Normalizer as Normalizer
    from sungrow_lib.quantities import (
        QUANTITIES as QUANTITIES,
        Family as Family,
        Pace as Pace,
        Quantity as Quantity,
        QuantityKind as QuantityKind,
        Tier as Tier,
    )
    from sungrow_lib.quantities.counters import BreakKind as BreakKind
    from sungrow_lib.registers.applies import ConnectionPath as ConnectionPath, DeviceContext as DeviceContext
    from sungrow_lib.registers.identity import Identity as Identity, identify as identify
    from sungrow_lib.registers.map import RegisterMap as RegisterMap
    from sungrow_lib.registers.model import Register as Register
    from sungrow_lib.registers.plan import ReadPlan as ReadPlan
    from sungrow_lib.registers.words import Block as Block, RegisterWords as RegisterWords, Space as Space
    from sungrow_lib.sample import SungrowSample as SungrowSample
    from sungrow_lib.simulator.images import living_inverter as living_inverter
    from sungrow_lib.simulator.server import (
        InverterSimulator as InverterSimulator,
        Profile as Profile,
        StaticSource as StaticSource,
    )
    from sungrow_lib.spool import (
        BootStamp as BootStamp,
        DurableSpool as DurableSpool,
        HeldDevice as HeldDevice,
        HeldWhy as HeldWhy,
        Lane as Lane,
        Settlement as Settlement,
        SpoolCounts as SpoolCounts,
        SpoolEntry as SpoolEntry,
        SpoolOpening as SpoolOpening,
        SpoolOptions as SpoolOptions,
        SpoolOwner as SpoolOwner,
        SpoolRecord as SpoolRecord,
        SpoolState as SpoolState,
    )
    from sungrow_lib.upload import (
        BatchUploader as BatchUploader,
        UploadSettings as UploadSettings,
        UploadStatus as UploadStatus,
    )
    from sungrow_lib.wire import (
        DeviceInfo as DeviceInfo,
        IngestAnswer as IngestAnswer,
        IngestRequest as IngestRequest,
        Problem as Problem,
        Verdict as Verdict,
    )
    from sungrow_lib.wire.answers import Frame as Frame, Realtime as Realtime
    from sungrow_lib.wire.buckets import Buckets as Buckets

_HOME = {
    "Capture": "capture",
    "load_capture": "capture",
    "merge_captures": "capture",
    "write_capture": "capture",
    "BlockingSungrowClient": "blocking",
    "Buckets": "wire.buckets",
    "SungrowClient": "client",
    "BreakKind": "quantities.counters",
    "CounterBreak": "counters",
    "CounterWatch": "counters",
    "CaptureError": "errors",
    "ConfigurationError": "errors",
    "CredentialsRefusedError": "errors",
    "DamagedReplyError": "errors",
    "DeviceBusyError": "errors",
    "DeviceError": "errors",
    "DeviceTimeoutError": "errors",
    "DeviceUnreachableError": "errors",
    "NotASpoolError": "errors",
    "RegisterRefusedError": "errors",
    "RequestRefusedError": "errors",
    "ServerBusyError": "errors",
    "ServerError": "errors",
    "ServerUnreachableError": "errors",
    "SpoolCorruptError": "errors",
    "SpoolError": "errors",
    "SpoolFullError": "errors",
    "SpoolUnavailableError": "errors",
    "SungrowError": "errors",
    "UnexpectedAnswerError": "errors",
    "UnknownFamilyError": "errors",
    "UsageError": "errors",
    "InverterReader": "inverter",
    "Reading": "inverter",
    "SungrowInverter": "inverter",
    "UnitSettings": "inverter",
    "ConnectionState": "modbus.connection",
    "UnitPlan": "modbus.learning",
    "ModbusPoller": "modbus.poller",
    "Refusal": "modbus.refusals",
    "MissingBlock": "modbus.results",
    "Outcome": "modbus.results",
    "PollResult": "modbus.results",
    "UnitResult": "modbus.results",
    "ConnectionSettings": "modbus.settings",
    "Normalizer": "normalizer",
    "QUANTITIES": "quantities",
    "Family": "quantities",
    "Pace": "quantities",
    "Quantity": "quantities",
    "QuantityKind": "quantities",
    "Tier": "quantities",
    "ConnectionPath": "registers.applies",
    "DeviceContext": "registers.applies",
    "Identity": "registers.identity",
    "identify": "registers.identity",
    "RegisterMap": "registers.map",
    "Register": "registers.model",
    "ReadPlan": "registers.plan",
    "Block": "registers.words",
    "RegisterWords": "registers.words",
    "Space": "registers.words",
    "SungrowSample": "sample",
    "living_inverter": "simulator.images",
    "InverterSimulator": "simulator.server",
    "Profile": "simulator.server",
    "StaticSource": "simulator.server",
    "BootStamp": "spool",
    "DurableSpool": "spool",
    "HeldDevice": "spool",
    "HeldWhy": "spool",
    "Lane": "spool",
    "Settlement": "spool",
    "SpoolCounts": "spool",
    "SpoolEntry": "spool",
    "SpoolOpening": "spool",
    "SpoolOptions": "spool",
    "SpoolOwner": "spool",
    "SpoolRecord": "spool",
    "SpoolState": "spool",
    "BatchUploader": "upload",
    "UploadSettings": "upload",
    "UploadStatus": "upload",
    "DeviceInfo": "wire",
    "Frame": "wire.answers",
    "IngestAnswer": "wire",
    "IngestRequest": "wire",
    "Problem": "wire",
    "Realtime": "wire.answers",
    "Verdict": "wire",
}
"""Public name -> the module that defines it."""

__all__ = ["__version__", *_HOME]  # noqa: PLE0604 - the names are those of the table above


def __getattr__(name: str) -> Any:
    """Load a public object when it is first asked for."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
