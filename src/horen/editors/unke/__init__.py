"""UnKE (Deng et al. 2025, arXiv 2405.15349), written from its equations."""

from horen.editors.unke.config import UnkeConfig
from horen.editors.unke.method import Unke

__all__ = ["Unke", "UnkeConfig"]
