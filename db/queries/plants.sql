-- name: meter_days
-- What those of some devices that ever saw a meter know of it: a digest of its days before `split`, these days if they are
-- wanted, and the days since; when each of its counters was read first and last, in ms of Unix time, and the last day with
-- one. A day is packed as PostgreSQL sends it: its number; ms with its power and, for each of its counters that is known,
-- ms with readings, added up; when each counter was read last, in us. Of a single witness any day will do.
WITH witness AS MATERIALIZED (
  SELECT t.device FROM unnest(%(devices)s::int4[]) AS t(device)
  WHERE EXISTS (
    SELECT FROM rollup_day d WHERE d.device = t.device
      AND (d.export_power_w_ms > 0 OR d.import_total_kwh_last IS NOT NULL OR d.export_total_kwh_last IS NOT NULL)
  )
), told AS (
  SELECT
    w.device,
    coalesce(string_agg(d.packed, ''::bytea ORDER BY d.day) FILTER (WHERE d.day < %(split)s), '') AS head,
    coalesce(string_agg(d.packed, ''::bytea ORDER BY d.day) FILTER (WHERE d.day >= %(split)s), '') AS tail,
    min(d.import_total_kwh_first_ts) AS import_first,
    min(d.export_total_kwh_first_ts) AS export_first,
    max(d.import_total_kwh_last_ts) AS import_last,
    max(d.export_total_kwh_last_ts) AS export_last,
    max(d.day) FILTER (WHERE d.import_total_kwh_last_ts IS NOT NULL OR d.export_total_kwh_last_ts IS NOT NULL) AS last_day
  FROM witness w
  CROSS JOIN LATERAL (
    SELECT
      r.day,
      date_send(r.day)
        || int8send(
          coalesce(r.export_power_w_ms, 0)
          + r.covered_ms * ((r.import_total_kwh_last IS NOT NULL)::int + (r.export_total_kwh_last IS NOT NULL)::int)
        )
        || coalesce(timestamptz_send(r.import_total_kwh_last_ts), '\x8000000000000000')
        || coalesce(timestamptz_send(r.export_total_kwh_last_ts), '\x8000000000000000') AS packed,
      r.import_total_kwh_first_ts, r.export_total_kwh_first_ts, r.import_total_kwh_last_ts, r.export_total_kwh_last_ts
    FROM rollup_day r WHERE r.device = w.device
    ORDER BY r.day LIMIT CASE WHEN (SELECT count(*) FROM witness) = 1 THEN 1 END
  ) AS d
  GROUP BY w.device
)
SELECT
  device, sha256(head), CASE WHEN %(with_head)s THEN head END, tail,
  (1000 * extract(epoch FROM import_first))::int8,
  (1000 * extract(epoch FROM export_first))::int8,
  (1000 * extract(epoch FROM import_last))::int8,
  (1000 * extract(epoch FROM export_last))::int8,
  last_day
FROM told;

-- name: plant_lives
-- When each of some devices was heard first and last, and whether it ever told of a battery. Where single readings are gone
-- that is when the first and the last of its counters was read; the quarter of an hour, where it had none in it.
WITH counted AS NOT MATERIALIZED ( -- a look at one row for each end, not at all days
  SELECT
    device, day,
-- generated: counted_span
    least(pv_total_kwh_first_ts, battery_charge_total_kwh_first_ts, battery_charge_from_pv_total_kwh_first_ts, battery_discharge_total_kwh_first_ts, export_total_kwh_first_ts, export_from_pv_total_kwh_first_ts, import_total_kwh_first_ts, direct_use_total_kwh_first_ts, output_total_kwh_first_ts, running_time_total_h_first_ts) AS counted_first,
    greatest(pv_total_kwh_last_ts, battery_charge_total_kwh_last_ts, battery_charge_from_pv_total_kwh_last_ts, battery_discharge_total_kwh_last_ts, export_total_kwh_last_ts, export_from_pv_total_kwh_last_ts, import_total_kwh_last_ts, direct_use_total_kwh_last_ts, output_total_kwh_last_ts, running_time_total_h_last_ts) AS counted_last
-- end of generated
  FROM rollup_day
)
SELECT
  t.device,
  CASE
    WHEN b.counted_first < f.first_ts + INTERVAL '15 minutes' AND reading_between(
      t.device, 'min', f.first_ts - INTERVAL '1 microsecond', f.first_ts + INTERVAL '1 microsecond'
    ) IS NULL THEN b.counted_first
    ELSE f.first_ts
  END AS first_ts,
  greatest(last_reading(t.device), e.counted_last) AS last_ts,
  EXISTS (SELECT FROM rollup_day d WHERE d.device = t.device AND d.battery_soc_pct_ms > 0) AS has_battery
FROM unnest(%(devices)s::int4[]) AS t(device)
CROSS JOIN LATERAL (SELECT first_reading(t.device) AS first_ts OFFSET 0) f
LEFT JOIN LATERAL (SELECT c.counted_first FROM counted c WHERE c.device = t.device ORDER BY c.day LIMIT 1) b ON true
LEFT JOIN LATERAL (SELECT c.counted_last FROM counted c WHERE c.device = t.device ORDER BY c.day DESC LIMIT 1) e ON true;

