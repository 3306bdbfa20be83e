"""The first form of a store's tables.

Revision ID: 0001_first_form
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001_first_form"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Make the tables."""
    _codebook()
    _edits()
    _drafts()
    _service()
    _add_only("audit")


def _codebook() -> None:
    op.create_table(
        "codebook",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("fixed", sa.LargeBinary(), nullable=False),
        sa.Column("tables", JSON, nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.Column("edits", NUMBER, nullable=False),
        sa.Column("entries", NUMBER, nullable=False),
        sa.Column("number_of_values", NUMBER, nullable=False),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_codebook")),
    )
    op.create_table(
        "block",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("first_entry", NUMBER, nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("first_value", NUMBER, nullable=False),
        sa.Column("number_of_values", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_block")),
    )
    op.create_table(
        "version",
        sa.Column("number", NUMBER, autoincrement=False, nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("removed", JSON, nullable=False),
        sa.Column("restored", JSON, nullable=False),
        sa.Column("dropped", JSON, nullable=False),
        sa.Column("changes", JSON, nullable=False),
        sa.Column("undoes", NUMBER, nullable=True),
        sa.Column("target", NUMBER, nullable=True),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_version")),
    )
    op.create_index(op.f("ix_version_undoes"), "version", ["undoes"], unique=False)
    op.create_table(
        "version_tag",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["version"], ["version.number"], name=op.f("fk_version_tag_version")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_version_tag")),
    )
    op.create_index(op.f("ix_version_tag_version"), "version_tag", ["version"], unique=False)


def _edits() -> None:
    op.create_table(
        "edit_set",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("switched_on", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_edit_set")),
    )
    op.create_table(
        "edit",
        sa.Column("id", NUMBER, autoincrement=False, nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("rephrases", JSON, nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("set_name", sa.Text(), nullable=True),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.Column("replaces", JSON, nullable=False),
        sa.Column("draft", NUMBER, nullable=True),
        sa.Column("receipt", JSON, nullable=False),
        sa.Column("tags", JSON, nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["set_name"], ["edit_set.name"], name=op.f("fk_edit_set_name")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_edit")),
    )
    op.create_index("ix_edit_active_id", "edit", ["active", "id"], unique=False)
    op.create_index("ix_edit_author_id", "edit", ["author", "id"], unique=False)
    op.create_index(op.f("ix_edit_set_name"), "edit", ["set_name"], unique=False)
    op.create_index(op.f("ix_edit_subject"), "edit", ["subject"], unique=False)
    op.create_index(op.f("ix_edit_version"), "edit", ["version"], unique=False)
    op.create_table(
        "edit_tag",
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("edit", NUMBER, nullable=False),
        sa.Column("published", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["edit"], ["edit.id"], name=op.f("fk_edit_tag_edit")),
        sa.PrimaryKeyConstraint("tag", "edit", name=op.f("pk_edit_tag")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_edit_tag_edit"), "edit_tag", ["edit"], unique=False)
    op.create_table(
        "wording",
        sa.Column("mark", NUMBER, autoincrement=False, nullable=False),
        sa.Column("edit", NUMBER, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["edit"], ["edit.id"], name=op.f("fk_wording_edit")),
        sa.PrimaryKeyConstraint("mark", "edit", name=op.f("pk_wording")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_wording_edit"), "wording", ["edit"], unique=False)
    op.create_table(
        "touched",
        sa.Column("edit", NUMBER, autoincrement=False, nullable=False),
        sa.Column("version", NUMBER, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["edit"], ["edit.id"], name=op.f("fk_touched_edit")),
        sa.ForeignKeyConstraint(["version"], ["version.number"], name=op.f("fk_touched_version")),
        sa.PrimaryKeyConstraint("edit", "version", name=op.f("pk_touched")),
        sqlite_with_rowid=False,
    )


def _drafts() -> None:
    op.create_table(
        "draft",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("rephrases", JSON, nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("set_name", sa.Text(), nullable=True),
        sa.Column("tags", JSON, nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("revised_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.Column("wrong", sa.Text(), nullable=True),
        sa.Column("replaces", JSON, nullable=False),
        sa.Column("publish", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("taken_by", sa.Text(), nullable=True),
        sa.Column("taken_until", sa.Float(), nullable=True),
        sa.Column("base", JSON, nullable=True),
        sa.Column("trained", sa.LargeBinary(), nullable=True),
        sa.Column("receipt", JSON, nullable=False),
        sa.Column("similar", NUMBER, nullable=True),
        sa.Column("to_evaluate", JSON, nullable=True),
        sa.Column("evaluation", JSON, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("edit", NUMBER, nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.Text(), nullable=True),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_draft")),
    )
    op.create_index(op.f("ix_draft_state"), "draft", ["state"], unique=False)


def _service() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.Column("expires", sa.Text(), nullable=True),
        sa.Column("revoked", sa.Text(), nullable=True),
        sa.Column("used", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_key_digest")),
    )
    op.create_table(
        "audit",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("version", NUMBER, nullable=True),
        sa.Column("detail", JSON, nullable=False),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_action"), "audit", ["action"], unique=False)
    op.create_index(op.f("ix_audit_actor"), "audit", ["actor"], unique=False)


def _add_only(table: str) -> None:
    """Have the database itself refuse to change or remove a line of a table."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'lines are only added to {table}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_add_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'lines are only added to {table}'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_add_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_add_only()"
    )
