"""Telling what a device is, from its words or its name."""

from __future__ import annotations

import pytest

from sungrow_lib.errors import UnknownFamilyError
from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import ConnectionPath
from sungrow_lib.registers.identity import (
    IDENTITY_REGISTERS,
    device_by_name,
    family_by_answers,
    family_by_name,
    family_of,
    identify,
    path_by_name,
)
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Value
from sungrow_lib.registers.words import RegisterWords, Space


def read(family: Family, **values: Value) -> RegisterWords:
    table = RegisterMap.for_family(family)
    return RegisterWords(
        {
            (row.space, row.number + n): word
            for name, value in values.items()
            for row in [table.by_name(name)]
            for n, word in enumerate(row.encode(value))
        }
    )


def test_a_hybrid_tells_everything() -> None:
    words = read(
        Family.SH,
        device_type_code="SH10RT",
        serial_number="A2261234567",
        output_type="3P4L (three phase four wire)",
        nominal_output_power=10.0,
        arm_software_version="ARM_SAPPHIRE-H_V11_V01_B",
        inverter_firmware="SAPPHIRE-H_B001.V000.P019",
        protocol_version=0x01010700,
    )
    identity = identify(words, path=ConnectionPath.LAN)
    assert identity.family is Family.SH
    assert identity.model == "SH10RT"
    assert identity.type_code == 0xE03
    assert identity.serial == "A2261234567"
    assert identity.firmware == "SAPPHIRE-H_B001.V000.P019"
    assert identity.protocol == "V1.1.7"
    assert (identity.nominal_kw, identity.phases) == (10.0, 3)
    assert identity.context.path is ConnectionPath.LAN
    assert identity.device is not None
    assert (identity.device.trackers, identity.device.strings) == (2, (1, 1))
    assert identity.device.has_battery


def test_the_certified_version_stands_in_for_the_running_firmware() -> None:
    words = read(Family.SH, device_type_code="SH10RT", arm_software_version="ARM_1")
    assert identify(words).firmware == "ARM_1"


@pytest.mark.parametrize(
    ("words", "family"),
    [
        (read(Family.SH, device_type_code="SH25T"), Family.SH),
        (read(Family.SG, device_type_code="SG250HX"), Family.SG),
        (read(Family.BATTERY, battery_device_type="SBR128"), Family.BATTERY),
        (read(Family.IHM, device_type_code="iHomeManager"), Family.IHM),
        (read(Family.SG, clock_year=3587), None),
        (RegisterWords({(Space.INPUT, 5000): 0xFFFF}), None),
        (RegisterWords({(Space.INPUT, 5000): 1}), None),
        (RegisterWords({(Space.INPUT, 5000): 0x20E8}), None),
        (RegisterWords({(Space.INPUT, 8000): 0x0710}), None),
        (RegisterWords(), None),
    ],
)
def test_the_family_follows_from_the_type_code(words: RegisterWords, family: Family | None) -> None:
    assert family_of(words) is family


def test_the_clocks_year_is_not_a_type_code() -> None:
    year = RegisterWords({(Space.HOLDING, 5000): 3587})
    assert family_of(year) is None
    assert identify(year, model="SG3.0RS").type_code is None


@pytest.mark.parametrize(
    ("text", "family", "model"),
    [
        ("SH10RT (3587 = 0xE03)", Family.SH, "SH10RT"),
        ("SG3.0RS (string inverter, reporter first took it for SH3.0RS)", Family.SG, "SG3.0RS"),
        ("SH-RT hybrid (exact model not stated)", Family.SH, None),
        ("not named in source; inferred SG250HX-class string inverter", Family.SG, None),
        ("type code 0xE28 (SH25T)", Family.SH, "SH25T"),
        ("sh10rt-v112.", Family.SH, "SH10RT-V112"),
        ("MG8RL", Family.SH, "MG8RL"),
        ("Sungrow SBR128", Family.BATTERY, "SBR128"),
        ("SBH200", Family.BATTERY, "SBH200"),
        ("my sbh250 stack", Family.BATTERY, "SBH250"),
        ("SBR tower", Family.BATTERY, None),
        ("SBH", Family.BATTERY, None),
        ("iHomeManager", Family.IHM, "iHomeManager"),
        ("SH99XY", Family.SH, None),
        ("sharp", None, None),
        ("", None, None),
    ],
)
def test_names_in_free_text(text: str, family: Family | None, model: str | None) -> None:
    device = device_by_name(text)
    assert family_by_name(text) is family
    assert (device.model if device else None) == model


def test_a_battery_known_by_its_name_alone_has_the_batterys_registers() -> None:
    words = RegisterWords({(Space.INPUT, 10742): 0xFFFF})
    for model, current in (("SBH200", -0.1), ("", None)):
        context = identify(words, family=Family.BATTERY, model=model).context
        assert RegisterMap.for_family(Family.BATTERY).decode(words, context) == {
            "battery_unit_current": current
        }


def test_the_type_code_wins_over_the_name() -> None:
    identity = identify(read(Family.SH, device_type_code="SH10RT"), model="SG20RT")
    assert (identity.family, identity.model) == (Family.SH, "SH10RT")


def test_a_named_model_stands_in_for_an_unknown_type_code() -> None:
    identity = identify(RegisterWords({(Space.INPUT, 5000): 1}), model="SH8.0RT-20 slave")
    assert (identity.model, identity.type_code) == ("SH8.0RT-20", 1)


@pytest.mark.parametrize(
    ("number", "family"), [(13022, Family.SH), (5031, Family.SG), (10741, Family.BATTERY), (8157, Family.IHM)]
)
def test_an_unknown_device_is_known_by_its_answers(number: int, family: Family) -> None:
    words = RegisterWords({(Space.INPUT, 5000): 0x7777, (Space.INPUT, number): 5})
    assert family_by_answers(words) is family
    assert identify(words).family is family
    assert identify(words).model is None


def test_holes_are_no_answers() -> None:
    words = RegisterWords({(Space.INPUT, 13022): 0xFFFF, (Space.INPUT, 5031): 9})
    assert family_by_answers(words) is Family.SG


def test_a_device_that_tells_nothing_needs_a_family() -> None:
    with pytest.raises(UnknownFamilyError, match="--family sh"):
        identify(RegisterWords())


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("internal LAN port", ConnectionPath.LAN),
        ("WiNet-S presumably", ConnectionPath.WINET_S),
        ("RS485 behind Sungrow Logger (unit ids forwarded)", ConnectionPath.LOGGER),
        ("RS485 gateway", ConnectionPath.RS485),
        ("WLAN", ConnectionPath.UNKNOWN),
        ("", ConnectionPath.UNKNOWN),
    ],
)
def test_paths_in_free_text(text: str, path: ConnectionPath) -> None:
    assert path_by_name(text) is path


@pytest.mark.parametrize("family", Family)
def test_identity_registers_exist(family: Family) -> None:
    assert all(name in RegisterMap.for_family(family) for name in IDENTITY_REGISTERS[family])


def test_a_protocol_version_has_no_hex_digits() -> None:
    words = RegisterWords({(Space.INPUT, 4952): 0x0B00, (Space.INPUT, 4953): 0x0003})
    assert identify(words, family=Family.SH).protocol == "V0.3.11"
