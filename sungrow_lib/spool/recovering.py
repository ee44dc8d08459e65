"""Opens the spool's file, and replaces a damaged one first where that is wanted."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from sungrow_lib.errors import SpoolCorruptError, SpoolUnavailableError
from sungrow_lib.spool.database import Database, MixedPagesError
from sungrow_lib.spool.entries import SpoolOptions
from sungrow_lib.spool.errors import is_in_rows, translated
from sungrow_lib.spool.foreign import is_unused, require_spool, unfinished
from sungrow_lib.spool.holding import own
from sungrow_lib.spool.opening import SpoolOpening
from sungrow_lib.spool.reserve import Reserve


def open_database(
    path: Path, options: SpoolOptions, damage: str | None, opening: SpoolOpening
) -> tuple[Database, bool]:
    """Open the file; with `SpoolOptions.recover` a damaged one is recovered first, or one called damaged.

    What an earlier process was about to do when it ended is finished then, too. Where the file cannot be made
    its owner's, though no page is damaged, it is replaced: trying for ever, nothing would ever be accepted.

    Returns:
        The file, and whether it goes by other names from now on.

    Raises:
        SpoolError: it cannot be done.
    """
    if path.is_symlink():  # what belongs to the file is beside it, not beside its other name
        path = Path(os.path.realpath(path))
    with translated(path):
        try:
            return _owned(_open(path, options, damage, opening), options)
        except SpoolCorruptError as error:
            if not options.recover or not is_in_rows(error.__cause__):
                raise
            from sungrow_lib.spool.salvage import recover  # noqa: PLC0415 - memory, hardly ever needed

            recover(path, str(error), opening, owner=options.owner)
        try:
            return _owned(_open(path, options, None, opening), options)
        except SpoolCorruptError as error:
            if not is_in_rows(error.__cause__):  # it was damaged only now: the next attempt recovers it
                raise
            # What is readable of it is what is wrong: all of it stays aside.
            recover(path, str(error), opening, owner=options.owner, is_taken=False)
        return _owned(_open(path, options, None, opening), options)


def _owned(database: Database, options: SpoolOptions) -> tuple[Database, bool]:
    def make_own() -> bool:
        with database.write() as connection:
            return own(connection, options.owner)

    try:
        return database, Reserve(database.path, options.reserve_bytes).with_part(make_own)
    except BaseException:
        database.give_up()
        raise


def _open(path: Path, options: SpoolOptions, damage: str | None, opening: SpoolOpening) -> Database:
    make = partial(
        Database,
        path,
        busy_timeout_s=options.busy_timeout_s,
        max_bytes=options.max_bytes,
        check=options.check,
        opening=opening,
        stays=options.recover,
    )
    attempt = partial(Reserve(path, options.reserve_bytes).with_part, make)

    is_cut_off = unfinished(path).exists() and is_unused(path)
    if not options.recover:
        if is_cut_off:  # what is there is empty, or opening it would make an empty one
            raise SpoolUnavailableError(
                f"A recovery of the spool {path} was cut off; `sungrow-edge run` completes it."
            )
        return attempt()
    from sungrow_lib.spool.returning import finish  # noqa: PLC0415 - memory, hardly ever needed

    finish(path, opening)
    if unfinished(path).exists():
        from sungrow_lib.spool.salvage import finish_interrupted  # noqa: PLC0415 - as above

        finish_interrupted(path)
    if damage is not None and not is_cut_off and path.exists():
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
