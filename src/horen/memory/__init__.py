"""The associative memory: knows tensors and nothing of models, tokenizers or files."""

from horen.memory.codebook import Codebook, Match, Surroundings
from horen.memory.gate import Gate, Scoring
from horen.memory.hopfield import Retrieval, energy, hopfield_step, retrieve, trajectory
from horen.memory.keyspace import KeySpace
from horen.memory.projection import azimuthal

__all__ = [
    "Codebook",
    "Gate",
    "KeySpace",
    "Match",
    "Retrieval",
    "Scoring",
    "Surroundings",
    "azimuthal",
    "energy",
    "hopfield_step",
    "retrieve",
    "trajectory",
]
