"""Where a model computes, which is not always where its weights lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def device_of(model: PreTrainedModel) -> torch.device:
    """The device that a model's inputs belong on, also of one that accelerate has offloaded or spread over several."""
    untyped: Any = model
    for module in (model, untyped.get_input_embeddings()):
        hook: Any = getattr(module, "_hf_hook", None)
        for each in (hook, *getattr(hook, "hooks", ())):
            device = getattr(each, "execution_device", None)
            if device is not None:
                return torch.device(device)
    return model.device
