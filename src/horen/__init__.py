"""HoReN: lifelong model editing by normalized Hopfield retrieval (arXiv 2605.08143)."""

from horen._version import __version__

__all__ = ["__version__"]
