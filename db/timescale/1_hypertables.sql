-- What TimescaleDB Community adds to the common schema. Safe to run again.

SELECT create_hypertable(
  'samples', 'ts',
  chunk_time_interval => INTERVAL '1 day', if_not_exists => true, migrate_data => true, create_default_indexes => false
);

-- Everything is asked for by device; the index by time that TimescaleDB adds on its own was 40 bytes of every reading.
DROP INDEX IF EXISTS samples_ts_idx;

-- A column that is already set up this way is left alone: changing it would fail once chunks are compressed.
DO $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM timescaledb_information.hypertables
    WHERE hypertable_schema = current_schema() AND hypertable_name = 'samples' AND compression_enabled
  ) THEN
    ALTER TABLE samples SET (
      timescaledb.compress, timescaledb.compress_segmentby = 'device', timescaledb.compress_orderby = 'ts'
    );
  END IF;
END
$$;

SELECT add_compression_policy('samples', INTERVAL '2 days', if_not_exists => true);

-- Never compressed and never dropped: late readings rewrite its buckets.
SELECT create_hypertable(
  'rollup_15m', 'bucket',
  chunk_time_interval => INTERVAL '30 days', if_not_exists => true, migrate_data => true
);
