"""What becomes of a command's errors: one clear line on stderr, and an exit status."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Final, TypeVar

from sungrow_lib.cli.parser import EXIT_USAGE
from sungrow_lib.cli.start import EXIT_FAILED
from sungrow_lib.errors import SungrowError, UsageError

__all__ = ["EXIT_FAILED", "EXIT_OK", "guarded", "lacking"]

EXIT_OK: Final = 0
_TAKES_NO_MORE: Final = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_Error = TypeVar("_Error", bound=Exception)


def guarded(program: str, job: Callable[[], int], *, until_stopped: bool = False) -> int:
    """Run ``job``; turn every error a user can cause into one clear line on stderr and an exit status.

    Args:
        program: its name.
        job: returns the exit status.
        until_stopped: Ctrl-C and SIGTERM are how this job ends, and no failure.
    """
    try:
        status = job()
        sys.stdout.flush()
    except SungrowError as error:
        return _complain(program, error)
    except KeyboardInterrupt:
        return _interrupted(program, until_stopped=until_stopped)
    except BaseExceptionGroup as group:  # from a task group
        if group.subgroup(KeyboardInterrupt) is not None:
            return _interrupted(program, until_stopped=until_stopped)
        expected, others = group.split(SungrowError)
        if expected is None or others is not None:
            raise
        return _complain(program, first_of(expected))
    except OSError as error:
        return _without_output(program, error)
    return status


def _without_output(program: str, error: OSError) -> int:
    """Return the exit status where stdout takes no more; whatever else went wrong is raised.

    Whoever writes a file of its own tells what became of it by itself, and an error of it bears its name.
    """
    if error.filename is not None or error.errno not in _TAKES_NO_MORE:
        raise error
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter tries once more
    if isinstance(error, BrokenPipeError):
        return EXIT_OK  # the reader of our output went away (`sungrow read | head`): that is its right
    print(f"{program}: the output cannot be written: {error.strerror}", file=sys.stderr)
    return EXIT_FAILED


def lacking(program: str, *, extra: str, error: ModuleNotFoundError) -> int:
    """Say that ``program`` was installed without the extra it needs."""
    needed = f"the package {error.name} is not installed: pip install 'sungrow-lib[{extra}]'"
    print(f"{program}: {needed}", file=sys.stderr)
    return EXIT_FAILED


def _interrupted(program: str, *, until_stopped: bool) -> int:
    if until_stopped:
        return EXIT_OK
    print(f"{program}: interrupted before it was done", file=sys.stderr)
    return EXIT_FAILED


def _complain(program: str, error: SungrowError) -> int:
    print(f"{program}: {error}", file=sys.stderr)
    return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED


def first_of(group: BaseExceptionGroup[_Error]) -> _Error:
    """Return the first of the errors in a group, or in the groups in it."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error
