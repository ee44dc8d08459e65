"""What a caller of each operation has to know beyond its summary; part of the OpenAPI document."""

from __future__ import annotations

from typing import Final

API: Final = """\
Readings of Sungrow inverters: sent by an edge, read by dashboards and notebooks.

Unknown is null, never zero. Times are RFC 3339; powers are in W, energies in kWh. `battery_power_w` is
positive while charging, `export_power_w` while exporting.

Every call below `/v1/` needs `Authorization: Bearer TOKEN`; never put a token into an address. A token
has scopes and the devices it may touch. Where it sees exactly one device, `device_id` may be left out.

A query parameter that an operation does not take, or one that is given twice, is refused with 422, lest what
was meant is passed over: the answer names it, and those there are. Names that begin with `_` are ignored,
and so is all that is asked of an operation without parameters.

Any request may be sent again: a reading is known by `(device_id, ts)` and stored once. Every error is
`application/problem+json` (RFC 9457); 429 and 503 say in `Retry-After` when to come back.
"""

TAGS: Final = {
    "edge": "What an edge sends, and what it says of itself.",
    "readings": "What was read: the latest, series, the live stream, alarms, and what is missing.",
    "devices": "What a token may see.",
    "service": "The server itself.",
}

OPERATIONS: Final = {
    "ingest_samples": """\
Answered after the commit. Each sample has its own verdict: `inserted` and `duplicates` are counted, the
others are listed with their `index`, a code and a reason, and the sum is `received`; one bad sample
never voids its batch. Keep what is `deferred` and send it again every few minutes; conflicts and
rejects are kept aside on the server.

Send the same batch again after a lost answer or a timeout: what was stored then is a duplicate.
`resend` says that the server lacks readings named in `last_delivered`, as after a restore; then offer
all that is still kept. Everything beside `samples` may be left out.
""",
    "get_realtime": """\
The sample with the newest `ts`. Fields that were not read in it show their last known value and are
listed with their time in `read_at`; values that can hardly be true are shown as they were read, and named
in `implausible`. `stale` is true when it is older than three poll intervals, `age_s` how old. 404 until
there is one.
""",
    "get_series": """\
Either a `frame` around a day, in the site's time zone, or any range from `from` to `to` in steps of
`bucket`. Every bucket up to now is there; one without readings has nulls and `coverage` 0. Averages are
weighted by time; energies come from the inverter's counters where it has them (`energy_source`). Values
that can hardly be true count in none; a raw reading shows them, and names them in `implausible`.

`Accept: text/csv` or `application/vnd.apache.parquet` gives a table; of raw readings, its last column
`extra` is JSON with the fields that only a newer edge knows, unless `fields` were chosen. An `ETag` lets a
client that asks again be told that nothing changed; raw readings, and more than 2,000 buckets, are sent as
they are read, without one.
""",
    "stream_readings": """\
Server-sent events, for one device: `sample` within a second of its commit, `gap` `{from, to}` where
more was missed than is replayed, and one `backfill` `{from, to, count}` a second while a backlog
drains. The id of an event is its `ts`: send it as `Last-Event-ID` and what was missed meanwhile, up to
1,000 samples, comes first. A browser reads it with `fetch`, because `EventSource` sends no token.
""",
    "list_devices": """\
Id, name, model, time zone, first and last reading and health of each. `timezone` is null until somebody
or the edge names it; days are counted in UTC then.
""",
    "list_plants": """\
Devices whose plant has the same name. PV and battery add; import and export are those of the meter they
share, once.
""",
    "get_plant_series": """\
As the series of a device, for all devices of a plant, from the first reading of each on. `left_out` names the
devices of which a bucket knows nothing: its totals are without them. Powers, and the load, are put together
by the quarter of an hour, and longer buckets add them up.
""",
    "list_events": """\
Begin and end of each, and what the code means. `end` is null while it lasts. `counter_breaks` are counters
that ran back or jumped: the readings stand as they are, no energy is made of the step.
""",
    "get_completeness": """\
Per local day that `from` to `to` touches (a time or a local day each; the last four weeks when left out):
how many readings the poll interval makes expected, how many are stored, and why the others are not, where
that is known. An inverter that sleeps at night lacks them for a reason nobody told: `unknown`; one that
answers slowly has all of its time covered, by fewer: `slower`. `counter_breaks` counts the counters that
ran back or jumped; the events name them.
""",
    "list_conflicts": """\
Nothing that was sent is thrown away: a second value for a stored time, an invalid sample, one from
before the retention horizon. Newest first; `next_before` of an answer asks for the next page.
""",
    "report_edge_status": """\
Backlog, quarantine, connections, clock and versions, once a minute. The last word of each edge is kept.
""",
    "get_edge_status": """\
One entry for each edge that sends for the device; two are a mistake worth an alarm.
""",
    "get_health": """\
Answered within a second; 503 when the database is unreachable. A token with the scope `admin` is also told
versions and waiting rollups.
""",
    "get_metrics": """\
Prometheus' text format. With `METRICS_PORT` it is also on a loopback listener, without a token.
""",
    "get_openapi": """\
Made from the code that answers: what it does not list, the server does not do.
""",
}
"""By operation id."""
