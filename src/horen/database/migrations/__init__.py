"""Migrations of a store's tables, by Alembic: each has a name, and a store says which was its last."""
