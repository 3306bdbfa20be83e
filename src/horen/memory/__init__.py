"""The associative memory: knows tensors and nothing of models, tokenizers or files."""

from horen.memory.codebook import Codebook, Match
from horen.memory.hopfield import Retrieval, energy, hopfield_step, retrieve
from horen.memory.keyspace import KeySpace

__all__ = ["Codebook", "KeySpace", "Match", "Retrieval", "energy", "hopfield_step", "retrieve"]
