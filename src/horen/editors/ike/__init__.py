"""IKE (Zheng et al. 2023, arXiv 2305.12740): in-context editing with demonstrations, written from its description."""

from horen.editors.ike.config import IkeConfig
from horen.editors.ike.method import Ike

__all__ = ["Ike", "IkeConfig"]
