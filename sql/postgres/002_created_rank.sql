-- taskwal, schema version 2, PostgreSQL and what speaks its protocol. May be repeated, as version 1.

-- Which save created_at is from: the greater one stands, by bytes, so that logs which save one task
-- agree on it in whatever order their saves come. '1': of a row that was there before this column.
ALTER TABLE dag_tasks ADD COLUMN IF NOT EXISTS created_rank TEXT COLLATE "C" NOT NULL DEFAULT '1';
