from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.memory import folder_in_memory, has_plenty

ROOT = Path(__file__).resolve().parents[1]


def test_nobody_s_folder_is_removed_and_one_in_use_is_not(tmp_path: Path) -> None:
    killed = (
        "import os, signal; from pathlib import Path; from tests.memory import folder_in_memory\n"
        f"with folder_in_memory(Path({str(tmp_path)!r})) as folder:\n"
        "    (folder / 'file').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", killed], cwd=ROOT, check=False)
    [left] = tmp_path.iterdir()
    with folder_in_memory(tmp_path) as first, folder_in_memory(tmp_path) as second:
        assert {*tmp_path.iterdir()} == {first, second}
        assert left not in {first, second}
    assert [*tmp_path.iterdir()] == []


def test_what_is_not_there_or_too_small_is_not_used(tmp_path: Path) -> None:
    assert has_plenty(tmp_path, 1)
    assert not has_plenty(tmp_path, 1 << 60)
    assert not has_plenty(tmp_path / "nothing", 1)
