"""DEFER: a classifier beside one layer says when a linear layer answers in its place."""

from horen.editors.defer.config import DeferConfig
from horen.editors.defer.method import Defer

__all__ = ["Defer", "DeferConfig"]
