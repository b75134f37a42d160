#!/usr/bin/env bash
# examples/orders.sh into PostgreSQL, once setup.sql has made the database:
#   examples/postgres/run.sh 'postgresql://taskwal_example:change%20me@127.0.0.1/taskwal_example'
exec "$(dirname "$0")/../orders.sh" \
  "${1:?usage: examples/postgres/run.sh postgresql://user:password@host:port/database}"
