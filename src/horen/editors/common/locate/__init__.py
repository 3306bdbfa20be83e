"""What methods share that locate a fact at its subject's last token and write it into down projections."""

from horen.editors.common.locate.config import RELEASED, LocateConfig
from horen.editors.common.locate.method import LocateMethod
from horen.editors.common.locate.spreading import SpreadingMethod

__all__ = ["RELEASED", "LocateConfig", "LocateMethod", "SpreadingMethod"]
