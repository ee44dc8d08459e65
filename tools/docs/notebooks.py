"""The notebooks as pages: text, code, and what each cell shows when it is run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tools.docs.markdown import fenced

NOTEBOOKS: Final = Path(__file__).resolve().parents[2] / "notebooks"
_ABOUT: Final = """\
> This is [`notebooks/{name}`](pathname:///notebooks/{name}) of the repository, as it ran on a modelled
> house when this page was built. [Run it on your own data](../library.md#in-a-notebook).
"""
EXECUTED: Final = NOTEBOOKS / "executed"
"""Where running them leaves the notebooks with their plots; git-ignored."""


def write_notebooks(target: Path) -> None:
    """Write a page for each notebook, with its plots where it has been run."""
    shutil.rmtree(target, ignore_errors=True)
    for source in sorted(NOTEBOOKS.glob("*.ipynb")):
        target.mkdir(parents=True, exist_ok=True)
        executed = EXECUTED / source.name
        notebook = json.loads((executed if executed.is_file() else source).read_text(encoding="utf-8"))
        (target / f"{source.stem}.md").write_text("\n".join(_page(notebook, source.name)), encoding="utf-8")


def _page(notebook: dict[str, Any], name: str) -> Iterator[str]:
    description = f"The notebook {name}, run on modelled data"
    yield f'---\ndescription: "{description}"\nhide_table_of_contents: true\n---\n'
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield f"{source}\n"
            if source.startswith("# "):
                yield _ABOUT.format(name=name)
        elif source.strip():
            yield fenced(source, "python")
            yield from _outputs(cell["outputs"])


def _outputs(outputs: list[dict[str, Any]]) -> Iterator[str]:
    for output in outputs:
        data = output.get("data", {})
        text = "".join(output.get("text", data.get("text/plain", "")))
        if "image/svg+xml" in data:
            yield "".join(data["image/svg+xml"]).partition("?>")[2] or "".join(data["image/svg+xml"])
        elif "image/png" in data:
            image = "".join(data["image/png"]).replace("\n", "")
            yield f"![What the cell draws](data:image/png;base64,{image})\n"
        elif text.strip():
            yield fenced(text)
