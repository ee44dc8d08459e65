"""What `import sungrow_lib` offers is a promise: this list changes only together with CHANGELOG.md."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from typing import Final

import pytest

import sungrow_lib

PUBLIC: Final = [
    "BatchUploader",
    "Block",
    "BlockingSungrowClient",
    "BootStamp",
    "BreakKind",
    "Buckets",
    "Capture",
    "CaptureError",
    "ConfigurationError",
    "ConnectionPath",
    "ConnectionSettings",
    "ConnectionState",
    "CounterBreak",
    "CounterWatch",
    "CredentialsRefusedError",
    "DamagedReplyError",
    "DeviceBusyError",
    "DeviceContext",
    "DeviceError",
    "DeviceInfo",
    "DeviceTimeoutError",
    "DeviceUnreachableError",
    "DurableSpool",
    "Family",
    "Frame",
    "HeldDevice",
    "HeldWhy",
    "Identity",
    "IngestAnswer",
    "IngestRequest",
    "InverterReader",
    "InverterSimulator",
    "Lane",
    "MissingBlock",
    "ModbusPoller",
    "Normalizer",
    "NotASpoolError",
    "Outcome",
    "Pace",
    "PollResult",
    "Problem",
    "Profile",
    "QUANTITIES",
    "Quantity",
    "QuantityKind",
    "ReadPlan",
    "Reading",
    "Realtime",
    "Refusal",
    "Register",
    "RegisterMap",
    "RegisterRefusedError",
    "RegisterWords",
    "RequestRefusedError",
    "ServerBusyError",
    "ServerError",
    "ServerUnreachableError",
    "Settlement",
    "Space",
    "SpoolCorruptError",
    "SpoolCounts",
    "SpoolEntry",
    "SpoolError",
    "SpoolFullError",
    "SpoolOpening",
    "SpoolOptions",
    "SpoolOwner",
    "SpoolRecord",
    "SpoolState",
    "SpoolUnavailableError",
    "StaticSource",
    "SungrowClient",
    "SungrowError",
    "SungrowInverter",
    "SungrowSample",
    "Tier",
    "UnexpectedAnswerError",
    "UnitPlan",
    "UnitResult",
    "UnitSettings",
    "UnknownFamilyError",
    "UploadSettings",
    "UploadStatus",
    "UsageError",
    "Verdict",
    "__version__",
    "identify",
    "living_inverter",
    "load_capture",
    "merge_captures",
    "write_capture",
]


def test_the_public_names_are_exactly_these() -> None:
    assert sorted(sungrow_lib.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_is_there_and_explains_itself(name: str) -> None:
    value = getattr(sungrow_lib, name)
    assert name.startswith("__") or inspect.getdoc(value)


def test_dir_shows_them_and_an_unknown_name_is_an_attribute_error() -> None:
    assert set(PUBLIC) <= set(dir(sungrow_lib))
    unknown = "SungrowSamples"
    with pytest.raises(AttributeError, match=unknown):
        getattr(sungrow_lib, unknown)


def test_the_two_lists_of_homes_agree() -> None:
    """What a type checker sees is what the interpreter loads."""
    tree = ast.parse(inspect.getsource(sungrow_lib))
    seen = {
        alias.name: str(node.module).removeprefix("sungrow_lib.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 0
        for alias in node.names
        if alias.asname is not None
    }
    assert seen == sungrow_lib._HOME


def test_a_star_import_brings_all_of_them() -> None:
    check = f"from sungrow_lib import *; assert set({PUBLIC!r}) <= set(globals())"
    subprocess.run([sys.executable, "-W", "error", "-c", check], check=True)
