"""Starts `sungrow-edge`; `python -m reference_edge` is the same."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

from sungrow_lib.cli.start import start

_AUTHORITIES: Final = "certifi"
"""Public ones: where one is named, or the system has its own, they and what finds them are not needed."""
_PLUGINS: Final = "pydantic.plugin._loader"
_ZONES: Final = Path("/usr/share/zoneinfo")


def main() -> int:
    """Run the command line and return its exit status."""
    # Else pydantic looks through all installed packages for plugins: time and memory for nothing here.
    if os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__") == "__all__":
        sys.modules.setdefault(_PLUGINS, _NoPlugins(_PLUGINS))
    # Else Python loads all it knows of how it was built, to find what is here on nearly every system.
    if _ZONES.is_dir():
        os.environ.setdefault(
            "PYTHONTZPATH", f"{_ZONES}:/usr/lib/zoneinfo:/usr/share/lib/zoneinfo:/etc/zoneinfo"
        )
    sys.modules.setdefault(_AUTHORITIES, _WhenUsed(_AUTHORITIES))
    return start("sungrow-edge", _prepare, has_service=True)


class _WhenUsed(ModuleType):
    """Stands for a module that much imports and hardly anything uses; whoever does gets the module itself."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # what the import system asks
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


class _NoPlugins(_WhenUsed):
    """Says that there are no plugins, in place of a module that loads a megabyte first to say the same."""

    @staticmethod
    def get_plugins() -> tuple[()]:
        """Return no plugins."""
        return ()


def _prepare() -> Callable[[], int]:
    from reference_edge.cli import prepare  # noqa: PLC0415 - guarded by `start`

    return prepare()


if __name__ == "__main__":
    sys.exit(main())
