"""The whole answer of `sungrow decode` for real devices, held against what it was before.

After a change that is meant to show here: `make test ARGS="tests/decode --snapshot-update"`, and read the
difference before it is committed.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension

from sungrow_lib.capture import Capture, load_capture
from sungrow_lib.decoding import decoded
from sungrow_lib.registers.words import RegisterWords
from sungrow_lib.simulator.images import IMAGES
from tests.conftest import Beside
from tests.decode.captures import FILES
from tests.decode.readings import READINGS

CAPTURES = {reading.name: reading.capture for reading in READINGS} | {
    f"{model} whole": Capture(
        words=RegisterWords(image.words),
        connection="LAN",
        unit_id=1,
        ts=datetime(2024, 1, 7, tzinfo=UTC),
        device_id="roof",
    )
    for model, image in IMAGES.items()
}


def by_file_name() -> list[object]:
    names = {name: re.sub(r"[^a-z0-9.]+", "-", name.lower()) for name in CAPTURES}
    return [pytest.param(capture, id=names[name]) for name, capture in CAPTURES.items()]


@pytest.mark.parametrize("capture", by_file_name())
def test_device_registers_and_sample_are_what_they_were(
    capture: Capture, snapshot: SnapshotAssertion
) -> None:
    assert decoded(capture) == snapshot(extension_class=JSONSnapshotExtension)


@pytest.mark.parametrize("file", FILES)
def test_a_whole_capture_means_what_it_meant(file: str, beside: Beside, snapshot: SnapshotAssertion) -> None:
    """The captures themselves stay beside the repository; serial numbers do not come in."""
    capture = load_capture(beside("captures") / file).masked()
    assert decoded(capture) == snapshot(extension_class=JSONSnapshotExtension)
