"""Register image of a real SH8.0RT-20, restated.

Source: the register dump ``tests/test_data/dump_master.yaml`` of AlexanderLanin/homeassistant-sungrow on
GitHub: the master of three inverters, with battery, on its internal LAN port, firmware SAPPHIRE-H_V11_V01_B,
2024-01-07 00:03 inverter clock. The digits of its serial number are zeros there too. All words not named are
0xFFFF, as the device itself fills them.
"""

from __future__ import annotations

from typing import Final

MODEL: Final = "SH8.0RT-20"

ANSWERED_INPUT: Final = (
    (4950, 5049),
    (5071, 5151),
    # Not asked for in the dump; newer firmware answers here, so the living values are there to be read.
    (5214, 5256),
    (5601, 5700),
    (5720, 5735),
    (6100, 6899),
    (7013, 7037),
    (13000, 13124),
)
"""First and last document number of the input registers that answer; everything else is refused."""

ANSWERED_HOLDING: Final = (
    (5000, 5043),
    (13000, 13100),
    (33047, 33049),
    (33149, 33150),
    (33500, 33502),
)
"""The same for holding registers."""

INPUT: Final[dict[int, str]] = {
    4950: (
        "3000 4142 1100 0100 4152 4d5f 5341 5050 4849 5245 2d48 5f56 3131 5f56 3031 5f42 "
        "0000 0000 0000 4d44 5350 5f53 4150 5048 4952 452d 485f 5631 315f 5630 315f 4200 "
        "0000 0000"
    ),
    4990: "4132 3030 3030 3030 3030 3000 0000 0000 0000 0000 0e12 0050 0001 0000 03e2 0000",
    5008: "0159 004d 0000 0000 0000 0000 0000",
    5017: "0000 0000 08e3 08fc 08fa 0000 0000 0000",
    5031: "0000 0000 0000 0000 03e8 01f3",
    5049: "0030",
    5071: "02b3",
    5088: "004d 0000",
    5114: "0001",
    5147: "1824 1385",
    5216: "fe6e",
    5218: "0192 0000",
    5601: "018e 0000 0288 0000 fd74",
    5607: ("0192 0000 0000 0000 00b6 0000 0001 0000 061e 0000 0000 0000 0063 0000 0000 0000 0640 0000 03e8"),
    5627: "0000 0050 0069 077c 0000 00d2 0000 03e8 001e 001c",
    5639: "03c0",
    5723: "ffe6 ffe1 ffe2 ffa9",
    # The device's own history: power of today, energies by day, month and year; the house writes its own.
    6100: "0000 " * 139,
    6250: "0000 " * 30,
    6290: "0000 " * 169,
    6469: "0000 " * 169,
    6648: "0000 " * 169,
    13000: "0040 0028 0000 00ff 0000 0000 0000 0000 0192 0000 fe6e",
    13012: "0000 009c 0000 00b2 0000 0000 0063 0000 077c 0000 0000 0000 03e8 00d2 0000 0391 0000 03e8",
    13031: "0000 0000 0000 0000 0000 0001 061e 0000 0060 0000 03e3 0000 00ff 0000 0000 00b6 " + "0000 " * 33,
}
"""Input registers: first document number -> words in hexadecimal."""

HOLDING: Final[dict[int, str]] = {
    5000: "07e8 0001 0007 0000 0003 0010 00cf 00aa 03e8",
    5036: "0055",
    5038: "001b",
    13000: "00cf",
    13002: "0003 0000 0000 0000 0000 0000 0000 0000 0000 0055 0000 0000 0000 0000 0000",
    13050: "0000 00cc 0000",
    13058: "03e8 0032",
    13074: "2ee0 00aa",
    13080: "0000",
    13084: "0000 0000 00aa 00aa",
    13100: "0000",
    33047: "0424 0424 0000",
    33149: "0000 0000",
    33500: "00aa 00a0 0002",
}
"""Holding registers, likewise."""
