-- Raw readings from before this moment may be gone: rollups of that time are never made anew, however long raw readings
-- are to be kept from now on.
CREATE TABLE IF NOT EXISTS raw_dropped (
  is_all bool PRIMARY KEY DEFAULT true CHECK (is_all),
  until timestamptz NOT NULL
);

-- What was dropped up to now, is known from how long they were to be kept when the engine's own SQL was last applied.
INSERT INTO raw_dropped (until)
SELECT date_bin('15 minutes', now() - make_interval(days => min(h.days) + 1), 'epoch')
FROM (
  SELECT split_part(checksum, ' ', 2)::int AS days FROM schema_history
  WHERE name ~ '^(plain|timescale)/' AND checksum ~ ' \d+$'
) AS h
WHERE EXISTS (SELECT FROM rollup_day)
HAVING min(h.days) IS NOT NULL
ON CONFLICT (is_all) DO NOTHING;
