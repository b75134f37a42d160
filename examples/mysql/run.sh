#!/usr/bin/env bash
# examples/orders.sh into MySQL or MariaDB, once setup.sql has made the database:
#   examples/mysql/run.sh 'mysql://taskwal_example:change%20me@127.0.0.1:3306/taskwal_example'
exec "$(dirname "$0")/../orders.sh" \
  "${1:?usage: examples/mysql/run.sh mysql://user:password@host:port/database}"
