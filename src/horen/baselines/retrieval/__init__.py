"""In-context editing: a retrieved fact before the question."""

from horen.baselines.retrieval.config import RetrievalConfig
from horen.baselines.retrieval.method import Encoder, Retrieval

__all__ = ["Encoder", "Retrieval", "RetrievalConfig"]
