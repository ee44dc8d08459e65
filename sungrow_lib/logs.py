"""JSON logs on stderr: one object a line, no secrets.

Library code logs with the standard :mod:`logging` and puts what it knows into ``extra``; only an app
decides how that is written, with :func:`configure_logging`.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Final, TextIO

from sungrow_lib.sample import format_ts

_SECRET: Final = re.compile(r"(?i)(bearer\s+)[^\s\"',]+")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
CONTEXT: Final[ContextVar[Mapping[str, object]]] = ContextVar("log context", default=MappingProxyType({}))
"""What every record of the present task says beside its own: the id of the request being answered, say."""

_AS_JSON: Final = json.JSONEncoder(default=str, ensure_ascii=False).encode
_MOST_SAID: Final = 20
"""So many different things are known apart within the time in which each is said once."""
_OTHERS: Final = ""
"""All that come beyond these are counted as one."""
_NOISY: Final = ("httpx", "httpcore", "pymodbus", "aiohttp.access", "psycopg", "asyncio")


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, event, and whatever `extra` brought."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as one line."""
        entry: dict[str, object] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        entry.update(CONTEXT.get())
        entry.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        line = _AS_JSON(entry)
        return _SECRET.sub(r"\1***", line) if "bearer" in line.lower() else line


def _time(moment: float) -> str:
    """The time as :func:`~sungrow_lib.sample.format_ts` writes it; lines of one second share most of it."""
    seconds, us = divmod(round(moment * 1_000_000), 1_000_000)
    return f"{_second(seconds)}{us // 1000:03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return format_ts(datetime.fromtimestamp(seconds, UTC))[: -len("000Z")]


class Repeated:
    """Says what repeats itself once, and then now and then how often it did.

    Also where all is well in between: what comes and goes fills a log as what stays does.

    Args:
        every_s: seconds between two lines about the same thing.
        clock: seconds that go by.
    """

    def __init__(self, every_s: float = 600.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}
        self._is_said = False

    def count(self, what: str) -> int | None:
        """Note that it happened; return how often since the last line if one is due, else None."""
        now = self._clock()
        if what not in self._said and len(self._said) >= _MOST_SAID:
            self._let_go(now)
            what = what if len(self._said) < _MOST_SAID else _OTHERS
        at, unsaid = self._said.get(what, (-math.inf, 0))
        if now - at < self._every_s:
            self._said[what] = at, unsaid + 1
            return None
        self._said[what] = now, 0
        self._is_said = True
        return unsaid + 1

    def over(self) -> bool:
        """Note that all is well now; return whether any trouble was told of since that was noted last."""
        self._let_go(self._clock())
        was_said, self._is_said = self._is_said, False
        return was_said

    def _let_go(self, now: float) -> None:
        """Forget what was said so long ago that it may be said again."""
        self._said = {
            what: (at, unsaid) for what, (at, unsaid) in self._said.items() if now - at < self._every_s
        }


def configure_logging(level: str = "INFO", *, stream: TextIO | None = None) -> None:
    """Send the program's logs to ``stream`` (stderr by default) as JSON lines from ``level`` up.

    Third-party loggers speak from WARNING up only: their debug output may hold headers. What no line says
    (the place in the code, the thread) is not looked for any more: it takes longer than the rest.
    """
    logging._srcfile = None  # noqa: SLF001 - so the documentation of logging has it
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
