"""The dongle rules, kept across units, tiers, processes and restarts.

One lock file per resolved address and port. The kernel's lock on it is held while a program is connected,
and falls with the process, however it dies. Its content says when the last pass over the device started
and ended, so that whoever comes next, even after a restart, keeps the distance.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

from sungrow_lib.errors import ConfigurationError, DeviceBusyError
from sungrow_lib.modbus.clock import Clock
from sungrow_lib.modbus.settings import MIN_POLL_INTERVAL_S, MIN_REQUEST_GAP_S, MIN_REST_S

LOCK_DIR_VARIABLE: Final = "SUNGROW_LOCK_DIR"

_SYSTEM_LOCK_DIRS: Final = (Path("/run/lock"), Path("/var/lock"), Path("/tmp"))  # noqa: S108 - sticky, see below
_RECORD_BYTES: Final = 512
"""Fixed, so that one write replaces the record whole and a kill cannot leave half of two."""
_PASS_MARGIN_S: Final = 0.01
_LONGEST_WAY_S: Final = 0.03
"""So late a device may see a request that does not answer sooner."""
_GAP_MARGIN_S: Final = 0.002
"""The device sees requests with the jitter of two network stacks; it must still see the full distance."""


def lock_dir(chosen: Path | None = None) -> Path:
    """Folder of the lock files: ``chosen``, else ``SUNGROW_LOCK_DIR``, else the system's.

    The system's is chosen by what it is, not by who asks: two users who fell back to different folders
    would not see each other's locks.
    """
    if chosen is not None:
        return chosen
    if named := os.environ.get(LOCK_DIR_VARIABLE):
        return Path(named)
    for folder in _SYSTEM_LOCK_DIRS:
        if folder.is_dir() and folder.stat().st_mode & stat.S_IWOTH:
            return folder
    return _SYSTEM_LOCK_DIRS[-1]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a device answers.

    Attributes:
        address: resolved IP address, so that two names of one dongle share one limiter.
        port: TCP port.
    """

    address: str
    port: int

    @property
    def lock_name(self) -> str:
        """Name of the endpoint's lock file."""
        address = ip_address(self.address.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped:  # the same device by another name
            address = address.ipv4_mapped
        plain = str(address).replace(":", "_")
        return f"sungrow-{plain}-{self.port}.lock"

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class _Moment(NamedTuple):
    """One instant on both clocks; either may be the only one that still means something."""

    boot_id: str
    boottime: float
    wall: float

    def since(self, earlier: _Moment) -> float:
        """Seconds from ``earlier``; 0, the most careful answer, when the clocks contradict each other."""
        if self.boot_id and self.boot_id == earlier.boot_id:
            return max(0.0, self.boottime - earlier.boottime)
        return max(0.0, self.wall - earlier.wall)

    def later(self, seconds: float) -> _Moment:
        """Return the moment so many seconds later."""
        return self._replace(boottime=self.boottime + seconds, wall=self.wall + seconds)

    def own_view(self, earlier: _Moment) -> _Moment:
        """``earlier`` on this boot's clock, so that no later jump of the wall clock can prolong a wait."""
        return self._replace(boottime=self.boottime - self.since(earlier), wall=earlier.wall)


@dataclass(frozen=True, slots=True)
class _Record:
    """What the lock file says."""

    process: int
    started: _Moment | None = None
    ended: _Moment | None = None
    refused: _Moment | None = None

    @classmethod
    def parse(cls, content: bytes, now: _Moment) -> _Record:
        """Read a record; one that cannot be read counts as a pass that happened just now."""
        if not content.strip():
            return cls(0)
        try:
            data = json.loads(content)
            moments = (_moment(data.get(name)) for name in ("started", "ended", "refused"))
            return cls(int(data["process"]), *moments)
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(0, started=now, ended=now, refused=now)

    def dump(self) -> bytes:
        """Return it as JSON of a fixed length, put together by hand: every pass does so four times."""
        started, ended, refused = map(_text, (self.started, self.ended, self.refused))
        content = f'{{"process":{self.process},"started":{started},"ended":{ended},"refused":{refused}}}'
        return content.encode().ljust(_RECORD_BYTES - 1) + b"\n"


_quoted: Final = lru_cache(maxsize=8)(json.dumps)


@lru_cache(maxsize=8)  # of the three in a record one is new
def _text(moment: _Moment | None) -> str:
    if moment is None:
        return "null"
    boot_id, boottime, wall = moment
    return f'{{"boot_id":{_quoted(boot_id)},"boottime":{boottime!r},"wall":{wall!r}}}'


def _moment(data: dict[str, object] | None) -> _Moment | None:
    if data is None:
        return None
    moment = _Moment(str(data["boot_id"]), float(str(data["boottime"])), float(str(data["wall"])))
    if not (math.isfinite(moment.boottime) and math.isfinite(moment.wall)):
        raise ValueError("not a time")
    return moment


class _LockFile:
    """An exclusively locked file that any user of the machine may share but none can redirect."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = self._open_locked()

    def _open_locked(self) -> int:
        while True:
            fd = self._open()
            try:
                self._check(fd)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._names(fd):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # a cleaner removed the file between opening and locking: lock its successor

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            # Never O_CREAT on a file that exists: in a sticky folder Linux refuses it on others' files.
            return os.open(self._path, flags)
        except FileNotFoundError:
            pass
        try:
            fd = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return os.open(self._path, flags)
        os.fchmod(fd, 0o666)  # whatever the umask: the next reader may be another user
        return fd

    def _check(self, fd: int) -> None:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise ConfigurationError(
                f"{self._path} is not a plain file of its own; remove it", variable=LOCK_DIR_VARIABLE
            )

    def is_current(self) -> bool:
        """Whether the locked file is still the one others would find."""
        return self._names(self._fd)

    def _names(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self._path.stat(follow_symlinks=False))
        except FileNotFoundError:
            return False

    def read(self) -> bytes:
        return os.pread(self._fd, 4 * _RECORD_BYTES, 0)

    def write(self, content: bytes) -> None:
        os.pwrite(self._fd, content, 0)

    def close(self) -> None:
        os.close(self._fd)


class DeviceLimiter:
    """The right to talk to one endpoint, and the pace of doing so.

    Args:
        endpoint: the device.
        folder: folder of the lock files.
        request_gap_s: seconds from an answer to the next request.
        clock: the clocks.
    """

    def __init__(self, endpoint: Endpoint, folder: Path, *, request_gap_s: float, clock: Clock) -> None:
        self._endpoint = endpoint
        self._path = folder / endpoint.lock_name
        self._gap_s = max(request_gap_s, MIN_REQUEST_GAP_S) + _GAP_MARGIN_S
        self._clock = clock
        # Without a boot id only this limiter's own notes can be compared on the boot-time clock.
        self._boot_id = clock.boot_id or uuid4().hex
        self._file: _LockFile | None = None
        self._record = _Record(os.getpid())
        self._last_answer = -math.inf
        self._first_request = self._awaits_first = False

    @property
    def refused_at(self) -> float:
        """When the device last refused a read, by whatever program, in boot-time seconds."""
        return -math.inf if self._record.refused is None else self._record.refused.boottime

    @property
    def held(self) -> bool:
        """Whether this program has the device to itself."""
        return self._file is not None

    def acquire(self) -> None:
        """Take the device; it stays taken until :meth:`release` or the process's end.

        Raises:
            DeviceBusyError: another program (or another poller of this one) holds it.
            ConfigurationError: the lock folder cannot be used.
        """
        if self._file is not None:
            if self._file.is_current():
                return
            self.release()  # a cleaner removed the file: others would lock a new one, and not see us
        try:
            self._file = _LockFile(self._path)
        except BlockingIOError:
            raise self._busy() from None
        except OSError as error:
            raise ConfigurationError(
                f"the lock file {self._path} cannot be used ({error.strerror}); "
                f"set {LOCK_DIR_VARIABLE} to a folder that every user of this device may write",
                variable=LOCK_DIR_VARIABLE,
            ) from error
        self._adopt(_Record.parse(self._file.read(), self._now()))

    def _adopt(self, left: _Record) -> None:
        """Continue from what the previous holder left, or from memory where the file says nothing."""
        if left.started is None:
            left = self._record
        now = self._now()
        started, ended, refused = (
            moment and now.own_view(moment) for moment in (left.started, left.ended, left.refused)
        )
        if started is not None and ended is None:
            ended = now  # it died in its pass, at the latest now
        self._save(_Record(os.getpid(), started, ended, refused))

    def _now(self) -> _Moment:
        return _Moment(self._boot_id, self._clock.boottime(), self._clock.wall().timestamp())

    def _busy(self) -> DeviceBusyError:
        try:
            holder = _Record.parse(self._path.read_bytes(), self._now()).process
        except OSError:
            holder = 0
        who = f"process {holder}" if holder else "another process"
        return DeviceBusyError(
            f"{self._endpoint} is being read by {who}; stop it first, "
            "because a dongle serves one program at a time",
            process=holder,
        )

    def release(self) -> None:
        """Let others have the device. Does nothing when it is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @asynccontextmanager
    async def one_pass(self) -> AsyncGenerator[None, None]:
        """Wait for the device's next slot, hold it for one pass over all units, then note its end."""
        while (wait_s := self._wait_s()) > 0:
            await self._clock.sleep(wait_s)
        self._save(replace(self._record, started=self._now(), ended=None))
        self._first_request = True
        try:
            yield
        finally:
            self._save(replace(self._record, ended=self._now()))

    def _wait_s(self) -> float:
        now = self._now()
        record = self._record
        waits = [0.0]
        if record.started is not None:
            waits.append(MIN_POLL_INTERVAL_S + _PASS_MARGIN_S - now.since(record.started))
        if record.ended is not None:
            waits.append(MIN_REST_S + _PASS_MARGIN_S - now.since(record.ended))
        return max(waits)

    async def before_request(self) -> None:
        """Wait until the next request may leave."""
        while (wait_s := self._last_answer + self._gap_s - self._clock.boottime()) > 0:
            await self._clock.sleep(wait_s)
        if self._first_request:
            # The device counts from the first request it sees, not from our decision to connect.
            self._save(replace(self._record, started=self._now()))
            self._first_request, self._awaits_first = False, True

    def after_answer(self) -> None:
        """Note that the device answered, or that we stopped waiting for it."""
        self._last_answer = self._clock.boottime()
        if self._awaits_first and self._record.started is not None:
            # It has seen the first request by now, perhaps just so: a busy machine sends late.
            on_the_way_s = min(self._last_answer - self._record.started.boottime, _LONGEST_WAY_S)
            self._save(replace(self._record, started=self._record.started.later(on_the_way_s)))
        self._awaits_first = False

    def after_refusal(self) -> None:
        """Note that the device refused a read, or may have."""
        self._save(replace(self._record, refused=self._now()))

    def _save(self, record: _Record) -> None:
        self._record = record
        if self._file is not None:
            # A full disk must not end the polling: this process keeps the pace from memory.
            with suppress(OSError):
                self._file.write(record.dump())
