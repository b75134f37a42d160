-- taskwal, schema version 1, SQLite.
-- Times are UTC text such as 2026-11-21T06:00:00.123456Z, whose order is that of time; JSON is text,
-- kept byte for byte. Comparison is by bytes: 'a' and 'a ' are two tasks.

-- wal_id, wal_lsn and wal_stamp tell which operation of which log wrote the row last.
CREATE TABLE dag_tasks (
  id               TEXT PRIMARY KEY NOT NULL,
  dag_id           TEXT NOT NULL DEFAULT '',
  node_id          TEXT NOT NULL DEFAULT '',
  current_node_id  TEXT NOT NULL DEFAULT '',
  sub_dag_path     TEXT NOT NULL DEFAULT '',
  processing_state TEXT NOT NULL DEFAULT '',
  payload          TEXT,
  status           TEXT NOT NULL DEFAULT 'pending',
  error            TEXT NOT NULL DEFAULT '',
  retry_count      INTEGER NOT NULL DEFAULT 0,
  max_retries      INTEGER NOT NULL DEFAULT 0,
  priority         INTEGER NOT NULL DEFAULT 0,
  created_at       TEXT NOT NULL,
  updated_at       TEXT NOT NULL,
  started_at       TEXT,
  completed_at     TEXT,
  wal_id           TEXT NOT NULL DEFAULT '',
  wal_lsn          INTEGER NOT NULL DEFAULT 0,
  wal_stamp        INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX dag_tasks_by_dag ON dag_tasks (dag_id, created_at);
CREATE INDEX dag_tasks_by_status ON dag_tasks (status, created_at);
CREATE INDEX dag_tasks_by_time ON dag_tasks (created_at);

CREATE TABLE dag_task_activity_logs (
  id         TEXT PRIMARY KEY NOT NULL,
  task_id    TEXT NOT NULL DEFAULT '',
  dag_id     TEXT NOT NULL DEFAULT '',
  node_id    TEXT NOT NULL DEFAULT '',
  action     TEXT NOT NULL DEFAULT '',
  message    TEXT NOT NULL DEFAULT '',
  data       TEXT,
  level      TEXT NOT NULL DEFAULT 'info',
  created_at TEXT NOT NULL,
  priority   INTEGER NOT NULL DEFAULT 3
);
CREATE INDEX dag_task_activity_logs_by_task ON dag_task_activity_logs (task_id, created_at);
CREATE INDEX dag_task_activity_logs_by_dag ON dag_task_activity_logs (dag_id, created_at);
CREATE INDEX dag_task_activity_logs_by_time ON dag_task_activity_logs (created_at);

-- How far each log has been brought in, by partition: moved in the transaction that writes the
-- rows. stamp is the highest of any task operation that came with it.
CREATE TABLE wal_checkpoints (
  wal_id     TEXT NOT NULL,
  partition  INTEGER NOT NULL,
  lsn        INTEGER NOT NULL,
  epoch      INTEGER NOT NULL,
  stamp      INTEGER NOT NULL DEFAULT 0,
  updated_at TEXT NOT NULL,
  PRIMARY KEY (wal_id, partition)
) WITHOUT ROWID;

-- One row per migration; db_id is made with the first and names this database for good.
CREATE TABLE taskwal_schema (
  version    INTEGER PRIMARY KEY NOT NULL,
  applied_at TEXT NOT NULL,
  db_id      TEXT NOT NULL
);
