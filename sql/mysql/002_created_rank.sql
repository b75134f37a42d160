-- taskwal, schema version 2, MariaDB and MySQL. Not every server of this protocol can be told to add
-- a column only where there is none: taskwal takes "Duplicate column name" (1060) as done.

-- Which save created_at is from: the greater one stands, by bytes, so that logs which save one task
-- agree on it in whatever order their saves come. '1': of a row that was there before this column.
ALTER TABLE dag_tasks ADD COLUMN created_rank VARBINARY(44) NOT NULL DEFAULT '1';
