-- An import is stored in parts: one that broke off is told from one that is complete.

ALTER TABLE import_ranges ADD COLUMN IF NOT EXISTS finished bool NOT NULL DEFAULT true;
