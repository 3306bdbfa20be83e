"""How much room an engine has: tokens that it keeps, and how many it computes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import ContinuousBatchingConfig, PreTrainedModel

from horen.errors import ConfigError
from horen.extras import need

# On a CPU, where nothing else bounds it: a model's whole context, or as many tokens as some dozens of answers have.
_USUAL_TOKENS = 32_768
_USUAL_BATCH = 512
# Of the memory that is free, no more than this share keeps tokens.
_SHARE = 0.25
_LEAST_PAGE = 4  # transformers' own


@dataclass(frozen=True)
class Room:
    """The room of an engine.

    Attributes:
        tokens: of all requests together whose states are kept; None for as many as there is memory for, on a CPU for
            no more than are useful.
        batch: most tokens that are computed at once; longer prompts are computed in parts. None for the usual.
        requests: most requests that are computed at once.
        page: tokens of a block; equal beginnings of prompts are shared in whole blocks.

    Raises:
        ConfigError: for what is no such number.
    """

    tokens: int | None = None
    batch: int | None = None
    requests: int = 64
    page: int = 32

    def __post_init__(self) -> None:
        least = {"tokens": 1, "batch": 1, "requests": 1, "page": _LEAST_PAGE}
        for name, number in least.items():
            given = getattr(self, name)
            if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < number):
                raise ConfigError(f"{name}={given!r} is no room for an engine: give a whole number, {number} or more.")

    def config(self, model: PreTrainedModel) -> ContinuousBatchingConfig:
        """Return how transformers is told."""
        tokens, batch = self.tokens, self.batch
        if model.device.type == "cpu":
            tokens, batch = tokens or _affordable(model), batch or _USUAL_BATCH
        return ContinuousBatchingConfig(
            page_size=self.page,
            num_blocks=None if tokens is None else -(-tokens // self.page),
            max_batch_tokens=batch,
            max_requests_per_batch=self.requests if batch is None else min(self.requests, batch),
            # Values are written by hooks, which captured graphs would not call; and each step's are planned before it.
            use_cuda_graph=False,
            use_async_batching=False,
            # As the model was loaded, so that answers are those of the same model elsewhere.
            auto_switch_to_flash=False,
        )


def _affordable(model: PreTrainedModel) -> int:
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    each = int(2 * config.num_hidden_layers * heads * size * model.dtype.itemsize)
    memory: Any = need("serve", "psutil", "The room for an engine's tokens on a CPU needs", ", or give it as tokens=…")
    free = int(_SHARE * memory.virtual_memory().available)
    limit = int(getattr(config, "max_position_embeddings", None) or 0)
    return max(1, min(max(limit, _USUAL_TOKENS), free // each))
