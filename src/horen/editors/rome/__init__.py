"""ROME (Meng et al. 2022, arXiv 2202.05262), written from its equations."""

from horen.editors.rome.config import RomeConfig
from horen.editors.rome.method import Rome

__all__ = ["Rome", "RomeConfig"]
