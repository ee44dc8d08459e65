"""Opens the spool's file, and replaces a damaged one first where that is wanted."""

from __future__ import annotations

import os
from pathlib import Path

from sungrow_lib.errors import SpoolCorruptError
from sungrow_lib.spool.database import Database, MixedPagesError, translated
from sungrow_lib.spool.entries import SpoolOptions
from sungrow_lib.spool.foreign import require_spool
from sungrow_lib.spool.opening import SpoolOpening


def open_database(path: Path, options: SpoolOptions, damage: str | None, opening: SpoolOpening) -> Database:
    """Open the file; with `SpoolOptions.recover` a damaged one is recovered first, or one called damaged.

    What an earlier process was about to do when it ended is finished then, too.

    Raises:
        SpoolError: it cannot be done.
    """
    with translated(path):
        return _open(path, options, damage, opening)


def _open(path: Path, options: SpoolOptions, damage: str | None, opening: SpoolOpening) -> Database:
    def attempt() -> Database:
        return Database(
            path,
            busy_timeout_s=options.busy_timeout_s,
            max_bytes=options.max_bytes,
            check=options.check,
            opening=opening,
            stays=options.recover,
        )

    if path.is_symlink():  # what belongs to the file is beside it, not beside its other name
        path = Path(os.path.realpath(path))
    if not options.recover:
        return attempt()
    from sungrow_lib.spool.returning import finish  # noqa: PLC0415 - memory, hardly ever needed

    finish(path, opening)
    if not path.exists():
        from sungrow_lib.spool.salvage import finish_interrupted  # noqa: PLC0415 - as above

        finish_interrupted(path)
    elif damage is not None:
        from sungrow_lib.spool.salvage import recover  # noqa: PLC0415 - as above

        require_spool(path)
        recover(path, damage, opening, owner=options.owner)
    try:
        return attempt()
    except SpoolCorruptError as error:
        from sungrow_lib.spool.salvage import recover  # noqa: PLC0415 - as above

        is_mixed = isinstance(error, MixedPagesError)
        recover(path, str(error), opening, is_mixed=is_mixed, owner=options.owner)
        return attempt()
