"""Run the notebooks on a modelled house and keep them with their plots: `python -m tools.render_notebooks`.

The site shows what this leaves in `notebooks/executed`; another folder may be given.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import nbformat
from nbclient import NotebookClient

from sungrow_lib.demo.setup import clean_environment
from tools.modelled_server import modelled_server

NOTEBOOKS: Final = Path(__file__).resolve().parent.parent / "notebooks"
_TIMEOUT_S: Final = 300
_BESIDE: Final = 2
"""Kernels that run at a time."""


def run_all(target: Path, server: Mapping[str, str]) -> list[Path]:
    """Run every notebook and write it, with what its cells show, into ``target``.

    Args:
        target: made when missing.
        server: variables with the address and the token of a server.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails; the message shows it.
    """
    target.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_run_all(target, server))


async def _run_all(target: Path, server: Mapping[str, str]) -> list[Path]:
    turns = asyncio.Semaphore(_BESIDE)
    sources = sorted(NOTEBOOKS.glob("*.ipynb"))
    return list(await asyncio.gather(*(_run(source, target, server, turns) for source in sources)))


async def _run(source: Path, target: Path, server: Mapping[str, str], turns: asyncio.Semaphore) -> Path:
    notebook = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook,
        timeout=_TIMEOUT_S,
        kernel_name="python3",
        store_widget_state=False,
        resources={"metadata": {"path": str(NOTEBOOKS)}},  # where Jupyter runs them, beside their style
    )
    async with turns:
        await client.async_execute(env=_environment(server))
    written = target / source.name
    nbformat.write(notebook, written)  # type: ignore[no-untyped-call]
    return written


def _environment(server: Mapping[str, str]) -> dict[str, str]:
    """What a kernel sees: nothing of the user's own settings, and this checkout's library."""
    backend = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    return clean_environment() | backend | {"PYTHONPATH": str(NOTEBOOKS.parent), **server}


def main() -> int:
    """Run them all."""
    parser = argparse.ArgumentParser(prog="python -m tools.render_notebooks", description=__doc__)
    parser.add_argument("target", type=Path, nargs="?", default=NOTEBOOKS / "executed", metavar="FOLDER")
    args = parser.parse_args()
    with modelled_server() as server:
        for path in run_all(args.target, server.environment):
            print(path)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    sys.exit(main())
