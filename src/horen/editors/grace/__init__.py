"""GRACE (Hartvigsen et al. 2023, arXiv 2211.11031), written from its equations."""

from horen.editors.grace.config import GraceConfig
from horen.editors.grace.method import Grace

__all__ = ["Grace", "GraceConfig"]
