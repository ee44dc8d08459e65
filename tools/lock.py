"""Write requirements/*.lock anew from pyproject.toml: `make lock`.

Uses uv (`pip install uv`, wherever you like; it has to be on the PATH). Versions change only where
pyproject.toml asks for it, or all of them with `make lock ARGS=--upgrade`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = "--group=build"  # what installs the checkout itself
SETS: Final = {
    "dev": ["--extra=dev", BUILD],
    "demo": ["--extra=demo", BUILD],
    "library": [],
    "edge": ["--extra=edge"],
    "server": ["--extra=server"],
    "build": ["--only-group=build"],
    "node": ["--only-group=node"],
}
WITHOUT_LIBRARY: Final = {
    "build": "the build of a wheel without a build environment of its own",
    "node": "the web page's build without an installed Node",
}
HEADER: Final = """\
# Everything {what} needs, pinned by hash, for Python 3.11 to 3.14 on every platform.
# Made from pyproject.toml by `make lock` (uv {version}, `pip install uv`); do not edit.
# Install with: pip install --require-hashes -r requirements/{name}.lock
"""


def main() -> int:
    """Resolve once, then write one file per set."""
    uv = shutil.which("uv")
    if uv is None:
        print("make lock needs uv on the PATH: pip install uv", file=sys.stderr)
        return 2
    run(uv, "lock", *sys.argv[1:])
    version = run(uv, "--version").split()[1]
    for name, options in SETS.items():
        pinned = run(
            uv, "export", "--frozen", "--no-emit-project", "--no-default-groups", "--no-header", *options
        )
        header = HEADER.format(what=what(name), version=version, name=name)
        (ROOT / "requirements" / f"{name}.lock").write_text(header + pinned)
        print(f"requirements/{name}.lock: {pinned.count('==')} packages")
    return 0


def what(name: str) -> str:
    """Say what a set is for."""
    if name in WITHOUT_LIBRARY:
        return WITHOUT_LIBRARY[name]
    return "sungrow-lib" if name == "library" else f"sungrow-lib[{name}]"


def run(*command: str) -> str:
    """Run ``command`` in the project's root and return what it prints."""
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    raise SystemExit(main())
