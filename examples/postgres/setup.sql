-- Once, as an administrator: psql -U postgres -f examples/postgres/setup.sql
-- The owner of the database may make the tables; no other rights are needed.
CREATE ROLE taskwal_example LOGIN PASSWORD 'change me';
CREATE DATABASE taskwal_example OWNER taskwal_example;
