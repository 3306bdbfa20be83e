"""The part of a model that an edit's value can change: what lies after the write site, at and after a prompt's end.

The prompt before its last token is run once and kept as keys and values; so is everything up to the write site. What is
left for every optimisation step is the last prompt token and the target, through the layers after the site and the
head. The model's own ``forward`` computes it (masks, rotary positions, final norm, head scaling and all), while the
layers that are already known hand back what they gave.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import DynamicCache, PreTrainedModel

from horen.model.alone import Forward, here, instead
from horen.model.devices import device_of
from horen.model.layout import Layout, Site, first_tensor, with_first_tensor
from horen.model.partial.attention import apart, configurations
from horen.model.partial.head import Head
from horen.model.partial.precision import Arithmetic, Fast
from horen.model.partial.prefix import Prefixes
from horen.model.partial.shortlist import Shortlist
from horen.model.past import past_argument
from horen.model.sources import ReadOnly


@dataclass(frozen=True)
class Sample:
    """One training context of an edit: token ids of the prompt (at least one) and of the target (at least one).

    Attributes:
        lead: so many of the target's first tokens are read and not asked for: a prompt's rest, where a value is written
            before its end.
        written: indices of the prompt's tokens at which the same edit's earlier values stand.
    """

    prompt: tuple[int, ...]
    target: tuple[int, ...]
    lead: int = 0
    written: tuple[int, ...] = ()


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
        """Return some rows, without the columns that only others had tokens in."""
        batch, width = self.ids.shape
        before = self.mask.shape[1] - width
        after = int((self.labels[index] >= 0).any(0).nonzero().max()) + 1
        unused = int((self.mask[index, :before] == 0).all(0).sum())

        def take(value: Any) -> Any:
            return _select(value, index, batch, after)

        return _Known(
            {
                number: (_rows(k, index)[:, :, unused:], _rows(v, index)[:, :, unused:])
                for number, (k, v) in self.prefix.items()
            },
            take(self.below),
            {child: take(output) for child, output in self.children.items()},
            self.ids[index, :after],
            self.mask[index, unused : before + after],
            self.positions[index, :after],
            self.labels[index, :after],
        )


class Tail:
    """Target log-probabilities of a batch of samples as a function of the values written.

    Args:
        model: the model, in evaluation mode and with no edit applied.
        layout: where its layers are.
        site: the write site.
        samples: B training contexts.
        prefixes: what comes before the last token of their prompts, and perhaps of others; by default of theirs.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        layout: Layout,
        site: Site,
        samples: Sequence[Sample],
        prefixes: Prefixes | None = None,
    ) -> None:
        self._model = model
        self._layers = list(layout.layers)
        self._site = site
        self._rough = False
        self._cast: Mapping[nn.Module, Forward] = {}
        self._configs = configurations(model)
        with torch.no_grad():
            self._known = self._prepare(samples, prefixes)
        self._head = Head.of(model)
        self._short: Shortlist | None = None

    def __len__(self) -> int:
        return len(self._known.ids)

    @property
    def outputs(self) -> Tensor:
        """What the write site gives at each prompt's last token, [B, d_v] float32, without any value."""
        output = self._site_output()
        return output.reshape(len(self), -1, output.shape[-1])[:, 0].float()

    @property
    def scale(self) -> Tensor:
        """How large each of the :attr:`outputs` is, [B] float32; see :meth:`horen.model.layout.Site.size`."""
        return self._site.size(self.outputs)

    @property
    def value_size(self) -> int:
        """d_v: length of the write site's output."""
        return int(self._site_output().shape[-1])

    def keep(self, rows: Tensor) -> Tail:
        """Return the same for some of the samples only; [b] int64 indices."""
        other = self._variant(self._known.rows(rows.to(self._known.ids.device)), rough=self._rough)
        other._short = self._short and self._short.keep(rows, other._known.labels.shape[1])
        return other

    def fast(self, arithmetic: Arithmetic) -> Fast:
        """Return what the layers that a value changes compute in an arithmetic."""
        tokens = int((self._known.labels >= 0).sum())
        return Fast.of(arithmetic, self._layers[self._site.layer :], self._head, tokens=tokens)

    def rough(self, fast: Fast) -> Tail:
        """Return the same made faster: in another arithmetic, and with the words that decide told from all others.

        Args:
            fast: what :meth:`fast` gave, for these samples or others.
        """
        known, rough = self._known, fast.arithmetic is Arithmetic.BFLOAT16
        if rough:
            prefix = {number: (k.bfloat16(), v.bfloat16()) for number, (k, v) in known.prefix.items()}
            known = dataclasses.replace(known, prefix=prefix)
        other = self._variant(known, rough=rough)
        other._cast, other._head = fast.maps, fast.head
        if fast.head is not None and Shortlist.pays(fast.head):
            other._short = Shortlist(fast.head, *known.labels.shape)
        return other

    def _variant(self, known: _Known, *, rough: bool) -> Tail:
        other = copy.copy(self)
        other._known, other._rough = known, rough
        return other

    def log_probabilities(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probability of every target token when values are written at the prompts' last tokens.

        Args:
            values: [B, P], differentiable; see :meth:`horen.model.layout.Site.written`. Or [B, S, d_v], one for each of
                the S positions from a prompt's last token on, added there.

        Returns:
            [B, T] float32 log-probabilities, 0 where a row has no token, and the [B, T] bool mask of tokens.
        """
        found, real, _ = self.scored(values, torch.zeros(len(self), dtype=torch.bool))
        return found, real

    def scored(self, values: Tensor, whole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same, and for some rows what every token of the vocabulary would have had.

        Args:
            values: as for :meth:`log_probabilities`.
            whole: [B] bool, rows of which the distributions are asked for.

        Returns:
            [B, T] float32 log-probabilities, the [B, T] bool mask of tokens, and [M, V] float32 log-probabilities for
            the M target tokens of the ``whole`` rows, row by row and in order.
        """
        known = self._known
        real = known.labels >= 0
        with ExitStack() as stack:
            self._replay(stack, known, values)
            handed: list[Tensor] = []
            if self._head is not None:
                stack.enter_context(instead({self._head.module: _noted(handed)}))
            logits = self._ask(stack, self._model, known).logits
        if self._head is not None and not (handed and logits is handed[-1]):
            self._head = None  # this model scales or caps what its head gives
            return self.scored(values, whole)
        # The layers of one model may lie on several devices; what is returned lies with the values.
        asked, labels = logits[real.to(logits.device)], known.labels[real]
        some = asked[whole.to(real.device)[real.nonzero()[:, 0]].to(asked.device)]
        if self._head is None:
            logs = -cross_entropy(asked.float(), labels.to(asked.device), reduction="none")
        else:
            if self._short is None:
                logs = self._head.log_probabilities(asked, labels)
            else:
                logs = self._short.log_probabilities(asked, labels, real)
            some = self._head.logits(some)
        real = real.to(values.device)
        found = torch.zeros(real.shape, device=real.device).masked_scatter(real, logs.to(real.device))
        return found, real, torch.log_softmax(some.float(), dim=-1)

    def _site_output(self) -> Tensor:
        return first_tensor(self._known.children[self._site.module])

    def _prepare(self, samples: Sequence[Sample], prefixes: Prefixes | None) -> _Known:
        device = device_of(self._model)
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
            labels[i, sample.lead : len(sample.target)] = torch.tensor(sample.target[sample.lead :])
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        ids, mask, positions, labels = (x.to(device) for x in (ids, mask, positions, labels))
        rows = [sample.prompt[:-1] for sample in samples]
        prefix = (prefixes or Prefixes(self._model, rows)).states(rows) if before else {}
        known = _Known(prefix, None, {}, ids[:, before:], mask, positions[:, before:], labels)
        return self._record(known)

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

        # Where the whole layer's output is written, nothing within the layer needs to be known.
        inner = [layer] if self._site.module is layer else layer.children()
        noted = [*inner, *self._layers[max(number - 1, 0) : number]]
        with ExitStack() as stack:
            for module in noted:
                handle = module.register_forward_hook(here(note))
                stack.callback(handle.remove)
            stack.enter_context(instead(dict.fromkeys(self._layers[number + 1 : number + 2], _stop)))
            with suppress(ReadOnly):
                self._ask(stack, self._model.base_model, known)
        for module in again:  # one that serves before and after the site, such as a shared dropout, runs live
            outputs.pop(module, None)
        below = outputs.pop(self._layers[number - 1], None) if number else None
        # Only the layers above are run again; the first one's keys tell the model how long the prefix is.
        prefix = {n: states for n, states in known.prefix.items() if n == 0 or n > number}
        return dataclasses.replace(known, prefix=prefix, below=below, children=outputs)

    def _ask(self, stack: ExitStack, model: nn.Module, known: _Known) -> Any:
        """Return what ``model`` gives for the suffix after the prefix."""
        cache: DynamicCache | None = None
        if known.prefix and self._configs:
            cache = stack.enter_context(apart(self._configs, known.prefix))
        elif known.prefix:
            cache = DynamicCache()
            for number, (keys, values) in known.prefix.items():
                cache.update(keys, values, number)
        given = {
            "input_ids": known.ids,
            "attention_mask": known.mask,
            "position_ids": known.positions,
            past_argument(model): cache,
            "use_cache": bool(known.prefix),
        }
        return model(**given)

    def _replay(self, stack: ExitStack, known: _Known, values: Tensor) -> None:
        if self._rough:
            stack.enter_context(torch.autocast(known.ids.device.type, dtype=torch.bfloat16))
        number = self._site.layer
        forwards = dict(self._cast)
        if number:
            forwards |= dict.fromkeys(self._layers[: number - 1], _pass_on)
            forwards[self._layers[number - 1]] = _constant(_copied(known.below))
        for child, output in known.children.items():
            given = _copied(output)
            if child is self._site.module:
                given = with_first_tensor(given, _written(first_tensor(given), values, self._site))
            forwards[child] = _constant(given)
        stack.enter_context(instead(forwards))


def _written(hidden: Tensor, values: Tensor, site: Site) -> Tensor:
    """Return hidden states [B, S, d] (or flattened) with values at each row's first position, or added at all."""
    states = hidden.reshape(len(values), -1, hidden.shape[-1])
    if values.ndim == states.ndim:
        return (states.float() + values).to(states.dtype).reshape(hidden.shape)
    edited = site.written(values, states[:, 0].float()).to(states.dtype)
    return torch.cat([edited[:, None], states[:, 1:]], dim=1).reshape(hidden.shape)


def _constant(output: Any) -> Forward:
    return lambda *_args, **_kwargs: output


def _pass_on(*args: Any, **kwargs: Any) -> Any:
    return args[0] if args else kwargs["hidden_states"]


def _stop(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise ReadOnly


def _noted(handed: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def note(hidden: Tensor) -> Tensor:
        handed.append(hidden)
        return hidden

    return note


def _select(value: Any, index: Tensor, batch: int, after: int) -> Any:
    """Return rows of a module's output and their first positions, whether it kept the batch apart or flattened it."""
    if isinstance(value, Tensor):
        if len(value) == batch:
            return _rows(value, index)[:, :after]
        return _rows(value.reshape(batch, -1, *value.shape[1:]), index)[:, :after].flatten(0, 1)
    if isinstance(value, tuple):
        return tuple(_select(item, index, batch, after) for item in value)
    return value


def _rows(value: Tensor, index: Tensor) -> Tensor:
    return value[index.to(value.device)]


def _copied(value: Any) -> Any:
    """Return a copy, because some layers add to what their children return in place."""
    if isinstance(value, Tensor):
        return value.clone()
    return tuple(_copied(item) for item in value) if isinstance(value, tuple) else value
