-- The newest reading of a device mostly lies within the last days that are rolled up: one look finds it, not two.
CREATE OR REPLACE FUNCTION newest_reading(wanted int4) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  rolled date := (SELECT max(day) FROM rollup_day WHERE device = wanted);
  marked timestamptz := (SELECT max(bucket) FROM rollup_marks WHERE device = wanted);
  since timestamptz := (rolled - 1)::timestamp AT TIME ZONE 'UTC';
  until timestamptz := (rolled + 2)::timestamp AT TIME ZONE 'UTC';
  newest timestamptz;
BEGIN
  IF rolled IS NULL OR marked <= since OR marked + INTERVAL '15 minutes' > until THEN -- else one look is enough
    newest := reading_between(wanted, 'max', marked - INTERVAL '1 microsecond', marked + INTERVAL '15 minutes');
  END IF;
  IF newest >= until THEN
    RETURN newest;
  END IF;
  RETURN greatest(newest, reading_between(wanted, 'max', since, until));
END
$$;
