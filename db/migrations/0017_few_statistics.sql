-- PostgreSQL looks at its tables now and then, to know how often which value comes. In `samples` readings are looked for
-- by device, time and whether firmware was read; what the other columns hold decides no plan, and to look at more
-- than a hundred of them took a tenth of PostgreSQL's time while a backlog came. Nobody who reads or writes waits for this.
DO $$
DECLARE
  changes text;
BEGIN
  SELECT string_agg(format('ALTER COLUMN %I SET STATISTICS 0', attname), ', ' ORDER BY attnum) INTO changes
  FROM pg_attribute
  WHERE attrelid = 'samples'::regclass AND attnum > 0 AND NOT attisdropped
    AND attname NOT IN ('ts', 'device', 'firmware') AND attstattarget IS DISTINCT FROM 0;
  IF changes IS NOT NULL THEN
    EXECUTE 'ALTER TABLE samples ' || changes;
  END IF;
END
$$;
