"""The associative memory: knows tensors and nothing of models, tokenizers or files."""

from horen.memory.codebook import Codebook, Surroundings
from horen.memory.gate import Gate, Scoring
from horen.memory.hopfield import Retrieval, energy, hopfield_step, retrieve, trajectory
from horen.memory.keys import Int8Keys, Keys, KeyStorage
from horen.memory.keyspace import KeySpace
from horen.memory.matching import STEPPED, Candidates, Match
from horen.memory.projection import azimuthal
from horen.memory.values import Packed, Storage, delta

__all__ = [
    "STEPPED",
    "Candidates",
    "Codebook",
    "Gate",
    "Int8Keys",
    "KeySpace",
    "KeyStorage",
    "Keys",
    "Match",
    "Packed",
    "Retrieval",
    "Scoring",
    "Storage",
    "Surroundings",
    "azimuthal",
    "delta",
    "energy",
    "hopfield_step",
    "retrieve",
    "trajectory",
]
