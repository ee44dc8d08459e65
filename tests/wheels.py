"""What readers and images install, brought from the registry once a run and not by each test again.

Only the way is shorter: what is installed is still what the lock files pin, and checked by its hash. That a
registry is enough is the matter of tests/packaging.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_REQUIREMENTS: Final = Path(__file__).resolve().parents[1] / "requirements"
_LOCKS: Final = ("server", "edge", "build", "node")


def bring(folder: Path) -> dict[str, str]:
    """Fill ``folder``, unless another process of this run has; return what lets pip use it alone."""
    folder.mkdir(exist_ok=True)
    done = folder / "done"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            for python in _pythons():
                _download(python, folder)
            done.touch()
    # Of what is installed little is started: to compile all of it would be half of the work.
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_COMPILE": "0"}


def _pythons() -> list[str]:
    """The one that runs the tests, and the one a reader's shell finds when that is of another version."""
    found = {_version(python): python for python in (shutil.which("python3"), sys.executable) if python}
    return list(found.values())


def _version(python: str) -> str:
    command = [python, "-c", "import sys; print(sys.version_info[:2])"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _download(python: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "--python", python, "download", "--quiet", "--no-cache-dir"]
    command += ["--require-hashes", "--only-binary", ":all:", "--dest", str(folder)]
    for name in _LOCKS:
        command += ["--requirement", str(_REQUIREMENTS / f"{name}.lock")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
