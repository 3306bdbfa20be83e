"""Durable storage: a folder that is either in its old state or in its new one, whatever happens between."""

from horen.store.additions import Begun, Known
from horen.store.folder import Folder, read_folder, write_folder
from horen.store.lock import lock_folder

__all__ = ["Begun", "Folder", "Known", "lock_folder", "read_folder", "write_folder"]
