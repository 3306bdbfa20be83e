"""The command line; the entry point is ``main``."""

from horen.cli.app import main

__all__ = ["main"]
