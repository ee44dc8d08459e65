"""Texts and registers that several families share."""

from __future__ import annotations

from typing import Final

from sungrow_lib.quantities import Family
from sungrow_lib.registers.build import u16
from sungrow_lib.registers.devices import DEVICE_BY_CODE
from sungrow_lib.registers.model import Register

MODELS: Final = {
    code: device.model
    for code, device in DEVICE_BY_CODE.items()
    if device.family not in {Family.BATTERY, Family.IHM}
}
"""Texts of the type code of an inverter; batteries and iHomeManagers state theirs elsewhere."""

COUNTRIES: Final = {
    0: "GB",
    1: "DE",
    2: "FR",
    3: "IT",
    4: "ES",
    5: "AT",
    6: "AU",
    7: "CZ",
    8: "BE",
    9: "DK",
    10: "GR land",
    11: "GR islands",
    12: "NL",
    13: "PT",
    14: "CN",
    15: "SE",
    16: "other 50 Hz",
    17: "RO",
    18: "TH",
    19: "TR",
    20: "AU west",
    25: "Vorarlberg",
    26: "IN",
    27: "AE",
    28: "IL",
    29: "HU",
    30: "MY",
    31: "PH",
    32: "PL",
    35: "TH-MEA",
    36: "VN",
    38: "OM",
    39: "SA",
    40: "FI",
    41: "IE",
    59: "US Hawaii",
    60: "CA",
    61: "US",
    62: "other 60 Hz",
    63: "KR",
    64: "ZA",
    65: "CL",
    66: "BR",
    67: "TW",
    69: "JP",
    76: "EN50549-1",
    77: "EN50549-2",
    97: "US ISO-NE",
    98: "US 1741-SA",
    170: "MX 220",
}
"""Grid code the inverter is set to."""


def clock(years: tuple[int, int] | None) -> tuple[Register, ...]:
    """The inverter's clock: holding registers 5000 to 5005, local time without a zone."""
    return (
        u16("clock_year", 5000, valid_range=years),
        u16("clock_month", 5001, valid_range=(1, 12)),
        u16("clock_day", 5002, valid_range=(1, 31)),
        u16("clock_hour", 5003, valid_range=(0, 23)),
        u16("clock_minute", 5004, valid_range=(0, 59)),
        u16("clock_second", 5005, valid_range=(0, 59)),
    )
