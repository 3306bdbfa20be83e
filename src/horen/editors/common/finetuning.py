"""What methods that fine-tune weights share: the loss, and Adam on it with an early stop."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

from horen.config.settings import Settings, setting
from horen.editing.training import packed
from horen.editors.common.samples import summed_losses, target_labels
from horen.errors import EditError
from horen.model.devices import device_of
from horen.model.padding import left_padded
from horen.model.partial.precision import bfloat16_is_fast, bfloat16_matrices
from horen.model.partial.tail import Sample


@dataclass(frozen=True)
class FineTuningSettings(Settings):
    """How weights are fine-tuned on a batch of edits."""

    max_steps: int = setting(50, "most optimisation steps a batch of edits may take", low=1)
    stop_loss: float = setting(
        0.03, "a batch of edits has converged when its mean loss, in nats a target token, is below this", low=0
    )
    train_end: bool = setting(True, "train the end token after the target, so that the answer ends where it should")
    precision: str = setting(
        "auto",
        "auto: compute losses in bfloat16 where the machine is faster at it; the trained weights keep their type and "
        "their gradients add up in it; model: the model's own throughout",
        choices=("auto", "model"),
    )
    batch_tokens: int = setting(2048, "most padded tokens, of prompt and target, that are computed at once", low=1)


def target_losses(
    model: PreTrainedModel, samples: Sequence[Sample], weights: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Return the mean −log p of a target token, in nats, for each of B samples: [B] float32, differentiable.

    Args:
        model: whose weights the loss depends on.
        samples: prompts and targets.
        weights: tensors in the place of some of its parameters, by name.
    """
    rows = [sample.prompt + sample.target[:-1] for sample in samples]
    ids, mask, positions = left_padded(rows, model)
    longest = max(len(sample.target) for sample in samples)
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "use_cache": False}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        given["logits_to_keep"] = longest
    output: Any = functional_call(model, dict(weights), (), given, tie_weights=False) if weights else model(**given)
    logits = output.logits[:, -longest:]
    labels = target_labels(samples, longest).to(logits.device)
    return summed_losses(logits, labels) / (labels >= 0).sum(-1)


def descend(
    losses: Callable[[Sequence[Sample], Mapping[str, Tensor]], Tensor],
    samples: Sequence[Sample],
    weights: Sequence[Tensor],
    rate: float,
    config: FineTuningSettings,
    *,
    model: PreTrainedModel,
    constrain: Callable[[], None] = lambda: None,
) -> None:
    """Train weights on the mean loss of all samples, in place, until it is low enough or the steps are used up.

    Args:
        losses: of each of some samples, with tensors in the place of some parameters; see :func:`target_losses`.
        samples: all of them; how many are computed at once decides memory and nothing else.
        weights: leaves that take a gradient.
        rate: Adam's learning rate.
        config: max_steps, stop_loss, precision and batch_tokens are used.
        model: that the losses are of.
        constrain: called after every step.

    Raises:
        EditError: when the loss is no number any more.
    """
    optimizer = torch.optim.Adam(weights, lr=rate)
    lengths = [[len(sample.prompt) + len(sample.target)] for sample in samples]
    vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)
    parts = list(packed(lengths, config.batch_tokens, vocabulary))
    device, rough = device_of(model), config.precision == "auto" and bfloat16_is_fast(model)
    cast = bfloat16_matrices(model, [model]) if rough else {}
    for _ in range(config.max_steps):
        optimizer.zero_grad()
        mean = 0.0
        for part in parts:
            with torch.enable_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=rough):
                loss = losses([samples[i] for i in part], cast).sum() / len(samples)
            loss.backward()  # type: ignore[no-untyped-call]
            mean += float(loss.detach())
        if not math.isfinite(mean):
            raise EditError(f"The loss of {len(samples)} training prompts became {mean}: lower learning_rate.")
        if mean < config.stop_loss:
            return
        optimizer.step()
        constrain()
