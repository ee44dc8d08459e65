"""Set up the checkout's own environment: `python3 tools/bootstrap.py dev`. The Makefile calls this.

Needs nothing but Python, and writes nothing outside the checkout. Does its work again only when a lock file,
the project's metadata, the Python or the place of the checkout changes. Builds the web page, too
(tools/page.py), with Node from the PATH or, where none fits, from a package.

The syntax stays old on purpose: a Python that is too old has to be able to read this far to say so.
"""

import hashlib
import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
INCLUDES = {"demo": ("dev",), "dev": ()}
"""Set -> the sets whose environment has all of it."""


def main() -> int:
    """Make the environment fit for the set named on the command line."""
    wanted = sys.argv[1]
    check_python()
    if any(stamp(name).is_file() and stamp(name).read_text() == state(name) for name in accepted(wanted)):
        build_page(wanted)
        return 0
    make_environment()
    packages = lock_file(wanted)
    count = sum("==" in line and not line.startswith("#") for line in packages.read_text().splitlines())
    say(f"Installing up to {count} packages, pinned by hash, into .venv (once; about a minute)")
    pip(["--require-hashes", "--requirement", str(packages)])
    build_page(wanted)
    pip(["--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    stamp(wanted).write_text(state(wanted))
    return 0


def check_python() -> None:
    """Leave with one clear line when this Python cannot do it."""
    if sys.version_info < OLDEST:
        leave(
            "Python {}.{} or newer is needed, this is {} ({}); give one: make PYTHON=/path/to/python3".format(
                *OLDEST, platform.python_version(), sys.executable
            )
        )
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        leave(
            "{} lacks the standard modules {}; on Debian and Ubuntu: apt install python3-venv".format(
                sys.executable, " and ".join(missing)
            )
        )


def build_page(wanted: str) -> None:
    """Build the web page when its sources have changed."""
    command = [str(PYTHON), "-m", "tools.page", *(["--dev"] if wanted == "dev" else [])]
    needed = run([*command, "--requires"])
    if needed.returncode != 0:
        leave("the web page: " + last_line(needed.stdout))
    if needed.stdout.strip():
        say("Installing Node for the web page, as none is on the PATH (once)")
        pip(["--require-hashes", "--requirement", str(lock_file("node"))])
    if subprocess.run(command, cwd=str(ROOT), env=environment(), check=False).returncode != 0:
        raise SystemExit(1)  # it said why


def lock_file(name: str) -> Path:
    """File that pins the packages of set ``name``."""
    return ROOT / "requirements" / (name + ".lock")


def accepted(wanted: str) -> "tuple[str, ...]":
    """Sets that will do."""
    return (wanted, *INCLUDES[wanted])


def stamp(name: str) -> Path:
    """File that says what was installed when set ``name`` was."""
    return VENV / ("installed-" + name)


def state(name: str) -> str:
    """Digest of everything the environment of set ``name`` depends on."""
    digest = hashlib.sha256()
    for path in (lock_file(name), ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    digest.update(repr((sys.version_info, os.path.realpath(sys.executable), str(ROOT))).encode())
    return digest.hexdigest() + "\n"


def make_environment() -> None:
    """Make .venv, or make it again when it is of another Python."""
    version = "import sys, pip; print(sys.version_info[:3])"
    found = run([PYTHON, "-c", version]) if PYTHON.exists() else None
    if found is not None and found.returncode == 0 and found.stdout.strip() == str(sys.version_info[:3]):
        return
    say(f"Making an environment of Python {platform.python_version()} in .venv")
    made = run([sys.executable, "-m", "venv", "--clear", VENV])
    if made.returncode != 0:
        leave("cannot make .venv: " + last_line(made.stdout))


def pip(arguments: "list[str]") -> None:
    """Install, showing how far it is."""
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--no-cache-dir"]
    lines = []
    collected = 0
    with subprocess.Popen(
        [str(word) for word in [*command, *arguments]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if line.startswith("Collecting "):
                collected += 1
                progress(f"  {collected:3d} {line.split()[1]}")
    progress("")
    if process.returncode != 0:
        leave("pip failed:\n  " + "\n  ".join(lines[-15:]))


def environment() -> "dict[str, str]":
    """The user's environment without what would make pip install elsewhere or otherwise."""
    unwanted = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, "PIP_USER": "0", "PIP_REQUIRE_HASHES": "0", "PYTHONNOUSERSITE": "1"}


def run(command: "list[object]") -> "subprocess.CompletedProcess[str]":
    """Run a short command, its errors in its output."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
        text=True,
        check=False,
    )


def last_line(text: str) -> str:
    """Last line of ``text`` with something on it."""
    return (text.strip().splitlines() or ["no reason given"])[-1]


def say(text: str) -> None:
    """Tell the user what happens."""
    print(text, flush=True)


def progress(text: str) -> None:
    """Show what is being done, on one line, where someone looks."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)


def leave(problem: str) -> None:
    """End with one clear line."""
    print("set-up: " + problem, file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    raise SystemExit(main())
