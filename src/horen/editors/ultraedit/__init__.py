"""UltraEdit (Gu et al. 2025, arXiv 2505.14679), written from its equations."""

from horen.editors.ultraedit.config import UltraEditConfig
from horen.editors.ultraedit.method import UltraEdit

__all__ = ["UltraEdit", "UltraEditConfig"]
