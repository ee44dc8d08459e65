"""What `import sungrow_lib` offers is a promise: this list changes only together with CHANGELOG.md."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Final

import pytest

import sungrow_lib

PUBLIC: Final = [
    "BatchUploader",
    "ConnectionSettings",
    "DurableSpool",
    "Family",
    "InverterSimulator",
    "ModbusPoller",
    "Normalizer",
    "PollResult",
    "ReadPlan",
    "RegisterMap",
    "SpoolEntry",
    "SungrowClient",
    "SungrowError",
    "SungrowSample",
    "UploadSettings",
    "__version__",
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


def test_a_star_import_brings_all_of_them() -> None:
    check = f"from sungrow_lib import *; assert set({PUBLIC!r}) <= set(globals())"
    subprocess.run([sys.executable, "-W", "error", "-c", check], check=True)
