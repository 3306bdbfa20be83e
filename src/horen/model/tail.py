"""The part of a model that an edit's value can change: what lies after the write site, at and after a prompt's end.

The prompt before its last token is run once and kept as keys and values; so is everything up to the write site. What is
left for every optimisation step is the last prompt token and the target, through the layers after the site and the
head. The model's own ``forward`` computes it (masks, rotary positions, final norm, head scaling and all), while the
layers that are already known hand back what they gave.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import DynamicCache, PreTrainedModel

from horen.errors import ModelError
from horen.model.adapter import delta
from horen.model.layout import Layout, Site, first_tensor, with_first_tensor

_PREFIX_ROWS = 32


@dataclass(frozen=True)
class Sample:
    """One training context of an edit: token ids of the prompt (at least one) and of the target (at least one)."""

    prompt: tuple[int, ...]
    target: tuple[int, ...]


@dataclass(frozen=True)
class _Known:
    """What does not change while values are trained; every tensor has the batch first."""

    prefix: dict[int, tuple[Tensor, Tensor]]
    below: Any
    children: dict[nn.Module, Any]
    ids: Tensor
    mask: Tensor
    positions: Tensor
    labels: Tensor

    def rows(self, index: Tensor) -> _Known:
        def take(value: Any) -> Any:
            return _select(value, index, len(self.ids))

        return _Known(
            {number: (take(k), take(v)) for number, (k, v) in self.prefix.items()},
            take(self.below),
            {child: take(output) for child, output in self.children.items()},
            take(self.ids),
            take(self.mask),
            take(self.positions),
            take(self.labels),
        )


class Tail:
    """Target log-probabilities of a batch of samples as a function of the values written.

    Args:
        model: the model, in evaluation mode and with no edit applied.
        layout: where its layers are.
        site: the write site.
        samples: B training contexts.
    """

    def __init__(self, model: PreTrainedModel, layout: Layout, site: Site, samples: Sequence[Sample]) -> None:
        self._model = model
        self._layers = list(layout.layers)
        self._site = site
        self._rough = False
        with torch.no_grad():
            self._known = self._prepare(samples)

    def __len__(self) -> int:
        return len(self._known.ids)

    @property
    def scale(self) -> Tensor:
        """Root mean square of the write site's output at each prompt's last token, [B] float32."""
        output = self._site_output()
        return output.reshape(len(self), -1, output.shape[-1])[:, 0].float().square().mean(-1).sqrt()

    @property
    def value_size(self) -> int:
        """d_v: length of the write site's output."""
        return int(self._site_output().shape[-1])

    def keep(self, rows: Tensor) -> Tail:
        """The same for some of the samples only; [b] int64 indices."""
        return self._variant(self._known.rows(rows.to(self._known.ids.device)), rough=self._rough)

    def rough(self) -> Tail:
        """The same in bfloat16 arithmetic."""
        known = dataclasses.replace(
            self._known,
            prefix={number: (k.bfloat16(), v.bfloat16()) for number, (k, v) in self._known.prefix.items()},
        )
        return self._variant(known, rough=True)

    def _variant(self, known: _Known, *, rough: bool) -> Tail:
        other = copy.copy(self)
        other._known, other._rough = known, rough
        return other

    def log_probabilities(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of every target token when values are written at the prompts' last tokens.

        Args:
            values: [B, P], differentiable; see :func:`horen.model.adapter.delta`.

        Returns:
            [B, T] float32 log-probabilities, 0 where a row has no token, and the [B, T] bool mask of tokens.
        """
        known = self._known
        with ExitStack() as stack:
            if self._rough:
                stack.enter_context(torch.autocast(known.ids.device.type, dtype=torch.bfloat16))
            self._replay(stack, known, values)
            out = self._model(
                input_ids=known.ids,
                attention_mask=known.mask,
                position_ids=known.positions,
                past_key_values=_cache(known.prefix),
                use_cache=bool(known.prefix),
            )
        real = known.labels >= 0
        losses = cross_entropy(
            out.logits.flatten(0, 1).float(), known.labels.flatten(), ignore_index=-1, reduction="none"
        )
        return -losses.reshape(real.shape), real

    def _site_output(self) -> Tensor:
        return first_tensor(self._known.children[self._site.module])

    def _prepare(self, samples: Sequence[Sample]) -> _Known:
        device = self._model.device
        before = max(len(s.prompt) for s in samples) - 1
        after = max(len(s.target) for s in samples)
        ids = torch.zeros(len(samples), before + after, dtype=torch.long)
        mask = torch.zeros_like(ids)
        labels = torch.full((len(samples), after), -1)
        for i, sample in enumerate(samples):
            fed = torch.tensor(sample.prompt + sample.target[:-1])
            start = before + 1 - len(sample.prompt)
            ids[i, start : start + len(fed)] = fed
            mask[i, start : start + len(fed)] = 1
            labels[i, : len(sample.target)] = torch.tensor(sample.target)
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        ids, mask, positions, labels = (x.to(device) for x in (ids, mask, positions, labels))
        prefix = self._prefix(ids[:, :before], mask[:, :before], positions[:, :before]) if before else {}
        known = _Known(prefix, None, {}, ids[:, before:], mask, positions[:, before:], labels)
        return self._record(known)

    def _prefix(self, ids: Tensor, mask: Tensor, positions: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Keys and values of every layer, each [B, heads, S, d], for left-padded ids [B, S].

        Rows of like length are run together: beside a prompt after a paragraph a plain one is mostly padding.
        """
        found: dict[int, tuple[Tensor, Tensor]] = {}
        lengths = mask.sum(-1)
        for rows in torch.split(lengths.argsort(descending=True), _PREFIX_ROWS):
            width = int(lengths[rows].max())
            if not width:
                break
            cache = DynamicCache()
            self._model.base_model(
                input_ids=ids[rows, -width:],
                attention_mask=mask[rows, -width:],
                position_ids=positions[rows, -width:],
                past_key_values=cache,
                use_cache=True,
            )
            for number, layer in enumerate(cache.layers):
                given = _states(layer)
                if number not in found:  # the longest rows come first, so theirs is the whole width
                    keys, values = (states.new_zeros(len(ids), *states.shape[1:]) for states in given)
                    found[number] = keys, values
                for whole, part in zip(found[number], given, strict=True):
                    whole[rows, :, -width:] = part
        return found

    def _record(self, known: _Known) -> _Known:
        """Run the suffix up to the write site once and note what the layers hand on."""
        outputs: dict[nn.Module, Any] = {}
        again: set[nn.Module] = set()
        number, layer = self._site.layer, self._layers[self._site.layer]

        def note(module: nn.Module, _inputs: Any, output: Any) -> None:
            if module in outputs:
                again.add(module)
            elif self._site.module not in outputs:  # what comes after the site must be computed anew
                outputs[module] = _copied(output)

        noted = [*layer.children(), *self._layers[max(number - 1, 0) : number]]
        with ExitStack() as stack:
            for module in noted:
                handle = module.register_forward_hook(note)
                stack.callback(handle.remove)
            for above in self._layers[number + 1 :]:
                stack.enter_context(_forward(above, _pass_on))
            self._model.base_model(
                input_ids=known.ids,
                attention_mask=known.mask,
                position_ids=known.positions,
                past_key_values=_cache(known.prefix),
                use_cache=bool(known.prefix),
            )
        for module in again:  # one that serves before and after the site, such as a shared dropout, runs live
            outputs.pop(module, None)
        below = outputs.pop(self._layers[number - 1], None) if number else None
        # Only the layers above are run again; the first one's keys tell the model how long the prefix is.
        prefix = {n: states for n, states in known.prefix.items() if n == 0 or n > number}
        return dataclasses.replace(known, prefix=prefix, below=below, children=outputs)

    def _replay(self, stack: ExitStack, known: _Known, values: Tensor) -> None:
        number = self._site.layer
        if number:
            for layer in self._layers[: number - 1]:
                stack.enter_context(_forward(layer, _pass_on))
            stack.enter_context(_forward(self._layers[number - 1], _constant(_copied(known.below))))
        for child, output in known.children.items():
            given = _copied(output)
            if child is self._site.module:
                given = with_first_tensor(given, _written(first_tensor(given), values))
            stack.enter_context(_forward(child, _constant(given)))


def _written(hidden: Tensor, values: Tensor) -> Tensor:
    """Hidden states [B, S, d] (or flattened) with the values added at the first position of each row."""
    states = hidden.reshape(len(values), -1, hidden.shape[-1])
    first = states[:, :1].float()
    edited = (first + delta(values, first[:, 0])[:, None]).to(states.dtype)
    return torch.cat([edited, states[:, 1:]], dim=1).reshape(hidden.shape)


def _constant(output: Any) -> Callable[..., Any]:
    return lambda *_args, **_kwargs: output


def _pass_on(*args: Any, **kwargs: Any) -> Any:
    return args[0] if args else kwargs["hidden_states"]


@contextmanager
def _forward(module: nn.Module, replacement: Callable[..., Any]) -> Iterator[None]:
    """Let ``module`` compute ``replacement`` within the block."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = replacement
    try:
        yield
    finally:
        if before is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = before


def _cache(prefix: dict[int, tuple[Tensor, Tensor]]) -> DynamicCache | None:
    if not prefix:
        return None
    cache = DynamicCache()
    for number, (keys, values) in prefix.items():
        cache.update(keys, values, number)
    return cache


def _states(layer: Any) -> tuple[Tensor, Tensor]:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    if not isinstance(keys, Tensor) or not isinstance(values, Tensor):
        raise ModelError(
            f"The cache of this model holds a {type(layer).__name__}, not keys and values: "
            "only models whose layers all attend can be edited."
        )
    return keys, values


def _select(value: Any, index: Tensor, batch: int) -> Any:
    """Rows of a module's output, whether it kept the batch apart, [B, S, …], or flattened it, [B·S, …]."""
    if isinstance(value, Tensor):
        if len(value) == batch:
            return value[index]
        return value.reshape(batch, -1, *value.shape[1:])[index].flatten(0, 1)
    if isinstance(value, tuple):
        return tuple(_select(item, index, batch) for item in value)
    return value


def _copied(value: Any) -> Any:
    """A copy, because some layers add to what their children return in place."""
    if isinstance(value, Tensor):
        return value.clone()
    return tuple(_copied(item) for item in value) if isinstance(value, tuple) else value


def bfloat16_is_fast(model: PreTrainedModel) -> bool:
    """Whether this machine multiplies bfloat16 faster than the model's own float32."""
    if model.dtype != torch.float32:
        return False
    if model.device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known: Any = getattr(torch.cpu, "get_capabilities", dict)
    capabilities = known() if model.device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
