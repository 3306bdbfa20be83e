"""What Alembic runs: the migrations that a store lacks, on a connection that it is given."""

from __future__ import annotations

from alembic import context

from horen.database.schema import metadata

connection = context.config.attributes["connection"]
# SQLite changes a table by copying it.
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
