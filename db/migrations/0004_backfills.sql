-- What arrived late, for open streams; kept for a minute. Best effort: nothing is counted from it.

CREATE TABLE IF NOT EXISTS backfills (
  entry int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  device int4 NOT NULL,
  from_ts timestamptz NOT NULL,
  to_ts timestamptz NOT NULL,
  row_count int4 NOT NULL,
  noted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS backfills_noted ON backfills (noted_at);
