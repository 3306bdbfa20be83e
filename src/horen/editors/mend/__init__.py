"""MEND (Mitchell et al. 2022, arXiv 2110.11309), written from its equations."""

from horen.editors.mend.config import MendConfig, MendTraining
from horen.editors.mend.method import Mend
from horen.editors.mend.training import Lesson, train_network

__all__ = ["Lesson", "Mend", "MendConfig", "MendTraining", "train_network"]
