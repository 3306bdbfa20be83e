"""AlphaEdit (Fang et al. 2024, arXiv 2410.02355), written from its equations."""

from horen.editors.alphaedit.config import AlphaEditConfig
from horen.editors.alphaedit.method import AlphaEdit

__all__ = ["AlphaEdit", "AlphaEditConfig"]
