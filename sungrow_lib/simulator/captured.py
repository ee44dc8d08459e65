"""A capture as something to serve: what it is of."""

from __future__ import annotations

from sungrow_lib.capture import Capture
from sungrow_lib.quantities import Family
from sungrow_lib.registers.identity import family_by_answers, family_of


def family_of_capture(capture: Capture) -> Family | None:
    """Tell whose registers a capture holds: by type code, by name, by what is filled; None if by none."""
    return family_of(capture.words, capture.model) or family_by_answers(capture.words)
