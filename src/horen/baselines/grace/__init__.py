"""GRACE (Hartvigsen et al. 2023, arXiv 2211.11031), written from its equations."""

from horen.baselines.grace.config import GraceConfig
from horen.baselines.grace.method import Grace

__all__ = ["Grace", "GraceConfig"]
