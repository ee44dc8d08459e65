"""Build the web page before it is packed, so that `pip install .` in a clone gives a whole server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WebPage(BuildHookInterface[BuilderConfig]):
    """Runs tools/page.py, which does nothing when the page is built already."""

    def dependencies(self) -> list[str]:
        """Name the package that brings Node when the page has to be built and there is none."""
        return self._page_tool("--requires").split() if self._has_sources else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page; a source distribution carries it instead of its sources."""
        del version, build_data
        if self._has_sources:
            self._page_tool()
        elif not (Path(self.root) / "reference_server" / "web" / "index.html").is_file():
            self.app.abort("the web page is missing, and so are its sources: build from a clone")

    @property
    def _has_sources(self) -> bool:
        return (Path(self.root) / "dashboard" / "package.json").is_file()

    def _page_tool(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "tools.page", *arguments]
        answer = subprocess.run(command, cwd=self.root, stdout=subprocess.PIPE, text=True, check=False)
        if answer.returncode != 0:
            self.app.abort("the web page could not be built")
        return answer.stdout
