#!/usr/bin/env bash
# A few records through the log into the database that is named, and back out by queries:
#   examples/orders.sh sqlite://orders.db
# The same DSN is what OpenTaskStorage takes in C++ (examples/quickstart.cc).
set -euo pipefail
export TASKWAL_DB=${1:?usage: examples/orders.sh DSN}
export PATH=$PATH:$(dirname "$0")/../build/release/bin
wal=$(mktemp -d)
trap 'rm -rf "$wal"' EXIT

taskwal schema migrate
for n in 1 2 3; do
  printf '{"op":"save_task","task":{"id":"order-%d","dag_id":"orders","payload":{"n":%d}}}\n' $n $n
  printf '{"op":"update_status","task_id":"order-%d","status":"completed"}\n' $n
  printf '{"op":"log_activity","activity":{"task_id":"order-%d","action":"shipped"}}\n' $n
done | taskwal ingest --wal "$wal/log"
taskwal query tasks --dag orders
taskwal query stats
