-- name: limit_statements
-- Give statements of this session up after a while.
SELECT set_config('statement_timeout', %(ms)s::text, false);

-- name: limit_waits
-- Let no statement of this session wait longer for what another one holds; 0 for ever.
SELECT set_config('lock_timeout', %(ms)s::text, false);

-- name: take_all_time
-- Let the statements of this transaction take as long as they need.
SELECT set_config('statement_timeout', '0', true);
