"""Training of edit values; knows no transformers model, only an objective it can differentiate."""

from horen.editing.training.batches import packed, seeded
from horen.editing.training.rounding import Stored
from horen.editing.training.values import Objective, Trained, train_checked, train_values

__all__ = ["Objective", "Stored", "Trained", "packed", "seeded", "train_checked", "train_values"]
