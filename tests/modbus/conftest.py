from __future__ import annotations

from pathlib import Path

import pytest

from sungrow_lib.modbus.settings import ConnectionSettings
from sungrow_lib.registers.words import RegisterWords, Space
from tests.modbus.helpers import ManualClock, SettingsFactory


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def image() -> RegisterWords:
    """Every register holds its own number, so a word in the wrong place is seen at once."""
    spaces = {(Space.INPUT, number): number for number in range(5000, 5200)}
    return RegisterWords(spaces | {(Space.INPUT, number): number for number in range(13000, 13100)})


@pytest.fixture
def settings_for(tmp_path: Path) -> SettingsFactory:
    def make(port: int, *, state_dir: Path | None = None, **changes: float) -> ConnectionSettings:
        values: dict[str, float] = {"timeout_s": 2.0, "connect_pause_s": 0.0, "request_gap_s": 0.02} | changes
        folder = state_dir or tmp_path / "state"
        return ConnectionSettings(host="127.0.0.1", port=port, lock_dir=tmp_path, state_dir=folder, **values)

    return make
