"""Constrained fine-tuning of one layer (Zhu et al. 2020, arXiv 2012.00363; Meng et al. 2022, arXiv 2202.05262)."""

from horen.editors.ft.config import FTConfig
from horen.editors.ft.method import FT

__all__ = ["FT", "FTConfig"]
