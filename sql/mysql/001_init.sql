-- taskwal, schema version 1, MariaDB and MySQL.
-- Times are UTC; JSON is text, kept byte for byte, since MySQL's own type rewrites it. Ids and
-- names are bytes of UTF-8: 'a' and 'a ' are two tasks, as are 'a' and 'A'. Long texts have no
-- default: not every server of this protocol can give them one.
-- JSON_VALID gives up at 32 levels (in MySQL: at 101), which takes at least 16 brackets of one kind.
-- What has so many is taken as it comes: it was checked before it was acknowledged.
-- Each statement may be repeated: DDL is not transactional here, so a migration that was cut short
-- is simply run again. The row of taskwal_schema comes last.

-- wal_id, wal_lsn and wal_stamp tell which operation of which log wrote the row last.
CREATE TABLE IF NOT EXISTS dag_tasks (
  id               VARBINARY(255) NOT NULL PRIMARY KEY,
  dag_id           VARBINARY(255) NOT NULL DEFAULT '',
  node_id          VARBINARY(255) NOT NULL DEFAULT '',
  current_node_id  VARBINARY(255) NOT NULL DEFAULT '',
  sub_dag_path     VARCHAR(4096) NOT NULL DEFAULT '',
  processing_state VARCHAR(255) NOT NULL DEFAULT '',
  payload          LONGTEXT CHECK (LENGTH(SUBSTRING_INDEX(payload, '[', 16)) < LENGTH(payload)
    OR LENGTH(SUBSTRING_INDEX(payload, '{', 16)) < LENGTH(payload) OR JSON_VALID(payload)),
  status           VARCHAR(16) NOT NULL DEFAULT 'pending',
  error            MEDIUMTEXT NOT NULL,
  retry_count      INT NOT NULL DEFAULT 0,
  max_retries      INT NOT NULL DEFAULT 0,
  priority         INT NOT NULL DEFAULT 0,
  created_at       DATETIME(6) NOT NULL,
  updated_at       DATETIME(6) NOT NULL,
  started_at       DATETIME(6),
  completed_at     DATETIME(6),
  wal_id           VARBINARY(36) NOT NULL DEFAULT '',
  wal_lsn          BIGINT NOT NULL DEFAULT 0,
  wal_stamp        BIGINT NOT NULL DEFAULT 0,
  KEY dag_tasks_by_dag (dag_id, created_at),
  KEY dag_tasks_by_status (status, created_at),
  KEY dag_tasks_by_time (created_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS dag_task_activity_logs (
  id         VARBINARY(255) NOT NULL PRIMARY KEY,
  task_id    VARBINARY(255) NOT NULL DEFAULT '',
  dag_id     VARBINARY(255) NOT NULL DEFAULT '',
  node_id    VARBINARY(255) NOT NULL DEFAULT '',
  action     VARBINARY(255) NOT NULL DEFAULT '',
  message    MEDIUMTEXT NOT NULL,
  data       LONGTEXT CHECK (LENGTH(SUBSTRING_INDEX(data, '[', 16)) < LENGTH(data)
    OR LENGTH(SUBSTRING_INDEX(data, '{', 16)) < LENGTH(data) OR JSON_VALID(data)),
  level      VARCHAR(16) NOT NULL DEFAULT 'info',
  created_at DATETIME(6) NOT NULL,
  priority   INT NOT NULL DEFAULT 3,
  KEY dag_task_activity_logs_by_task (task_id, created_at),
  KEY dag_task_activity_logs_by_dag (dag_id, created_at),
  KEY dag_task_activity_logs_by_time (created_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- How far each log has been brought in, by partition: moved in the transaction that writes the
-- rows. stamp is the highest of any task operation that came with it.
CREATE TABLE IF NOT EXISTS wal_checkpoints (
  wal_id      VARBINARY(36) NOT NULL,
  `partition` INT NOT NULL,
  lsn         BIGINT NOT NULL,
  epoch       BIGINT NOT NULL,
  stamp       BIGINT NOT NULL DEFAULT 0,
  updated_at  DATETIME(6) NOT NULL,
  PRIMARY KEY (wal_id, `partition`)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row per migration; db_id is made with the first and names this database for good.
CREATE TABLE IF NOT EXISTS taskwal_schema (
  version    INT NOT NULL PRIMARY KEY,
  applied_at DATETIME(6) NOT NULL,
  db_id      VARBINARY(36) NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
