"""Durable storage: a folder that is either in its old state or in its new one, whatever happens between."""

from horen.store.folder import Folder, lock_folder, read_folder, write_folder

__all__ = ["Folder", "lock_folder", "read_folder", "write_folder"]
