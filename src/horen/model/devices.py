"""Where a model computes, and where its weights lie, which accelerate may have made two places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from horen.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def device_of(model: PreTrainedModel) -> torch.device:
    """Return the device that a model's inputs belong on.

    It is known also where accelerate has offloaded the model or spread it over several.
    """
    untyped: Any = model
    for module in (model, untyped.get_input_embeddings()):
        for hook in _hooks(module):
            device = getattr(hook, "execution_device", None)
            if device is not None:
                return torch.device(device)
    return model.device


def run_token(model: PreTrainedModel) -> None:
    """Run one token through a model, without gradients, for hooks that look on.

    Raises:
        ModelError: when the model does not run.
    """
    given: Any = {"input_ids": torch.zeros(1, 1, dtype=torch.long, device=device_of(model)), "use_cache": False}
    try:
        with torch.no_grad():
            model(**given)
    except (RuntimeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{type(model).__name__} cannot run a single token on {given['input_ids'].device} ({reason}): load it so "
            "that it does without an editor, for example unquantized or on another device."
        ) from error


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return parameters by name, tied ones under the first of their names alone, wherever their weights lie.

    Raises:
        ModelError: when weights are nowhere to be found.
    """
    found = dict(model.named_parameters())
    groups: dict[str, set[str]] = defaultdict(set)
    for target, source in getattr(model, "all_tied_weights_keys", {}).items():
        groups[source] |= {target, source}
    # Tied weights are one parameter, and offloading makes several of it.
    for group in groups.values():
        names = [name for name in found if name in group]
        if len(names) > 1 and any(found[name].is_meta for name in names):
            first = weights_of(model, names[0]).cpu()
            for name in names[1:]:
                if torch.equal(first, weights_of(model, name).cpu()):
                    del found[name]
    return found


def weights_of(model: nn.Module, name: str) -> Tensor:
    """Return the weights of a parameter, read from where accelerate keeps them if it has offloaded them.

    Raises:
        ModelError: when they are nowhere to be found.
    """
    parameter = model.get_parameter(name)
    if not parameter.is_meta:
        return parameter.detach()
    path = name.split(".")
    # They are known to a hook of the module itself, or of one around it where modules are loaded together.
    for depth in reversed(range(len(path))):
        for hook in _hooks(model.get_submodule(".".join(path[:depth]))):
            try:
                kept = (getattr(hook, "weights_map", None) or {}).get(".".join(path[depth:]))
            except OSError as error:
                raise ModelError(
                    f"The weights of {name}, which were offloaded to the disk, cannot be read ({error}): put the files "
                    "back, or load the model anew."
                ) from error
            if kept is not None:
                weights: Tensor = kept.detach().to(parameter.dtype)
                return weights
    raise ModelError(
        f"{name} is on the meta device and nothing holds its weights: load the model with its weights, for example "
        "with from_pretrained(…)."
    )


def _hooks(module: nn.Module) -> Iterator[Any]:
    """Yield the hooks of accelerate on a module."""
    hook: Any = getattr(module, "_hf_hook", None)
    yield from (hook, *getattr(hook, "hooks", ()))
