"""Whether the daemon runs: its health file says so, and where that is silent, the lock on its spool."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from reference_edge.health import read_health
from reference_edge.lock import holder_pid, is_held
from reference_edge.places import require_room
from sungrow_lib.errors import SpoolUnavailableError

_VARIABLE: Final = "HEALTH_FILE"


def daemon_health(health_path: Path, spool_path: Path) -> dict[str, Any]:
    """Return what `read_health` does; beside a process that holds the spool, why that is nothing of today.

    Such a process is `running` though nobody can read how it does, with the reason in `trouble`: it must not
    be ended because a disk for its health file is full. Only one that could write the file and does not, when
    it did before, hangs.
    """
    health = read_health(health_path)
    if health["running"] or not is_held(spool_path):
        return health
    pid = holder_pid(spool_path)
    trouble = _obstacle(health_path)
    if health["age_s"] is None or pid not in {None, health["pid"]}:
        return {"running": True, "age_s": None, "pid": pid, "trouble": trouble or _unsaid(health_path)}
    hung = f"it has written nothing to {health_path} for {health['age_s']:.0f} s: it hangs; look at its log, "
    hung += "and start it anew"
    return health | {"running": trouble is not None, "trouble": trouble or hung}


def _obstacle(path: Path) -> str | None:
    """Say what keeps anybody from writing or reading the file; None where nothing does."""
    try:
        require_room(path, _VARIABLE)
        if path.is_dir():
            return f"{path} is a folder; remove it, or choose another file ({_VARIABLE})"
        path.read_bytes()
    except SpoolUnavailableError as error:
        return str(error)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}; let this user read it ({_VARIABLE})"
    return None


def _unsaid(path: Path) -> str:
    return (
        f"there is nothing of its in {path} yet; where that stays so, see whether the daemon has the same "
        f"{_VARIABLE} and may write it"
    )
