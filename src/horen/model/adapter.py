"""The adapter: hooks on a transformers model that route each prompt once and add the value of the edit it wakes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from horen.config import HorenConfig
from horen.memory import Codebook, KeySpace
from horen.model import routing, turns
from horen.model.alone import not_compiled
from horen.model.askers import Askers
from horen.model.calls import Boundary, Call, Feeding, State, Watch, key_of
from horen.model.entrances import Entering, Overlay, Uncompiled, around, holding, replay
from horen.model.layout import Layout, Site, first_tensor, rewritten
from horen.model.methods import check_unpacked, methods, refuse_copy, wrapped
from horen.model.padding import extents, first_label, plain_mask
from horen.model.partial.frozen import await_thaw
from horen.model.past import past_of
from horen.model.prompts import Placed, Prompt, PromptReader
from horen.model.routed import Routed
from horen.model.scoped import ScopedGate, Wording
from horen.model.sequels import Sequel
from horen.model.sources import FeatureSource, Span, feature_source

#: The attribute of a wrapped model that holds its adapter.
MARK = "_horen_adapter"


class Adapter:
    """Lets ``model``'s own ``forward`` and ``generate`` apply the edits of a codebook, while it is wrapped.

    Args:
        model: any decoder-only transformers model; its weights are never touched.
        reader: finds prompts in token ids.
        config: the settings.

    Raises:
        ModelError: when the model has no layers with an MLP, or a text encoder cannot be loaded.
        ConfigError: when a configured layer or site does not exist in it.
    """

    def __init__(self, model: PreTrainedModel, reader: PromptReader, config: HorenConfig) -> None:
        self.model = model
        self.reader = reader
        self.config = config
        self.layout = Layout.of(model)
        self.write: Site = self.layout.write_site(config)
        self.reads: FeatureSource = feature_source(model, self.layout, reader, config)
        self.codebook: Codebook | None = None
        self.key_space: KeySpace | None = None
        self.wording: Wording = lambda _entry: None
        self.sequel: Callable[[int], Sequel | None] = lambda _entry: None
        # Prompts that wake nothing, since facts are told in them; as keys, in the order in which they came.
        self.muted: dict[tuple[int, ...], None] = {}
        self._state = State()
        self.askers = Askers()
        self._entrances = holding(model, self.layout.layers)
        self._signatures = {module: inspect.signature(module.forward) for module in self._entrances}
        self._handles: list[RemovableHandle] = []
        self._overlay = Overlay()
        self.uncompiled = Uncompiled(model)

    def wrap(self) -> None:
        """Put the hooks on the model.

        Raises:
            ModelError: when the model is wrapped already.
        """
        model = self.model
        if getattr(model, MARK, None) is not None:
            raise wrapped()
        torch.compiler.reset()  # code that was compiled without hooks would go on without them
        # One by one, so that unwrap takes off what an interruption let come on.
        self._handles.extend(self.reads.hook(not_compiled(self._gather)))
        self._handles.append(self.write.module.register_forward_hook(not_compiled(self._write)))
        entering = Entering(
            self._state,
            self.askers,
            lambda: self.installed,
            self._before,
            self._after,
            functools.partial(await_thaw, model),
        )
        for module in self._entrances:
            self._overlay.lay(module, "forward", around(module, entering))
            self._overlay.lay(module, "__reduce_ex__", refuse_copy)
        for name, method in methods(self).items():
            self._overlay.lay(model, name, method)
        self._overlay.lay(model, MARK, self)

    def follow(self, other: Adapter) -> None:
        """Take over, before this is on the model, who asks another adapter and where its edits are disabled."""
        self.askers, self._state = other.askers, other._state

    @property
    def installed(self) -> bool:
        """Whether the hooks are on the model."""
        return bool(self._handles)

    def unwrap(self) -> None:
        """Take every hook off again."""
        if not self.installed:
            return
        for handle in self._handles:
            handle.remove()
        self._overlay.take_off()
        self._handles = []

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Run the untouched model within the block, in this thread."""
        self._state.disabled += 1
        try:
            yield
        finally:
            self._state.disabled -= 1

    @contextmanager
    def boundary(self, width: int) -> Iterator[None]:
        """Say that the first ``width`` columns of what the model is fed within the block are the prompt."""
        with self.bounded(Boundary(width)):
            yield

    @contextmanager
    def bounded(self, boundary: Boundary) -> Iterator[None]:
        """Let a caller's word about the prompt hold within the block."""
        before, self._state.boundary = self._state.boundary, boundary
        try:
            yield
        finally:
            self._state.boundary, self._state.call = before, None

    def features(self, rows: Sequence[Sequence[int]], spans: Sequence[Sequence[Span]]) -> Tensor:
        """Return features [Σ spans, d_f] float32 of rows; see :meth:`horen.model.sources.FeatureSource.of_rows`."""
        with self.disabled(), self.uncompiled():
            return self.reads.of_rows(rows, spans)

    @contextmanager
    def watched(self, watch: Watch | None) -> Iterator[None]:
        """Let ``watch`` be told of the first call of the model's ``generate`` within the block, in this thread."""
        before, self._state.watch = self._state.watch, watch
        try:
            yield
        finally:
            self._state.watch = before

    def look(self, rows: Sequence[Sequence[int]], watch: Watch) -> None:
        """Let ``watch`` be told where B ≥ 1 rows of token ids go, as in a call; the model is only run to read them.

        It makes no difference whether edits are disabled in this thread. While nothing is stored nothing is told.
        """
        if not self.awake:
            return
        width = max(map(len, rows))
        padded = [[0] * (width - len(row)) + list(row) for row in rows]
        with self._state.apart():
            with self.disabled(), self.uncompiled() if self.reads.parts else nullcontext():
                states = self.reads.read(rows)
            with self.bounded(Boundary(width, watch=watch)):
                places = self._places(padded, [(width - len(row), width) for row in rows], width, None)
                if places:
                    self._route(Call(places, (len(rows), width), seen=states))

    def route(self, places: Sequence[Placed], features: Tensor) -> list[Routed]:
        """Return where prompts go.

        Args:
            places: the prompts.
            features: [Σ candidate spans, d_f], in the order of the prompts' spans.

        Returns:
            All that fire; see :func:`horen.model.routing.routed`.
        """
        found, boundary = self._queries(features), self._state.boundary
        if found is None:
            return []
        gate, watch = self.scoped or self.config.retrieval(), None if boundary is None else boundary.watch
        return routing.routed(places, *found, gate=gate, reader=self.reader, watch=watch)

    @property
    def scoped(self) -> ScopedGate | None:
        """The gate with a judge; None where cosines alone decide."""
        scope = self.reads.scope
        return None if scope is None else ScopedGate(scope, self.config.retrieval(), self.wording)

    @property
    def state(self) -> State:
        """What is going on in this thread."""
        return self._state

    def __reduce_ex__(self, _protocol: Any) -> Any:
        """Refuse to be copied or pickled, with what it is on."""
        refuse_copy()

    @property
    def silent(self) -> bool:
        """Whether edits are disabled in this thread."""
        return self._state.disabled > 0

    @property
    def awake(self) -> bool:
        """Whether anything is stored that a prompt could wake."""
        return self.codebook is not None and len(self.codebook) > 0

    @property
    def revision(self) -> int:
        """A number that changes with what is stored."""
        return -1 if self.codebook is None else self.codebook.revision

    def values_of(self, fired: Sequence[Routed]) -> Tensor:
        """Return what is applied for prompts that fired, [n, P]."""
        assert self.codebook is not None  # noqa: S101 - nothing fires without one
        return self.codebook.read_values([r.match.value for r in fired])

    def _queries(self, features: Tensor) -> tuple[Codebook, Tensor] | None:
        """Return the codebook and [B, d_k] queries of features, once there are both."""
        if self.codebook is None or self.key_space is None:
            return None
        if self.codebook.keys.device != features.device:  # the model was moved since the last call
            self.codebook.to(features.device)
            self.key_space = self.key_space.to(features.device)
        return self.codebook, self.key_space(features)

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state = self._state
        state.call = state.feeding = None
        if state.disabled or not (self.awake or (state.boundary is not None and state.boundary.memo)):
            return
        given = self._given(module, args, kwargs)
        check_unpacked(given)
        if module.training:
            for part in (*self._entrances, self.layout.layers[self.write.layer]):
                replay(self._overlay, part, state)
        ids, embeds = given.get("input_ids"), given.get("inputs_embeds")
        # Embeddings have activations, but no words that a text encoder could read.
        source = ids if ids is not None or not self.reads.parts else embeds
        if source is None:
            return
        shape = (int(source.shape[0]), int(source.shape[1]))
        past = past_of(given)
        cached = int(past.get_seq_length()) if past is not None else 0
        state.feeding = Feeding(ids, past, cached)
        boundary = state.boundary
        end = shape[1] if boundary is None else boundary.width - cached
        begun = boundary is not None and bool(boundary.ids or boundary.states)
        if end <= 0 or (cached and shape[1] == 1 and not begun):
            self._go_on(state.feeding, shape, given.get("attention_mask"))
            return  # a decoding step: its prompt was routed before
        if boundary is not None and end > shape[1]:
            if ids is not None:
                boundary.ids.append(ids)
                self._begin(Call([], shape, gathers=True))
            return
        earlier = boundary.ids if boundary is not None and ids is not None else []
        before = sum(chunk.shape[1] for chunk in earlier)
        if earlier and ids is not None:
            ids = torch.cat([*earlier, ids], dim=1)
        usual = None if boundary is None else boundary.mask
        mask = plain_mask(given.get("attention_mask"), usual, shape[0], cached + shape[1])
        if ids is not None and cached and turns.is_written(past) and any(map(self.reader.opens_turn, ids.tolist())):
            turns.clean(self.model, past, None if boundary is None else boundary.given, mask)
        real = extents(mask, (shape[0], shape[1] + before))
        places = self._places(None if ids is None else ids.tolist(), real, end + before, given.get("labels"))
        if places:
            self._begin(Call(places, shape, before))

    def _go_on(self, feeding: Feeding, shape: tuple[int, int], given: Any) -> None:
        """Plan a step of an answer: where one that takes several values goes on, the next is written."""
        woken, boundary = turns.woken(feeding.cache), self._state.boundary
        if not woken or feeding.ids is None:
            return
        # Beams and samples change rows between steps: generate says which row has become what.
        ids = boundary.current if boundary is not None and boundary.current is not None else turns.fed(feeding)
        if ids is None:
            return
        mask = plain_mask(given, None if boundary is None else boundary.mask, shape[0], feeding.cached + shape[1])
        rows, real = ids.tolist(), extents(mask, (shape[0], feeding.cached + shape[1]))
        call = Call([], shape, feeding.cached)
        for number, (start, stop) in enumerate(real):
            tokens = tuple(rows[number][start:stop])
            own = next((r for r in woken if key_of(r.place)[1] == tokens[: r.place.prompt.at + 1]), None)
            if own is not None:
                call.routed.append(replace(own, place=replace(own.place, row=number, offset=start, ids=tokens)))
        self._state.call = call

    def _given(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call of the model, or of one within that holds its layers, by name."""
        given: dict[str, Any] = dict(self._signatures[module].bind_partial(*args, **kwargs).arguments)
        given.update(given.pop("kwargs", {}))
        return given

    def _begin(self, call: Call) -> None:
        self._state.call = call
        if not self.reads.parts:
            self._route(call)

    def _places(
        self, rows: list[list[int]] | None, real: list[tuple[int, int]], end: int, labels: Tensor | None
    ) -> list[Placed]:
        places: list[Placed] = []
        for row, (start, stop) in enumerate(real):
            last = min(stop, end, stop if labels is None else first_label(labels[row]) or stop)
            known = last < stop or self._state.boundary is not None
            if last <= start:
                continue
            if rows is None:
                tokens = (-1,) * (stop - start)
                prompt = Prompt(last - start - 1, ((0, last - start),))
            else:
                tokens = tuple(rows[row][start:stop])
                if self.muted and tokens[: last - start] in self.muted:
                    continue
                prompt = self.reader.read(tokens, last - start if known else None)
            places.append(Placed(row, start, tokens, prompt))
        return places

    def _after(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        state = self._state
        feeding, call = state.feeding, state.call
        state.call = state.feeding = None
        if feeding is not None and output is not None:
            made = past_of(output) if isinstance(output, Mapping) else None
            cache = feeding.cache if made is None else made
            turns.note(cache, feeding, call)

    def _gather(self, activation: Tensor) -> None:
        call = self._state.call
        if call is None or not (call.places or call.gathers):
            return
        if activation.shape[:-1].numel() != call.shape[0] * call.shape[1]:
            self._state.call = None  # an interrupted call left its plan behind; this is another
            return
        call.seen.append(activation.detach().reshape(*call.shape, -1))
        if len(call.seen) == self.reads.parts:
            self._route(call)

    def _route(self, call: Call) -> None:
        boundary, states = self._state.boundary, call.seen
        call.seen = []
        if boundary is not None and (call.gathers or boundary.ids or boundary.states):
            boundary.states.append(states)
            if call.gathers:
                return
            states = [torch.cat(chunks, dim=1) for chunks in zip(*boundary.states, strict=True)]
            boundary.ids, boundary.states = [], []
        memo = {} if boundary is None else boundary.routes(self.revision)
        fresh = []
        for place in call.places:
            # Without a cache the same prompt comes by at every step: its route is settled at the first.
            key = key_of(place)
            if key not in memo or place.ids[0] < 0:
                fresh.append(place)
            elif (known := memo[key]) is not None:
                call.routed.append(replace(known, place=place))
        if fresh:
            features, watch = self.reads.of_call(fresh, states), None if boundary is None else boundary.watch
            found = (
                self.route(fresh, features)
                if watch is None
                else watch.take(fresh, call.shape[0], lambda: self.route(fresh, features))
            )
            memo.update(dict.fromkeys(map(key_of, fresh)))
            memo.update({key_of(r.place): r for r in found})
            call.routed.extend(found)

    def _write(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        call = self._state.call
        if call is None:
            return None
        if call.written is None:
            call.written = self._planned(call)
        if not call.written:
            return None
        rows, columns, values = call.written
        call.wrote = True
        values = values.to(first_tensor(output).device)
        return rewritten(output, call.shape, rows, columns, lambda hidden: self.write.written(values, hidden))

    def _planned(self, call: Call) -> tuple[list[int], list[int], Tensor] | tuple[()]:
        """Return rows, columns and values of what is written in a call; nothing where no edit fires."""
        found: list[Routed] = []
        for routed in (r for r in call.routed if r.match.fired):
            sequel = self.sequel(routed.match.entry)
            found += [routed] if sequel is None else sequel.places(routed)
            call.woken += found[-1:] if sequel is not None and sequel.left else []
        end = call.before + call.shape[1]
        fired = [r for r in found if call.before <= r.place.offset + r.place.prompt.at < end]
        columns = [r.place.offset + r.place.prompt.at - call.before for r in fired]
        return ([r.place.row for r in fired], columns, self.values_of(fired)) if fired else ()
