"""In-context editing: a retrieved fact before the question."""

from horen.editors.retrieval.config import RetrievalConfig
from horen.editors.retrieval.method import Encoder, Fact, Retrieval

__all__ = ["Encoder", "Fact", "Retrieval", "RetrievalConfig"]
