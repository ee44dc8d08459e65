"""What the daemon does to stay small."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

import anyio

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
_LARGE_BYTES: Final = 64 * 1024
_EVERY_S: Final = 60.0


def stay_small() -> None:
    """Let go of what starting took, let threads share one heap, and give back what a batch took."""
    gc.collect()
    # Python looks for garbage that lived for a while when it may be a quarter of all there is. Most of that
    # was loaded at the start and stays for good; kept apart, 3,000 objects may be garbage rather than 14,000.
    # That is a bound and no more: in ordinary work there is hardly any, and the memory is the same without.
    gc.freeze()
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # GNU's alone
        library.mallopt(_M_ARENA_MAX, 1)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    give_back()


def give_back() -> None:
    """Let the system have the pages on which nothing is left; by itself only the last ones are given back."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):  # GNU's alone
        library.malloc_trim(0)


async def keep_small() -> None:
    """Give back what looking through the spool took, and later what backlogs did, until cancelled."""
    while True:
        give_back()
        await anyio.sleep(_EVERY_S)
