"""Child processes of the demo: started apart from the terminal, watched, and stopped in order."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from sungrow_lib.errors import SungrowError

_POLL_S: Final = 0.05
_REST: Final = 2.0
_LONGEST_REST_S: Final = 1.0
"""So many times as long as a look takes is the pause after it, but no longer than this: who starts a program
to look, again and again, holds up what is waited for."""
_TAIL_LINES: Final = 15
_TAIL_BYTES: Final = 16_384


def _parting() -> Callable[[], None] | None:
    """What makes a process end when the demo is killed; None where the system knows no such thing."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_PR_SET_PDEATHSIG: Final = 1
_PARTING: Final = _parting()


class ChildError(SungrowError):
    """A process of the demo ended too early or did not do its job."""


class Child:
    """A process of the demo, its output going to a log file.

    It has a process group of its own: Ctrl-C in the terminal reaches the demo only, which then stops its
    children in the order that loses nothing. On Linux it ends too when the demo is killed.

    Args:
        name: what to call it in messages.
        command: program and arguments.
        log: file its output is appended to.
        environment: the whole environment; this process's by default.

    Raises:
        ChildError: it cannot be started.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, *, environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(  # noqa: S603 - our own programs
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_PARTING,  # noqa: PLW1509 - one system call; this program has one thread
                    env=environment,
                )
        except OSError as error:
            raise ChildError(f"cannot start {name}: {error.strerror}") from None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def require_running(self) -> None:
        """Do nothing while it runs.

        Raises:
            ChildError: it has ended; the message holds the end of its log.
        """
        status = self.exit_status
        if status is not None:
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            raise ChildError(f"{self.name} ended early ({how}); the end of {self.log}:\n{self.tail()}")

    def stop(self, patience_s: float) -> bool:
        """Ask it to end (SIGTERM), and end it (SIGKILL) when it has not after ``patience_s`` seconds.

        Returns:
            Whether it ended by itself.
        """
        if self.exit_status is not None:
            return True
        self._process.terminate()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        return True

    def last_line(self) -> str:
        """What its log says last; nothing when it says nothing."""
        return "".join(self.tail().splitlines()[-1:]).strip()

    def tail(self) -> str:
        """The last lines of its log."""
        with contextlib.suppress(OSError), self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()
            return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:])
        return "  (no log)"


@dataclass(frozen=True, slots=True)
class Job:
    """A program that is run to its end.

    Attributes:
        name: what to call it in messages.
        command: program and arguments.
        environment: its whole environment; this process's by default.
    """

    name: str
    command: Sequence[str]
    environment: dict[str, str] | None = None


def run_jobs(*jobs: Job, timeout_s: float = 120.0) -> list[str]:
    """Run programs side by side and return what each printed.

    Raises:
        ChildError: one failed or took too long; the message holds what it said. The others are ended.
    """
    deadline = time.monotonic() + timeout_s
    with contextlib.ExitStack() as started:
        processes = [started.enter_context(_running(job)) for job in jobs]
        return [
            _output(job, process, max(0.0, deadline - time.monotonic()))
            for job, process in zip(jobs, processes, strict=True)
        ]


@contextlib.contextmanager
def _running(job: Job) -> Iterator[subprocess.Popen[str]]:
    try:
        process = subprocess.Popen(  # noqa: S603 - our own programs
            list(job.command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=job.environment,
        )
    except OSError as error:
        raise ChildError(f"cannot start {job.name}: {error.strerror}") from None
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _output(job: Job, process: subprocess.Popen[str], timeout_s: float) -> str:
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise ChildError(f"{job.name} took too long") from None
    if process.returncode != 0:
        said = "\n".join(f"  {line}" for line in errors.splitlines()[-_TAIL_LINES:])
        raise ChildError(f"{job.name} failed (exit status {process.returncode}):\n{said}")
    return output


def wait_until(
    what: str, is_so: Callable[[], bool], *, timeout_s: float, watched: Sequence[Child] = ()
) -> None:
    """Wait until ``is_so`` returns true, while all of ``watched`` run.

    Raises:
        ChildError: it did not become so in time, or a watched process ended.
    """
    deadline = time.monotonic() + timeout_s
    begun = time.monotonic()
    while not is_so():
        took_s = time.monotonic() - begun
        for child in watched:
            child.require_running()
        if time.monotonic() > deadline:
            logs = "".join(f"\nthe end of {child.log}:\n{child.tail()}" for child in watched)
            raise ChildError(f"waited {timeout_s:.0f} s in vain for {what}{logs}")
        time.sleep(max(_POLL_S, min(_REST * took_s, _LONGEST_REST_S)))
        begun = time.monotonic()


def python(module: str, *arguments: str) -> list[str]:
    """Command line that runs a module of this installation with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into the KeyboardInterrupt that SIGINT is, for the block."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def undisturbed(notice: str) -> Iterator[None]:
    """Let nothing interrupt the block; a signal prints ``notice`` instead."""

    def note(number: int, frame: FrameType | None) -> None:
        del number, frame
        os.write(sys.stderr.fileno(), f"\n{notice}\n".encode())

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
