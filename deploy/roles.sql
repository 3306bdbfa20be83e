-- The role that engines follow a store with: it may read, and nothing else. Run it once, as the role that owns the
-- store and may make roles, before or after the store is made:
--
--   READ_PASSWORD_FILE=/etc/horen/read_password psql -v ON_ERROR_STOP=1 -f deploy/roles.sql service=horen
--
-- PostgreSQL's image runs it when it makes the database (compose.yaml).
\set password `cat "$READ_PASSWORD_FILE"`
CREATE ROLE horen_read LOGIN PASSWORD :'password';
GRANT USAGE ON SCHEMA public TO horen_read;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO horen_read;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO horen_read;