-- name: plant_powers
-- What some devices did together in spans of time, each with its number. A span comes as pieces, of quarters of an hour,
-- and as parts: quarters, or what is cut from them, of which is told what each device knows. Only what was heard within
-- one quarter, or part, is put together; spans add up what quarters and parts say, so that all of them agree.
--   * pv, battery: the sum, over the time of the one heard longest. Who was not heard adds nothing.
--   * soc: of the device `battery` names, if any.
--   * export: of the device `word` names; of the one that knows most of it where that one knows less than half of that.
--   * load: of one device its own word. Of several their outputs less the export, as averages of the quarter, over the
--     time in which all of them were heard; unknown where one does not tell its output, or nobody the export. Who gives
--     less than 100 W may be falling asleep, or waking up: it shortens no time, and adds what it was heard to give.
-- Powers are in W; averages in between in 10 uW, so that no fraction is lost that would be seen.
WITH piece AS (
  SELECT *
  FROM unnest(
    %(numbers)s::int4[], %(begins)s::timestamptz[], %(ends)s::timestamptz[], %(words)s::int4[], %(batteries)s::int4[]
  ) AS p(number, begins, ends, word, battery)
), told AS (
  SELECT
    p.number, p.word, p.battery AS owner, r.bucket AS atom, r.device,
    r.pv_power_w_sum AS pv, r.pv_power_w_ms AS pv_ms,
    r.battery_power_w_sum AS battery, r.battery_power_w_ms AS battery_ms,
    r.battery_soc_pct_sum AS soc, r.battery_soc_pct_ms AS soc_ms,
    r.load_power_w_sum AS load, r.load_power_w_ms AS load_ms,
    r.export_power_w_sum AS export, nullif(r.export_power_w_ms, 0) AS export_ms,
    r.active_power_w_sum AS output, nullif(r.active_power_w_ms, 0) AS output_ms
  FROM piece p
  CROSS JOIN unnest(%(devices)s::int4[]) AS d(device)
  CROSS JOIN LATERAL (
    SELECT * FROM rollup_15m q
    WHERE q.device = d.device AND q.bucket >= p.begins AND q.bucket < p.ends
      AND q.bucket >= %(lowest)s AND q.bucket < %(until)s
    OFFSET 0 -- one look into the index for each piece and device
  ) r
  UNION ALL
  SELECT
    number, word, owner, atom, device, pv, pv_ms, battery, battery_ms, soc, soc_ms, load, load_ms,
    export, nullif(export_ms, 0), output, nullif(output_ms, 0)
  FROM unnest(
    %(part_numbers)s::int4[], %(part_words)s::int4[], %(part_batteries)s::int4[], %(part_begins)s::timestamptz[],
    %(part_devices)s::int4[], %(pv_power_w_sum)s::int8[], %(pv_power_w_ms)s::int8[],
    %(battery_power_w_sum)s::int8[], %(battery_power_w_ms)s::int8[],
    %(battery_soc_pct_sum)s::int8[], %(battery_soc_pct_ms)s::int8[], %(load_power_w_sum)s::int8[],
    %(load_power_w_ms)s::int8[], %(export_power_w_sum)s::int8[], %(export_power_w_ms)s::int8[],
    %(active_power_w_sum)s::int8[], %(active_power_w_ms)s::int8[]
  ) AS t(
    number, word, owner, atom, device, pv, pv_ms, battery, battery_ms, soc, soc_ms, load, load_ms,
    export, export_ms, output, output_ms
  )
), heard AS (
  SELECT
    number,
    count(*) AS devices,
    add_up(pv) AS pv,
    max(pv_ms) AS pv_ms,
    add_up(battery) AS battery,
    max(battery_ms) AS battery_ms,
    max(soc) FILTER (WHERE device = owner) AS soc,
    max(soc_ms) FILTER (WHERE device = owner) AS soc_ms,
    max(load) AS own_load,
    max(load_ms) AS own_load_ms,
    max(export) FILTER (WHERE device = word) AS export,
    max(export_ms) FILTER (WHERE device = word) AS export_ms,
    max(ARRAY[export_ms, export]) FILTER (WHERE device <> word AND export_ms IS NOT NULL) AS other,
    bool_and(output_ms IS NOT NULL) AS all_tell,
    max(output_ms) AS longest_ms,
    min(output_ms) FILTER (WHERE abs(output) >= 100 * output_ms) AS shortest_ms,
    add_up(100000 * output / output_ms) FILTER (WHERE abs(output) >= 100 * output_ms) AS running,
    add_up(output) FILTER (WHERE abs(output) < 100 * output_ms) AS idle
  FROM told
  GROUP BY number, atom
), metered AS (
  SELECT
    number, devices, pv, pv_ms, battery, battery_ms, soc, soc_ms, own_load, own_load_ms,
    CASE WHEN 2 * export_ms >= coalesce(other[1], 0) THEN export ELSE other[2] END AS export,
    CASE WHEN 2 * export_ms >= coalesce(other[1], 0) THEN export_ms ELSE other[1] END AS export_ms,
    CASE WHEN all_tell THEN coalesce(running, 0) + coalesce(100000 * idle / longest_ms, 0) END AS output,
    shortest_ms
  FROM heard
), balanced AS (
  SELECT
    *,
    CASE
      WHEN devices = 1 THEN own_load
      ELSE greatest(0, output - 100000 * export / export_ms) * least(shortest_ms, export_ms) / 100000
    END AS load,
    CASE
      WHEN devices = 1 THEN own_load_ms
      WHEN output IS NOT NULL AND export_ms IS NOT NULL THEN least(shortest_ms, export_ms)
    END AS load_ms
  FROM metered
)
SELECT
  number,
  add_up(pv), add_up(pv_ms), add_up(battery), add_up(battery_ms), add_up(soc), add_up(soc_ms),
  add_up(load) FILTER (WHERE load_ms IS NOT NULL), add_up(load_ms), add_up(export), add_up(export_ms)
