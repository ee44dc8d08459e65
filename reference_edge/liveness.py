"""Whether the daemon runs: its health file says so, and where that is silent, the lock on its spool."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any, Final

from reference_edge.health import draft_of, is_fresh, read_health
from reference_edge.lock import Holder, holder, is_held
from reference_edge.places import require_room
from sungrow_lib.errors import SpoolUnavailableError

_VARIABLE: Final = "HEALTH_FILE"
_BEGIN_S: Final = 120.0
"""Seconds a daemon may take to its first word: that comes as soon as it opens the spool, not once it has."""


def daemon_health(health_path: Path, spool_path: Path) -> dict[str, Any]:
    """Return what `read_health` does; beside a process that holds the spool, why that is nothing of today.

    Such a process is `running` though nobody can read how it does, with the reason in `trouble`: it must not
    be ended because a disk for its health file is full. Only one that has the spool for some time, could
    write the file and does not, hangs.
    """
    health = read_health(health_path)
    if not is_held(spool_path):
        return health
    if is_fresh(health["age_s"]):  # its process may be out of sight, in a container
        return health | {"running": True}
    daemon = holder(spool_path)
    if daemon.pid not in {None, health.get("pid")}:
        health = {"age_s": None}  # an earlier daemon's
    obstacle = _obstacle(health_path, daemon)
    hangs = obstacle is None and daemon.age_s is not None and daemon.age_s >= _BEGIN_S
    trouble = obstacle or (_hung(health_path, health["age_s"], daemon) if hangs else _unsaid(health_path))
    if not daemon.is_ours:
        trouble += f"; the daemon's own user knows more: ask as {_name(daemon.user)}"
    return {"pid": daemon.pid} | health | {"running": not hangs, "trouble": trouble}


def _obstacle(path: Path, daemon: Holder) -> str | None:
    """Say what keeps the daemon from writing the file, or us from reading it; None where nothing does.

    What another user than the daemon's may not write says nothing of what that may.
    """
    draft = draft_of(path)
    try:
        require_room(path, _VARIABLE)
    except SpoolUnavailableError as error:
        if daemon.is_ours or not isinstance(error.__cause__, PermissionError):
            return str(error)
    for file in (path, draft):
        if os.path.isdir(file):  # noqa: PTH112 - the method raises where we may not look
            return f"{file} is a folder; remove it, or choose another file ({_VARIABLE})"
    if daemon.is_ours and draft.exists() and not os.access(draft, os.W_OK, effective_ids=True):
        return f"{draft} is not this user's to write; remove it, or choose another file ({_VARIABLE})"
    try:
        path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        advice = f"; let this user read it ({_VARIABLE})" if daemon.is_ours else ""
        return f"{path} cannot be read: {error.strerror}{advice}"
    return None


def _hung(path: Path, age_s: float | None, daemon: Holder) -> str:
    quiet_s = min(age for age in (age_s, daemon.age_s) if age is not None)
    or_not = "" if daemon.is_ours else ", or may not write there"
    first = "" if age_s is not None else f"; but see first whether the daemon has the same {_VARIABLE}"
    return (
        f"it has written nothing to {path} for {quiet_s:.0f} s: it hangs{or_not}; look at its log, "
        f"and start it anew{first}"
    )


def _unsaid(path: Path) -> str:
    return (
        f"there is nothing of its in {path} yet; where that stays so, see whether the daemon has the same "
        f"{_VARIABLE} and may write it"
    )


def _name(user: int | None) -> str:
    if user is None:
        return "whoever started it"
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
