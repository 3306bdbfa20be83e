"""WISE: a side memory beside one layer's down projection."""

from horen.editors.wise.config import WiseConfig
from horen.editors.wise.method import Wise

__all__ = ["Wise", "WiseConfig"]
