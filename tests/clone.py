"""A clone of the repository as it is now, and a version after it that `git pull` brings."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from sungrow_lib import __version__

ROOT: Final = Path(__file__).resolve().parents[1]
NEXT_VERSION: Final = f"{__version__}.post1"
_WHO: Final = {f"GIT_{who}_{what}": "reader" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class Clone:
    """A clone below ``parent``, of an upstream beside it that is this checkout.

    The web page is in it already: building it is another test's matter.

    Attributes:
        folder: where a reader types.
    """

    def __init__(self, parent: Path) -> None:
        self._upstream = parent / "upstream"
        self.folder = parent / "clone"
        for name in self._listed():
            target = self._upstream / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
        self._git("init", "--quiet", "--initial-branch=main")
        self._commit("this version")
        self._git("clone", "--quiet", str(self._upstream), str(self.folder))
        shutil.copytree(ROOT / "reference_server" / "web", self.folder / "reference_server" / "web")
        shutil.copy(ROOT / "dashboard" / ".built", self.folder / "dashboard" / ".built")

    def publish_next(self) -> None:
        """Let upstream have a version with another number and a change of the schema."""
        version = self._upstream / "sungrow_lib" / "_version.py"
        version.write_text(version.read_text().replace(__version__, NEXT_VERSION))
        (self._upstream / "db" / "migrations" / "9999_upgraded.sql").write_text(
            "CREATE TABLE upgraded (n int8);\n"
        )
        self._commit("the next version")

    def _commit(self, message: str) -> None:
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", message)

    def _git(self, *words: str) -> None:
        environment = os.environ | _WHO | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        subprocess.run(["git", *words], cwd=self._upstream, env=environment, check=True)

    @staticmethod
    def _listed() -> list[str]:
        """Files git knows or would add; those deleted and not yet committed are left out."""
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
