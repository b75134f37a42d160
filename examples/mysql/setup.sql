-- Once, as an administrator: mariadb -u root < examples/mysql/setup.sql
-- The right to CREATE is needed only until the tables are made, ALTER for a newer version of them.
CREATE DATABASE IF NOT EXISTS taskwal_example;
CREATE USER IF NOT EXISTS 'taskwal_example'@'127.0.0.1' IDENTIFIED BY 'change me';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER ON taskwal_example.* TO 'taskwal_example'@'127.0.0.1';
