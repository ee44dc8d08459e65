"""What the harness does to the machine under a process: a wall clock that is wrong, a disk that is full."""

from __future__ import annotations

import math
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import which
from typing import Final

from tests.crash.disk import build_recorder, recorded
from tests.crash.failing import FailingDisk, build_failing

SLOWEST_S: Final = 2.0
"""s between a change of the clock and the last line of a log that was dated before it."""
_CLOCK_SOURCE: Final = Path(__file__).with_name("clock.c")
_CLOCK_STATE: Final = struct.Struct("=qq")
_DISK_BYTES: Final = 32 * 2**20
_BALLAST: Final = "ballast"
_SERVER_DISK_BYTES: Final = 2**30
_TRIES: Final = 20


def compiler() -> Path | None:
    """A C compiler, if there is one."""
    found = which("cc") or which("gcc")
    return None if found is None else Path(found)


def failing_disks(scratch: Path, folders: Iterable[Path]) -> dict[Path, FailingDisk]:
    """Return a disk for each folder, as processes with its environment see it; none without a C compiler.

    Args:
        scratch: a new folder.
        folders: what may fail.
    """
    cc = compiler()
    if cc is None:
        return {}
    scratch.mkdir()
    library = build_failing(cc, scratch)
    return {
        folder: FailingDisk(library, folder, scratch / f"{folder.parent.name}-order") for folder in folders
    }


def preloaded(*environments: dict[str, str]) -> dict[str, str]:
    """Put environments together: each may have a library of its own preloaded."""
    libraries = ":".join(filter(None, (each.get("LD_PRELOAD") for each in environments)))
    all_ = {name: value for each in environments for name, value in each.items()}
    return all_ | ({"LD_PRELOAD": libraries} if libraries else {})


class ClockHistory:
    """When a clock was how wrong: what it showed is put right again."""

    def __init__(self) -> None:
        self._stretches = [(-math.inf, 0.0)]

    def note(self, now: float, offset_s: float) -> None:
        """Note that it is so wrong from now on."""
        self._stretches.append((now, offset_s))

    def true_times(self, shown: Iterable[float]) -> Iterator[float]:
        """Yield the time it was each time, in the order in which it was looked at.

        The order is needed: a clock that was set back shows times a second time.
        """
        stretch, last = 0, -math.inf
        ends = [*(since for since, _ in self._stretches[1:]), math.inf]
        for moment in shown:
            for index in range(stretch, len(ends)):
                since, offset_s = self._stretches[index]
                if max(since, last) - SLOWEST_S <= moment - offset_s <= ends[index] + SLOWEST_S:
                    stretch, last = index, max(last, moment - offset_s)
                    break
            yield moment - self._stretches[stretch][1]


class BentClock:
    """A wall clock for processes that can be set wrong while they run.

    Args:
        folder: an empty folder.
        cc: a C compiler.
    """

    def __init__(self, folder: Path, cc: Path) -> None:
        self._library, self._file = folder / "clock.so", folder / "bend"
        options = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run([cc, *options, "-o", self._library, _CLOCK_SOURCE, "-ldl"], check=True)
        self.offset_s = 0.0
        self.history = ClockHistory()
        self.set(0.0, synchronised=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to see this clock."""
        return {"LD_PRELOAD": str(self._library), "BENT_CLOCK": str(self._file)}

    def set(self, offset_s: float, *, synchronised: bool) -> None:
        """Let the clock be so wrong from now on, and the kernel vouch for it or not."""
        self.history.note(time.time(), offset_s)
        self.offset_s = offset_s
        with self._file.open("r+b" if self._file.exists() else "wb") as stream:
            stream.write(_CLOCK_STATE.pack(int(offset_s * 1e9), int(synchronised)))


class SmallDisk:
    """A disk of a few megabytes that can be filled to the last byte.

    It is a file system of its own where this user may mount one; else a preloaded library lets no file grow.

    Args:
        folder: where it is to be; the folder is made.
        scratch: an empty folder.
        stack: unmounts it.
    """

    def __init__(self, folder: Path, scratch: Path, stack: ExitStack) -> None:
        folder.mkdir()
        self.folder = folder
        self.environment: dict[str, str] = {}
        if _is_mounted(folder, _DISK_BYTES):
            stack.callback(self._unmount)
            self._sign: Path | None = None
            return
        cc = compiler()
        assert cc is not None, "see can_be_made"
        scratch.mkdir()
        self._sign = scratch / "listing.full"
        self.environment = recorded(build_recorder(cc, scratch), folder, scratch / "listing")

    def _unmount(self) -> None:
        """Leave what is on it in an ordinary folder, for whoever wants to look."""
        self.free()
        _unmount(self.folder)

    @staticmethod
    def can_be_made() -> bool:
        """Whether there is any way to make one here."""
        return compiler() is not None or os.geteuid() == 0

    def fill(self) -> None:
        """Take all that is left."""
        if self._sign is not None:
            self._sign.touch()
            return
        try:
            with (self.folder / _BALLAST).open("wb", buffering=0) as stream:
                while stream.write(bytes(4096)):
                    pass
        except OSError:
            return

    def free(self) -> None:
        """Give it back."""
        (self._sign or self.folder / _BALLAST).unlink(missing_ok=True)


class ServerDisk:
    """A disk of its own for the database, that can be made as small as what is on it: then it is full.

    Args:
        folder: where it is to be; a new folder, readable for its owner alone.
        stack: unmounts it.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        folder.mkdir(mode=0o700)
        self._folder = folder
        self.is_there = _is_mounted(folder, _SERVER_DISK_BYTES)
        """Whether this user may mount one; else there is an ordinary folder."""
        if self.is_there:
            stack.callback(_unmount, folder)

    def fill(self) -> None:
        """Leave nothing of what is free now."""
        for _ in range(_TRIES):  # the database writes meanwhile
            state = os.statvfs(self._folder)
            if self._resized((state.f_blocks - state.f_bfree) * state.f_frsize):
                return

    def free(self) -> None:
        """Give it back."""
        self._resized(_SERVER_DISK_BYTES)

    def _resized(self, size: int) -> bool:
        command = ["mount", "-o", f"remount,size={size}", str(self._folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _is_mounted(folder: Path, size: int) -> bool:
    """Mount a file system in memory there, if this user may."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
    return bool(which("mount")) and not subprocess.run(mount, capture_output=True, check=False).returncode


def _unmount(folder: Path) -> None:
    """Leave what is on it in an ordinary folder, for whoever wants to look."""
    kept = folder.with_name(f"{folder.name}.kept")
    shutil.copytree(folder, kept)
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()
    kept.rename(folder)
