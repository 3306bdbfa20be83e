"""The tables of a store. A change here comes with a migration (:mod:`horen.database.migrations`).

A column ``seal`` tells damage of its row (:mod:`horen.database.seals`).
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
# SQLite numbers rows by itself only where the type is called INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")
_Json = JSON(none_as_null=True)

#: One row: what the codebook is, and how far its numbers have come. Whoever writes to the store locks it first.
codebook = Table(
    "codebook",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("store", Text, nullable=False),
    Column("config", _Json, nullable=False),
    Column("fixed", LargeBinary, nullable=False),
    Column("tables", _Json, nullable=False),
    Column("version", _Number, nullable=False),
    Column("edits", _Number, nullable=False),
    Column("entries", _Number, nullable=False),
    Column("number_of_values", _Number, nullable=False),
    Column("seal", LargeBinary, nullable=False),
)

#: Rows of the tables that grow, as they were added: bytes of as many rows as are counted.
block = Table(
    "block",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("first_entry", _Number, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("first_value", _Number, nullable=False),
    Column("number_of_values", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
)

version = Table(
    "version",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("operation", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("removed", _Json, nullable=False),
    Column("restored", _Json, nullable=False),
    Column("dropped", _Json, nullable=False),
    Column("changes", _Json, nullable=False),
    Column("undoes", _Number, index=True),
    Column("target", _Number),
    Column("seal", LargeBinary, nullable=False),
)

version_tag = Table(
    "version_tag",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", _Number, ForeignKey("version.number"), nullable=False, index=True),
)

edit_set = Table(
    "edit_set",
    metadata,
    Column("name", Text, primary_key=True),
    Column("switched_on", Boolean(create_constraint=False), nullable=False),
)

edit = Table(
    "edit",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("version", _Number, nullable=False, index=True),
    Column("state", Text, nullable=False),
    Column("active", Boolean(create_constraint=False), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("rephrases", _Json, nullable=False),
    Column("subject", Text, index=True),
    Column("source", Text),
    Column("set_name", Text, ForeignKey("edit_set.name"), index=True),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("replaces", _Json, nullable=False),
    Column("draft", _Number),
    Column("receipt", _Json, nullable=False),
    Column("tags", _Json, nullable=False),
    # Prompt, target, rephrases and subject in one text without case: what a search reads.
    Column("words", Text, nullable=False),
    Column("seal", LargeBinary, nullable=False),
    Index("ix_edit_active_id", "active", "id"),
    Index("ix_edit_author_id", "author", "id"),
    Index("ix_edit_state_id", "state", "id"),
    Index("ix_edit_state_author", "state", "author"),
    Index("ix_edit_state_set_name", "state", "set_name"),
)

edit_tag = Table(
    "edit_tag",
    metadata,
    Column("tag", Text, primary_key=True),
    Column("edit", _Number, ForeignKey("edit.id"), primary_key=True, index=True),
    # Whether the edit is, so that counting by tag reads no edits.
    Column("published", Boolean(create_constraint=False), nullable=False),
    Index("ix_edit_tag_published_tag", "published", "tag"),
    sqlite_with_rowid=False,
)

#: A part of a digest of every wording, in the form in which wordings are compared, by which clashes are found.
wording = Table(
    "wording",
    metadata,
    Column("mark", _Number, primary_key=True, autoincrement=False),
    Column("edit", _Number, ForeignKey("edit.id"), primary_key=True, autoincrement=False, index=True),
    sqlite_with_rowid=False,
)

#: Which versions changed an edit after its publication.
touched = Table(
    "touched",
    metadata,
    Column("edit", _Number, ForeignKey("edit.id"), primary_key=True, autoincrement=False),
    Column("version", _Number, ForeignKey("version.number"), primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

draft = Table(
    "draft",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("state", Text, nullable=False, index=True),
    Column("prompt", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("rephrases", _Json, nullable=False),
    Column("subject", Text),
    Column("source", Text),
    Column("set_name", Text),
    Column("tags", _Json, nullable=False),
    Column("author", Text, nullable=False),
    Column("revised_by", Text),
    Column("reason", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("wrong", Text),
    Column("replaces", _Json, nullable=False),
    Column("publish", Boolean(create_constraint=False), nullable=False),
    # Grows with each revision: what is trained for an earlier one is thrown away.
    Column("revision", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("taken_by", Text),
    Column("taken_until", Float),
    Column("base", _Json),
    Column("trained", LargeBinary),
    Column("receipt", _Json, nullable=False),
    Column("similar", _Number),
    Column("to_evaluate", _Json),
    Column("evaluation", _Json),
    Column("error", Text),
    Column("edit", _Number),
    Column("decided_by", Text),
    Column("decided_at", Text),
    Column("decision", Text),
    Column("seal", LargeBinary, nullable=False),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("scopes", _Json, nullable=False),
    Column("created", Text, nullable=False),
    Column("expires", Text),
    Column("revoked", Text),
    Column("used", Text),
)

#: Lines are added to it alone; triggers see to that.
audit = Table(
    "audit",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("action", Text, nullable=False, index=True),
    Column("object", Text, nullable=False),
    Column("version", _Number),
    Column("detail", _Json, nullable=False),
    Column("seal", LargeBinary, nullable=False),
)
