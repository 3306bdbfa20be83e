"""Counting by state, author, set and tag without reading edits; no line of the audit log is replaced.

Revision ID: 0002_counting
"""

from __future__ import annotations

from alembic import op

revision = "0002_counting"
down_revision = "0001_first_form"


def upgrade() -> None:
    """Make the indexes, and have SQLite refuse what it does not count as removing a line."""
    op.create_index("ix_edit_state_id", "edit", ["state", "id"])
    op.create_index("ix_edit_state_author", "edit", ["state", "author"])
    op.create_index("ix_edit_state_set_name", "edit", ["state", "set_name"])
    op.create_index("ix_edit_tag_published_tag", "edit_tag", ["published", "tag"])
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit WHEN EXISTS "
            "(SELECT 1 FROM audit WHERE id = NEW.id) "
            "BEGIN SELECT RAISE(ABORT, 'lines are only added to audit'); END"
        )
