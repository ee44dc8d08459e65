"""A disk that fails under a running process, and works again: `failing.c`, preloaded into the process."""

from __future__ import annotations

import errno
import struct
import subprocess
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("failing.c")
WRITES, READS = 1, 2
_HANGS: Final = -1
ERRORS: Final = {"EIO": errno.EIO, "EROFS": errno.EROFS}


def build_failing(compiler: Path, folder: Path) -> Path:
    """Compile it; return the library to preload."""
    library = folder / "failing.so"
    options = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *options, "-o", library, _SOURCE, "-ldl"], check=True)
    return library


class FailingDisk:
    """The disk under ``folder``, as processes with `environment` see it.

    Args:
        library: what `build_failing` made.
        folder: what fails.
        order: a file elsewhere that says what.
    """

    def __init__(self, library: Path, folder: Path, order: Path) -> None:
        self._order = order
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAILING_FOLDER": str(folder),
            "FAILING_FILE": str(order),
        }
        self.works()

    def works(self) -> None:
        """Let it work."""
        self._say(0, 0)

    def fails(self, error: int, what: int) -> None:
        """Let it fail from now on."""
        self._say(error, what)

    def hangs(self) -> None:
        """Let whatever reads or writes wait from now on."""
        self._say(_HANGS, READS | WRITES)

    def loses(self, file: Path, first: int, end: int) -> None:
        """Let some bytes of a file be out of reach from now on."""
        self._say(errno.EIO, READS, file.stat().st_ino, first, end)

    def _say(self, *numbers: int) -> None:
        with self._order.open("r+b" if self._order.exists() else "wb") as file:
            file.write(struct.pack("@5q", *numbers, *[0] * (5 - len(numbers))))