FROM balanced
GROUP BY number;

-- name: plant_sums
-- What is kept of days, or months, that begin between two moments and in which exactly these devices were heard.
SELECT begins, digest, pv, pv_ms, battery, battery_ms, soc, soc_ms, load, load_ms, export, export_ms
FROM plant_kept
WHERE heard = (SELECT s.heard FROM plant_sets s WHERE s.devices = %(devices)s::int4[])
  AND is_month = %(is_month)s AND begins BETWEEN %(first)s AND %(last)s;

-- name: forget_plant_sets
-- Forget what devices did together of which one was erased since: servers from before `plant_kept` leave it.
DELETE FROM plant_sets s
WHERE EXISTS (
  SELECT FROM unnest(s.devices) AS t(device)
  WHERE NOT EXISTS (SELECT FROM rollup_day d WHERE d.device = t.device)
);

-- name: add_plant_set
-- Make devices that were heard together known.
INSERT INTO plant_sets (devices) VALUES (%(devices)s::int4[])
ON CONFLICT DO NOTHING;

-- name: keep_plant_sums
-- Keep what was found out of days, or months, in which exactly these devices were heard.
INSERT INTO plant_kept AS p (
  heard, is_month, begins, digest, pv, pv_ms, battery, battery_ms, soc, soc_ms, load, load_ms, export, export_ms
)
SELECT s.heard, %(is_month)s, t.*
FROM plant_sets s
CROSS JOIN unnest(
  %(begins)s::timestamptz[], %(digests)s::bytea[], %(pv)s::int8[], %(pv_ms)s::int8[], %(battery)s::int8[],
  %(battery_ms)s::int8[], %(soc)s::int8[], %(soc_ms)s::int8[], %(load)s::int8[], %(load_ms)s::int8[],
  %(export)s::int8[], %(export_ms)s::int8[]
) AS t
WHERE s.devices = %(devices)s::int4[]
ON CONFLICT (heard, is_month, begins) DO UPDATE SET
  digest = excluded.digest, pv = excluded.pv, pv_ms = excluded.pv_ms, battery = excluded.battery,
  battery_ms = excluded.battery_ms, soc = excluded.soc, soc_ms = excluded.soc_ms, load = excluded.load,
  load_ms = excluded.load_ms, export = excluded.export, export_ms = excluded.export_ms
WHERE p.digest <> excluded.digest;

-- name: plants_of_several
-- Plants of several devices, deleted ones counted.
SELECT plant FROM device_settings WHERE plant IS NOT NULL
GROUP BY plant HAVING count(*) > 1
ORDER BY plant;

-- name: plant_days_missing
-- The first and the last of the days before today on which several of some devices were heard and that are not kept. A day
-- that is kept begins near a midnight of the zone's present distance from UTC, whether or not clocks were changed.
WITH heard AS MATERIALIZED (
  SELECT day, array_agg(device ORDER BY device) AS devices FROM rollup_day
  WHERE device = ANY(%(devices)s) AND day >= %(since)s AND day < %(today)s
  GROUP BY day HAVING count(*) > 1
), kept AS (
  SELECT h.devices, (p.begins AT TIME ZONE 'UTC' + %(offset)s + INTERVAL '2 hours')::date AS day
  FROM (SELECT DISTINCT devices FROM heard) h
  JOIN plant_sets t ON t.devices = h.devices
  CROSS JOIN LATERAL (
    SELECT s.begins FROM plant_kept s
    WHERE s.heard = t.heard AND NOT s.is_month
      AND s.begins >= %(since)s::timestamp AT TIME ZONE 'UTC' - INTERVAL '1 day'
    OFFSET 0 -- a look into the index, not through all plants
  ) p
), missing AS (
  SELECT devices, day FROM heard EXCEPT SELECT devices, day FROM kept
)
SELECT min(day), max(day) FROM missing;
