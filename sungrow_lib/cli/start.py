"""Starts the product's commands so that Ctrl-C, SIGTERM and SIGHUP end them in one line, from the beginning.

A command spends most of its first second on imports, so this module imports next to nothing, and what starts
a command imports this module before all else.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

EXIT_FAILED = 1

_SERVICE = "run"
_WITH_VALUE = "--config"
"""The one option with a word of its own that may stand before the command."""
_HANGUP = [signal.SIGHUP] if sys.platform != "win32" else []


def start(program: str, prepare: Callable[[], Callable[[], int]], *, has_service: bool = False) -> int:
    """Run a command and return its exit status.

    Args:
        program: its name, for what is said about it.
        prepare: does the imports, reads the command line and returns the job. An interrupt meanwhile ends
            the program at once: nothing has begun. The job sees one as `KeyboardInterrupt`, SIGTERM as well.
            To a service, which runs until it is stopped, that is no failure.
        has_service: whether its command `run` is one.
    """
    ending = _Ending(program, is_service=has_service and _command(sys.argv[1:]) == _SERVICE)
    sys.excepthook, sys.unraisablehook = ending.excepthook, ending.unraisablehook
    _handle(ending.unbegun)
    try:
        job = prepare()
        ending.of_what = "before it was done"
        _handle(signal.default_int_handler, _as_interrupt)
        return job()
    finally:
        # The answer is given; the interpreter is packing up.
        for number in (signal.SIGINT, signal.SIGTERM, *_HANGUP):
            signal.signal(number, signal.SIG_IGN)


def _command(words: list[str]) -> str | None:
    """Return the command, before anything is there that could read the command line."""
    left = iter(words)
    for word in left:
        if word == _WITH_VALUE:
            next(left, None)
        elif not word.startswith("-"):
            return word
    return None


def _handle(sigint: Callable[..., object], sigterm: Callable[..., object] | None = None) -> None:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell starts jobs in the background
        signal.signal(signal.SIGINT, sigint)
    signal.signal(signal.SIGTERM, sigterm or sigint)
    for number in _HANGUP:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup starts jobs
            signal.signal(number, _as_termination)


def _as_termination(_number: int, _frame: object) -> None:
    """Do for a terminal that went away what is done for SIGTERM, whoever handles that by now."""
    signal.raise_signal(signal.SIGTERM)


def _as_interrupt(number: int, frame: object) -> None:
    """Do for SIGTERM what is done for SIGINT now: an event loop, for one, has a way of its own."""
    del number
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)  # type: ignore[arg-type]  # a frame, as this function got it


class _Ending:
    """How a program ends where nothing is left that could handle an interrupt."""

    def __init__(self, program: str, *, is_service: bool) -> None:
        self.of_what = "before it began"
        self._program = program
        self._is_service = is_service

    def unbegun(self, *_: object) -> None:
        if self._is_service:
            os._exit(0)
        self.at_once()

    def at_once(self, *_: object) -> None:
        os.write(2, f"{self._program}: interrupted {self.of_what}\n".encode())
        os._exit(EXIT_FAILED)

    def excepthook(self, kind: type[BaseException], error: BaseException, trace: object) -> None:
        """Be what shows an error that nothing has caught: a second Ctrl-C while the first one was handled."""
        if issubclass(kind, KeyboardInterrupt):
            self.at_once()
        sys.__excepthook__(kind, error, trace)  # type: ignore[arg-type]  # a traceback, as this method got it

    def unraisablehook(self, failure: sys.UnraisableHookArgs) -> None:
        """Be what shows an error that nothing can catch: Ctrl-C while an object is cleared away."""
        if issubclass(failure.exc_type, KeyboardInterrupt):
            self.at_once()
        sys.__unraisablehook__(failure)
