"""Where a decoder-only transformers model keeps its layers, their MLPs and the MLPs' down projections.

Everything is told from structure (module tree, shapes, signatures), so no family of models is named here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from horen.config import SITES, HorenConfig, parse_sites, resolve_layer
from horen.errors import ConfigError, ModelError
from horen.memory import delta
from horen.model.alone import here
from horen.model.devices import run_token
from horen.model.linear import projection_out
from horen.model.past import NAMES

# A module that asks for any of these mixes positions; an MLP needs the hidden states alone.
_ATTENTION_ARGUMENTS = frozenset(
    {*NAMES, "attention_mask", "past_key_value", "layer_past", "position_embeddings", "position_ids"}
)


@dataclass(frozen=True)
class Site:
    """A place in the network: one side of one module.

    Attributes:
        layer: number of the decoder layer.
        module: the module that is hooked.
        side: whether its input or its output is meant.
        name: mlp_input, mlp_hidden, mlp_output or layer_output.
        replaces: whether what is written there takes the place of the output, instead of being added to it.
    """

    layer: int
    module: nn.Module
    side: Literal["input", "output"]
    name: str
    replaces: bool = False

    def written(self, values: Tensor, hidden: Tensor) -> Tensor:
        """Return what the module gives where values are written, [n, d_v].

        It is made of values [n, P] and the module's own outputs [n, d_v].
        """
        return values if self.replaces else hidden + delta(values, hidden)

    def size(self, outputs: Tensor) -> Tensor:
        """Return how large outputs [B, d] of the module are, [B]: the unit of training's steps.

        It is the root mean square of an MLP's. A few coordinates of a layer's may outweigh all others a hundred times
        (massive activations, Sun et al. 2024), so there it is the median of their absolute values.
        """
        return outputs.abs().median(-1).values if self.name == "layer_output" else outputs.square().mean(-1).sqrt()


@dataclass(frozen=True)
class Layout:
    """The decoder layers of a model and how their MLPs are found."""

    layers: nn.ModuleList
    hidden_size: int

    @staticmethod
    def of(model: PreTrainedModel) -> Layout:
        """Find the layers of ``model``.

        Raises:
            ModelError: when it has no stack of decoder layers with an MLP each.
        """
        config = model.config.get_text_config(decoder=True)
        count = getattr(config, "num_hidden_layers", None)
        if getattr(model.config, "is_encoder_decoder", False):
            raise ModelError(f"{type(model).__name__} is no decoder-only model: give one that is, such as a causal LM.")
        stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
        if not stacks:
            raise ModelError(
                f"{type(model).__name__} has no list of {count} decoder layers: give a decoder-only transformers model."
            )
        # Lists of experts or norms may happen to be as long; the layers hold the most weights.
        layers = max(stacks, key=lambda stack: sum(p.numel() for p in stack.parameters()))
        layout = Layout(layers, int(config.hidden_size))
        layout.mlp(0)
        return layout

    def mlp(self, number: int) -> tuple[nn.Module, nn.Module]:
        """Return the first and the last module of the MLP of a layer; the same module where the MLP is one.

        Raises:
            ModelError: when the layer has no MLP.
        """
        candidates = [child for child in self.layers[number].children() if _is_token_wise(child)]
        blocks = [child for child in candidates if projection_out(child) is None]
        if blocks:
            block = max(blocks, key=lambda child: sum(p.numel() for p in child.parameters()))
            return block, block
        linears = [child for child in candidates if projection_out(child) is not None]
        if len(linears) >= 2 and projection_out(linears[-1]) == self.hidden_size:
            return linears[0], linears[-1]
        raise ModelError(
            f"Layer {number} ({type(self.layers[number]).__name__}) has no MLP to edit: choose another layer, "
            "or a model whose layers have one."
        )

    def down_projection(self, number: int) -> nn.Module | None:
        """Return the one linear module that takes a layer's MLP back to the hidden size.

        It is None in a mixture of experts.
        """
        first, last = self.mlp(number)
        if first is not last:
            return last
        children = list(last.children())
        downs = [child for child in children if projection_out(child) == self.hidden_size]
        experts = any(isinstance(child, nn.ModuleList) or _is_stacked(child) for child in children)
        return None if experts or not downs else downs[-1]

    def query_and_value(self, number: int) -> list[nn.Module]:
        """Return the linear modules that make a layer's queries and values, or the joint one; none without attention.

        Which of several is which only their names tell: q and v are their first letters.
        """
        linears: list[tuple[str, nn.Module]] = []
        for child in self.layers[number].children():
            if _maps(child) and not _is_token_wise(child):
                linears += [(name, m) for name, m in child.named_children() if projection_out(m) is not None]
        named = [module for name, module in linears if name.startswith(("q", "v"))]
        return named or [module for _, module in linears[:-1]]

    def up_projections(self, number: int) -> list[nn.Module]:
        """Return the linear modules that take the hidden size into a layer's MLP, its gate among them.

        In a mixture there are none.
        """
        down = self.down_projection(number)
        if down is None:
            return []
        first, last = self.mlp(number)
        if first is not last:
            return [first]
        return [child for child in last.children() if projection_out(child) is not None and child is not down]

    def read_sites(self, config: HorenConfig) -> tuple[Site, ...]:
        """Return where keys and queries are read, in the order in which a forward call comes by.

        Raises:
            ConfigError: when a configured site does not exist in this model.
        """
        # Two depths may name one layer of a shallow model: it is read once.
        found = {self._read_site(name, layer) for name, layer in parse_sites(config.read_sites)}
        return tuple(sorted(found, key=lambda site: (site.layer, SITES.index(site.name))))

    def _read_site(self, name: str, layer: float) -> Site:
        number = resolve_layer(layer, len(self.layers), "read_sites")
        if name == "layer_output":
            return Site(number, self.layers[number], "output", name)
        first, last = self.mlp(number)
        down = self.down_projection(number)
        if name == "auto":
            name = "mlp_input" if down is None else "mlp_hidden"
        if name == "mlp_hidden":
            if down is None:
                raise ConfigError(
                    f"The site mlp_hidden in read_sites needs one down projection, but the MLP of layer {number} "
                    f"({type(last).__name__}) has none or many: use 'mlp_input' or 'auto'."
                )
            return Site(number, down, "input", name)
        return Site(number, first, "input", name) if name == "mlp_input" else Site(number, last, "output", name)

    def write_site(self, config: HorenConfig) -> Site:
        """Return where values are written.

        They are added to the output of a layer's MLP, or are what the layer gives.
        """
        number = resolve_layer(config.write_layer, len(self.layers), "write_layer")
        mlp = self.mlp(number)[1]  # also where the whole layer is replaced: one without an MLP is none to edit
        if config.value == "state":
            return Site(number, self.layers[number], "output", "layer_output", replaces=True)
        return Site(number, mlp, "output", "mlp_output")

    def check_order(self, read: Site, write: Site) -> None:
        """Raise ConfigError unless ``read`` is computed before ``write``."""
        if read.layer > write.layer or (read.layer == write.layer and read.name.endswith("_output")):
            raise ConfigError(
                f"read_sites={read.name}@{read.layer} comes after write_layer={write.layer}: a prompt must be read "
                "before its value can be written; choose an earlier layer in read_sites or a later write_layer."
            )


def read_feature_sizes(model: PreTrainedModel, sites: Sequence[Site]) -> list[int]:
    """Return the length of one activation at each read site, found by running one token through the model."""
    return [_feature_size(model, site) for site in sites]


def _feature_size(model: PreTrainedModel, site: Site) -> int:
    found: list[int] = []

    def note(_module: nn.Module, inputs: Any) -> None:
        found.append(inputs[0].shape[-1])

    if site.side == "output":
        return int(model.config.get_text_config(decoder=True).hidden_size)
    handle = site.module.register_forward_pre_hook(here(note))
    try:
        run_token(model)
    finally:
        handle.remove()
    return found[0]


def first_tensor(output: Any) -> Tensor:
    """Return the hidden states in what a module returned: itself, or the first of a tuple (a router returns more)."""
    tensor = output if isinstance(output, Tensor) else output[0]
    if not isinstance(tensor, Tensor):
        raise ModelError(f"An MLP returned {type(output).__name__} where hidden states were expected.")
    return tensor


def joined(activations: Sequence[Tensor]) -> Tensor:
    """Return the activations of several sites, each [..., d], one behind the other on the device of the last."""
    last = activations[-1]
    return last if len(activations) == 1 else torch.cat([part.to(last) for part in activations], dim=-1)


def with_first_tensor(output: Any, tensor: Tensor) -> Any:
    """Return ``output`` with its hidden states replaced."""
    return tensor if isinstance(output, Tensor) else (tensor, *output[1:])


def rewritten(
    output: Any, shape: tuple[int, int], rows: Sequence[int], columns: Sequence[int], change: Callable[[Tensor], Tensor]
) -> Any:
    """Return what a module returned, with its hidden states changed at some places.

    Args:
        output: of a batch, whose rows may have been flattened.
        shape: number of rows and columns.
        rows: of the n places.
        columns: of them.
        change: gives new states [n, d] for the float32 ones.
    """
    hidden = first_tensor(output)
    states = hidden.reshape(*shape, -1).clone()
    here = torch.tensor(rows, device=hidden.device), torch.tensor(columns, device=hidden.device)
    states[here] = change(states[here].float()).to(states.dtype)
    return with_first_tensor(output, states.reshape(hidden.shape))


def _is_token_wise(module: nn.Module) -> bool:
    if not _maps(module):
        return False  # norms, activations, dropout
    return _ATTENTION_ARGUMENTS.isdisjoint(inspect.signature(module.forward).parameters)


def _maps(module: nn.Module) -> bool:
    """Return whether a module has matrices, or linear modules that keep theirs elsewhere, as some quantized ones do."""
    return any(p.ndim >= 2 for p in module.parameters()) or any(projection_out(m) is not None for m in module.modules())


def _is_stacked(module: nn.Module) -> bool:
    """Return whether a module holds the weights of several experts in one tensor."""
    return any(parameter.ndim >= 3 for parameter in module.parameters(recurse=False))
