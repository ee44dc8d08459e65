from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sungrow_lib.demo.site import DEVICES, DemoSite, morning_zone, prepare_folder, remove_folder, write_secret
from sungrow_lib.errors import ConfigurationError
from sungrow_lib.quantities import Family
from sungrow_lib.simulator.images import image_named


@pytest.mark.parametrize("hour", range(24))
@pytest.mark.parametrize("minute", [0, 29, 31, 59])
def test_it_is_about_ten_in_the_morning_at_the_demo_site(hour: int, minute: int) -> None:
    now = datetime(2026, 3, 1, hour, minute, tzinfo=UTC)
    zone = morning_zone(now)
    local = now.astimezone(zone)
    assert abs((local.hour + local.minute / 60) - 10) <= 0.5
    offset = local.utcoffset()
    assert offset is not None
    assert offset % timedelta(hours=1) == timedelta(0)
    assert str(zone).startswith("Etc/GMT")


def test_the_history_ends_at_the_last_full_quarter_of_an_hour(tmp_path: Path) -> None:
    site = DemoSite.in_folder(tmp_path, datetime(2026, 3, 1, 14, 44, 59, 123_456, tzinfo=UTC))
    assert site.start == datetime(2026, 3, 1, 14, 30, tzinfo=UTC)


def test_one_real_hybrid_and_one_real_string_inverter() -> None:
    assert [device.family for device in DEVICES] == [Family.SH, Family.SG]
    assert [image_named(device.model).family for device in DEVICES] == [Family.SH, Family.SG]
    assert len({device.device_id for device in DEVICES}) == len({device.seed for device in DEVICES}) == 2


def test_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    given = prepare_folder(tmp_path / "new" / "demo")
    temporary = prepare_folder(None)
    for folder in (given, temporary):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    remove_folder(temporary)
    assert not temporary.exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ConfigurationError, match="not empty; give a new folder with --data-dir"):
        prepare_folder(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot use"):
        prepare_folder(tmp_path / "holiday.jpg" / "demo")


def test_a_secret_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_secret(path, "geheim")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text(encoding="utf-8") == "geheim"
