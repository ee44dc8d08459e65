-- When the newest reading of a device was taken. It lies within the last day that is rolled up, or after it; without
-- such a day, what is not rolled up is marked. Asked with that bound and the value itself, TimescaleDB plans for a few
-- days; to plan for a year of them takes a second.
CREATE OR REPLACE FUNCTION newest_reading(wanted int4) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  since timestamptz;
  newest timestamptz;
BEGIN
  SELECT coalesce(
    (SELECT max(day) FROM rollup_day WHERE device = wanted)::timestamp AT TIME ZONE 'UTC' - INTERVAL '1 day',
    (SELECT min(bucket) FROM rollup_marks WHERE device = wanted)
  ) INTO since;
  IF since IS NOT NULL THEN
    EXECUTE 'SELECT max(ts) FROM samples WHERE device = $1 AND ts >= $2' INTO newest USING wanted, since;
  END IF;
  RETURN newest;
END
$$;
