"""Register image of a real SG20RT, restated.

Source: report 70 to meltaxa/solariot on GitHub (2022-04-07): an SG20RT behind a WiNet-S, values printed
by the reporter's program, words computed back from its scales. That firmware carries the grid frequency in
0.01 Hz in register 5036, which the documents print as 0.1 Hz; the image keeps this. What the report does not
show but Sungrow's string protocol (V1.1.80) has for every inverter of the series stands here with the
documented value: identity, power factor, state, and the not-available words of a meter that is not
installed. The ranges and the clock are those of an SG8.0RS and an SG3.0RS (report 403 to
mkaiser/Sungrow-SHx-Inverter-Modbus-Home-Assistant). All words not named are 0xFFFF.
"""

from __future__ import annotations

from typing import Final

MODEL: Final = "SG20RT"

ANSWERED_INPUT: Final = ((4950, 5200),)
"""First and last document number of the input registers that answer; everything else is refused."""

ANSWERED_HOLDING: Final = ((5000, 5019),)
"""The same for holding registers."""

_NO_S32: Final = "ffff 7fff "

INPUT: Final[dict[int, str]] = {
    4954: "0000 " * 36,  # firmware: not known, so text of no characters
    4990: "4132 3230 3030 3030 3030 3000 0000 0000 0000 0000",  # serial number, digits zeroed
    5000: "2437 00c8 0001",  # type code, 20.0 kW, three phases and neutral
    5003: "004c 00cc 0000 0052 0000 01a9 068b 0000 1721 000f 168d 000e",
    5017: "06a0 0000 0918 0918 0900 0018 0018 0018",
    5031: "068b 0000 0000 0000 03e8 1386",
    5038: "0000 0000 0000 0000 0000 0000 0000 0000",  # running; no fault has been stored
    5083: _NO_S32 * 5,  # no meter: its powers and the load cannot be known
    5113: "00ed",
    5125: "03e8 0000",
    5128: "07d5 0000",
    5144: "07f8 0000 7fff 1770 1386",
}
"""Input registers: first document number -> words in hexadecimal."""

HOLDING: Final[dict[int, str]] = {
    5000: "07e8 000c 001c 0014 0004 0002 00cf 00aa 03e8",
}
"""Holding registers, likewise."""
