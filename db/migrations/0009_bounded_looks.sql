-- To plan for all of some years of days takes TimescaleDB seconds, for a few of them a millisecond. So these functions
-- look where readings are, and nowhere else: a reading lies within a local day that is rolled up (from a day before its
-- date to two days after, in UTC), or within a marked quarter of an hour.

-- The first or, with 'max', the last reading of a device that lies after one moment and before another. Executed anew
-- each time, so that the plan knows the moments.
CREATE OR REPLACE FUNCTION reading_between(wanted int4, which text, after timestamptz, until timestamptz)
RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  found timestamptz;
BEGIN
  IF after IS NOT NULL AND after < until THEN
    EXECUTE format('SELECT %s(ts) FROM samples WHERE device = $1 AND ts > $2 AND ts < $3', which)
    INTO found USING wanted, after, until;
  END IF;
  RETURN found;
END
$$;

-- The first or, with 'max', the last quarter of an hour that is rolled up of a local day of a device.
CREATE OR REPLACE FUNCTION quarter_of_day(wanted int4, which text, day date)
RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  found timestamptz;
BEGIN
  IF day IS NOT NULL THEN
    EXECUTE format('SELECT %s(bucket) FROM rollup_15m WHERE device = $1 AND bucket > $2 AND bucket < $3', which)
    INTO found USING wanted, (day - 1)::timestamp AT TIME ZONE 'UTC', (day + 2)::timestamp AT TIME ZONE 'UTC';
  END IF;
  RETURN found;
END
$$;

-- When the newest reading of a device was taken.
CREATE OR REPLACE FUNCTION newest_reading(wanted int4) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  rolled date := (SELECT max(day) FROM rollup_day WHERE device = wanted);
  marked timestamptz := (SELECT max(bucket) FROM rollup_marks WHERE device = wanted);
  newest timestamptz;
BEGIN
  newest := reading_between(wanted, 'max', marked - INTERVAL '1 microsecond', marked + INTERVAL '15 minutes');
  IF newest >= (rolled + 2)::timestamp AT TIME ZONE 'UTC' THEN
    RETURN newest;
  END IF;
  RETURN greatest(newest, reading_between(
    wanted, 'max', (rolled - 1)::timestamp AT TIME ZONE 'UTC', (rolled + 2)::timestamp AT TIME ZONE 'UTC'
  ));
END
$$;

-- When the first reading of a device after a moment was taken.
CREATE OR REPLACE FUNCTION next_reading(wanted int4, after timestamptz) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  rolled date;
  marked timestamptz;
  found timestamptz;
  earlier timestamptz;
BEGIN
  FOR rolled IN
    SELECT day FROM rollup_day
    WHERE device = wanted AND day >= (after AT TIME ZONE 'UTC')::date - 1
    ORDER BY day
  LOOP
    found := reading_between(
      wanted, 'min', greatest(after, (rolled - 1)::timestamp AT TIME ZONE 'UTC'),
      (rolled + 2)::timestamp AT TIME ZONE 'UTC'
    );
    EXIT WHEN found IS NOT NULL;
  END LOOP;
  FOR marked IN
    SELECT DISTINCT bucket FROM rollup_marks
    WHERE device = wanted AND bucket > after - INTERVAL '15 minutes' AND (found IS NULL OR bucket < found)
    ORDER BY bucket
  LOOP
    earlier := reading_between(
      wanted, 'min', greatest(after, marked - INTERVAL '1 microsecond'), marked + INTERVAL '15 minutes'
    );
    EXIT WHEN earlier IS NOT NULL;
  END LOOP;
  RETURN least(found, earlier);
END
$$;

-- When the first reading of a device was taken; where single readings are gone, the quarter of an hour.
CREATE OR REPLACE FUNCTION first_reading(wanted int4) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  rolled date := (SELECT min(day) FROM rollup_day WHERE device = wanted);
  marked timestamptz := (SELECT min(bucket) FROM rollup_marks WHERE device = wanted);
  quarter timestamptz := quarter_of_day(wanted, 'min', rolled);
  found timestamptz;
BEGIN
  found := coalesce(reading_between(
    wanted, 'min', quarter - INTERVAL '1 microsecond', quarter + INTERVAL '15 minutes'
  ), quarter);
  IF found IS NULL OR marked < found THEN
    RETURN least(found, reading_between(
      wanted, 'min', marked - INTERVAL '1 microsecond', marked + INTERVAL '15 minutes'
    ));
  END IF;
  RETURN found;
END
$$;

-- When the last reading of a device was taken; where single readings are gone, the quarter of an hour.
CREATE OR REPLACE FUNCTION last_reading(wanted int4) RETURNS timestamptz LANGUAGE sql STABLE AS $$
  SELECT coalesce(
    newest_reading(wanted),
    quarter_of_day(wanted, 'max', (SELECT max(day) FROM rollup_day WHERE device = wanted))
  )
$$;
