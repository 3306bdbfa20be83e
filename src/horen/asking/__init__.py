"""Asking a wrapped model, and telling why it answered as it did."""
