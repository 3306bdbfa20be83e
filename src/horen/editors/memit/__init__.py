"""MEMIT (Meng et al. 2023, arXiv 2210.07229), written from its equations."""

from horen.editors.memit.config import MemitConfig
from horen.editors.memit.method import Memit

__all__ = ["Memit", "MemitConfig"]
