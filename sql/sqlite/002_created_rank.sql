-- taskwal, schema version 2, SQLite.

-- Which save created_at is from: the greater one stands, by bytes, so that logs which save one task
-- agree on it in whatever order their saves come. '1': of a row that was there before this column.
ALTER TABLE dag_tasks ADD COLUMN created_rank TEXT NOT NULL DEFAULT '1';
