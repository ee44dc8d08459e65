"""Every kind of fault beside storms and damages, and what it is counted as."""

from __future__ import annotations

from typing import Final

from tests.crash.card_deeds import ANEW, EARLIER_LIFE, NAMELESS, OTHERS, OWN_AGAIN, RENAMING_KILLED
from tests.crash.damage import DAMAGES, DAMAGES_IN_USE
from tests.crash.gate import ABOUT_ONE
from tests.crash.polls import POLLED
from tests.crash.use_deeds import AWAY, FAILING, STARTS

TWINS_MET: Final = "two edges with one device id: readings of one time"
"""Not a fault that is done at some moment: two edges have it all the time."""

COUNTED: Final[dict[str, tuple[str, ...]]] = {
    "kill_fed": ("SIGKILL: fed edge",),
    "kill_edge": ("SIGKILL: sungrow-edge",),
    "kill_server": ("SIGKILL: sungrow-server",),
    "kill_database": ("SIGKILL: PostgreSQL",),
    "forbid_writes": ("database read-only: ingest refused",),
    "fill_server_disk": ("database's disk full: ingest refused",),
    "cut": ("edge-server: connection cut",),
    "mute": ("edge-server: connection half-open",),
    "narrow_line": ("one edge-server: narrow",),
    "cut_database": ("server-database: connection cut",),
    "mute_database": ("server-database: connection half-open",),
    "cut_modbus": ("dongle-edge: connection cut",),
    "mute_modbus": ("dongle-edge: connection half-open",),
    "spoil_modbus": ("dongle-edge: answer lost", "dongle-edge: answer doubled"),
    "replace_token": ("token revoked and replaced",),
    "bend_clock": ("clock jump: fed edge",),
    "bend_edge_clock": ("clock jump: sungrow-edge",),
    "step_clock": ("clock stepped while a backlog drains",),
    "limit_spool": ("spool at its limit",),
    "fill_disk": ("disk full", "disk full until readings are merged"),
    "fill_disk_at_recovery": ("disk full during a recovery",),
    "damage_waiting": ("spool damaged: log with waiting readings",),
    "damage_edge": tuple(f"{POLLED}: {name}" for name in DAMAGES),
    "damage_edge_in_use": tuple(f"{POLLED}: {name}" for name in DAMAGES_IN_USE),
    "take_away": tuple(AWAY),
    "take_away_from_edge": tuple(f"{POLLED}: {name}" for name in AWAY),
    "fail_disk": tuple(FAILING),
    "fail_edge_disk": tuple(f"{POLLED}: {name}" for name in FAILING),
    "start_without_disk": tuple(STARTS),
    "start_edge_without_disk": tuple(f"{POLLED}: {name}" for name in STARTS),
    "lose_names": (NAMELESS, RENAMING_KILLED),
    "lose_edge_names": (f"{POLLED}: {NAMELESS}", f"{POLLED}: {RENAMING_KILLED}"),
    "lend_spool": (OTHERS,),
    "lend_edge_spool": (f"{POLLED}: {OTHERS}",),
    "return_spool": (OWN_AGAIN,),
    "return_edge_spool": (f"{POLLED}: {OWN_AGAIN}",),
    "begin_anew": (ANEW,),
    "begin_edge_anew": (f"{POLLED}: {ANEW}",),
    "return_to_earlier_life": (EARLIER_LIFE,),
    "return_edge_to_earlier_life": (f"{POLLED}: {EARLIER_LIFE}",),
    "copy_edge_spool": (f"{POLLED}: spool copied to be restored",),
    "restore_edge_spool": (f"{POLLED}: spool restored from an older copy",),
    "fill_edge_disk": (f"{POLLED}: disk full",),
    "copy_spool": ("spool copied to be restored",),
    "restore_spool": ("spool restored from an older copy",),
    "copy_card": ("spool copied to another edge of the same device",),
    "back_up_server": ("server backed up",),
    "restore_server": ("server restored from an older backup",),
    "restore_server_twice": (
        "token revoked during a resend",
        "server restored again during a resend",
        f"answer: {ABOUT_ONE}",
    ),
    "delay_across_restarts": ("restart amid delayed requests and answers",),
}
"""The names under which each kind is counted: all are printed, with 0 when it never struck."""
ALL_THE_TIME: Final = frozenset({"spoil_modbus"})
"""What goes on by itself."""
OF_INVERTERS: Final = frozenset(
    {
        "cut_modbus",
        "mute_modbus",
        "spoil_modbus",
        "kill_edge",
        "bend_edge_clock",
        "damage_edge",
        "damage_edge_in_use",
        "take_away_from_edge",
        "fail_edge_disk",
        "start_edge_without_disk",
        "copy_edge_spool",
        "restore_edge_spool",
        "lose_edge_names",
        "lend_edge_spool",
        "return_edge_spool",
        "begin_edge_anew",
        "return_edge_to_earlier_life",
        "fill_edge_disk",
    }
)
OF_COMPILER: Final = frozenset(
    {
        "fail_disk",
        "fail_edge_disk",
        "start_without_disk",
        "start_edge_without_disk",
        "lose_names",
        "lose_edge_names",
    }
)
OF_SMALL_DISK: Final = frozenset({"fill_disk", "fill_disk_at_recovery", "fill_edge_disk"})
_OFTEN: Final = {
    "kill_fed": 5,
    "cut": 2,
    "back_up_server": 3,
    "copy_spool": 2,
    # All ways of each: what takes turns there comes once in a deck.
    "damage_edge": len(DAMAGES),
    "damage_edge_in_use": len(DAMAGES_IN_USE),
    "take_away": len(AWAY),
    "take_away_from_edge": len(AWAY),
    "fail_disk": len(FAILING),
    "fail_edge_disk": len(FAILING),
    "start_without_disk": len(STARTS),
    "start_edge_without_disk": len(STARTS),
}


def kinds_in_deck(chosen: frozenset[str]) -> list[str]:
    """Return the chosen kinds, or all for none chosen, each as often as it comes in a deck."""
    kinds = [kind for kind in COUNTED if kind not in ALL_THE_TIME and (not chosen or kind in chosen)]
    return [kind for kind in kinds for _ in range(_OFTEN.get(kind, 1))]


def absent_kinds(
    *, inverters: bool, clock: bool, compiler: bool, server_disk: bool, small_disk: bool
) -> dict[str, str]:
    """Return the kinds that cannot be made for want of something, and why."""
    absent = {} if inverters else dict.fromkeys(OF_INVERTERS, "there are no inverters")
    if not clock:
        absent.setdefault("bend_edge_clock", "it takes a C compiler")
    if not compiler:
        absent |= dict.fromkeys(OF_COMPILER - absent.keys(), "it takes a C compiler")
    if not server_disk:
        absent["fill_server_disk"] = "no disk may be mounted here"
    if not small_disk:
        why = "no disk may be mounted here, and there is no C compiler"
        absent |= dict.fromkeys(OF_SMALL_DISK - absent.keys(), why)
    return absent
