"""A capture as something to serve: what it is of, and its registers without halves of numbers."""

from __future__ import annotations

from sungrow_lib.capture import Capture
from sungrow_lib.quantities import Family
from sungrow_lib.registers.identity import family_by_answers, family_of
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.words import RegisterWords


def family_of_capture(capture: Capture) -> Family | None:
    """Tell whose registers a capture holds: by type code, by name, by what is filled; None if by none."""
    return family_of(capture.words, capture.model) or family_by_answers(capture.words)


def whole_numbers(words: RegisterWords, family: Family | None) -> RegisterWords:
    """Leave out a word that is one half of a number whose other half ``words`` do not hold.

    Filled up with 0xFFFF, as a hole beside it would be, it would look like a value nobody measured.
    """
    if family is None:
        return words
    halves = {
        key
        for register in RegisterMap.for_family(family)
        if register.type.item_words > 1
        for low in register.block.numbers[:: register.type.item_words]
        for key in ((register.space, low), (register.space, low + 1))
        if words.take(register.space, low, register.type.item_words) is None
    }
    return RegisterWords({key: word for key, word in words.items() if key not in halves})
