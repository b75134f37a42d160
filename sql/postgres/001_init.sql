-- taskwal, schema version 1, PostgreSQL and what speaks its protocol.
-- Times are UTC with microseconds; JSON is json, not jsonb, which would not keep it byte for byte.
-- Names compare by bytes (COLLATE "C"): 'a' and 'a ' are two tasks, and the order of pages is the
-- same in every database. What is there already is kept, so that a migration which was cut short on
-- a server without transactional DDL can be repeated.

-- wal_id, wal_lsn and wal_stamp tell which operation of which log wrote the row last.
CREATE TABLE IF NOT EXISTS dag_tasks (
  id               TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  dag_id           TEXT COLLATE "C" NOT NULL DEFAULT '',
  node_id          TEXT COLLATE "C" NOT NULL DEFAULT '',
  current_node_id  TEXT NOT NULL DEFAULT '',
  sub_dag_path     TEXT NOT NULL DEFAULT '',
  processing_state TEXT NOT NULL DEFAULT '',
  payload          JSON,
  status           TEXT COLLATE "C" NOT NULL DEFAULT 'pending',
  error            TEXT NOT NULL DEFAULT '',
  retry_count      INTEGER NOT NULL DEFAULT 0,
  max_retries      INTEGER NOT NULL DEFAULT 0,
  priority         INTEGER NOT NULL DEFAULT 0,
  created_at       TIMESTAMPTZ(6) NOT NULL,
  updated_at       TIMESTAMPTZ(6) NOT NULL,
  started_at       TIMESTAMPTZ(6),
  completed_at     TIMESTAMPTZ(6),
  wal_id           UUID NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  wal_lsn          BIGINT NOT NULL DEFAULT 0,
  wal_stamp        BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS dag_tasks_by_dag ON dag_tasks (dag_id, created_at);
CREATE INDEX IF NOT EXISTS dag_tasks_by_status ON dag_tasks (status, created_at);
CREATE INDEX IF NOT EXISTS dag_tasks_by_time ON dag_tasks (created_at);

CREATE TABLE IF NOT EXISTS dag_task_activity_logs (
  id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  task_id    TEXT COLLATE "C" NOT NULL DEFAULT '',
  dag_id     TEXT COLLATE "C" NOT NULL DEFAULT '',
  node_id    TEXT COLLATE "C" NOT NULL DEFAULT '',
  action     TEXT COLLATE "C" NOT NULL DEFAULT '',
  message    TEXT NOT NULL DEFAULT '',
  data       JSON,
  level      TEXT COLLATE "C" NOT NULL DEFAULT 'info',
  created_at TIMESTAMPTZ(6) NOT NULL,
  priority   INTEGER NOT NULL DEFAULT 3
);
CREATE INDEX IF NOT EXISTS dag_task_activity_logs_by_task
  ON dag_task_activity_logs (task_id, created_at);
CREATE INDEX IF NOT EXISTS dag_task_activity_logs_by_dag
  ON dag_task_activity_logs (dag_id, created_at);
CREATE INDEX IF NOT EXISTS dag_task_activity_logs_by_time
  ON dag_task_activity_logs (created_at);

-- How far each log has been brought in, by partition: moved in the transaction that writes the
-- rows. stamp is the highest of any task operation that came with it.
CREATE TABLE IF NOT EXISTS wal_checkpoints (
  wal_id     UUID NOT NULL,
  partition  INTEGER NOT NULL,
  lsn        BIGINT NOT NULL,
  epoch      BIGINT NOT NULL,
  stamp      BIGINT NOT NULL DEFAULT 0,
  updated_at TIMESTAMPTZ(6) NOT NULL,
  PRIMARY KEY (wal_id, partition)
);

-- One row per migration; db_id is made with the first and names this database for good.
CREATE TABLE IF NOT EXISTS taskwal_schema (
  version    INTEGER NOT NULL PRIMARY KEY,
  applied_at TIMESTAMPTZ(6) NOT NULL,
  db_id      UUID NOT NULL
);
