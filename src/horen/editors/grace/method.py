"""GRACE as a method of the benchmark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config import resolve_layer
from horen.editors.common.base import latest
from horen.editors.common.hooked import HookedMethod
from horen.editors.common.states import read_state, write_state
from horen.editors.grace.adapter import GraceAdapter
from horen.editors.grace.config import GraceConfig
from horen.editors.grace.memory import Ball, Member, Memory
from horen.editors.grace.training import Lesson, train
from horen.editors.interface import Route
from horen.edits import Edit, same_text
from horen.errors import StoreError
from horen.model.batching import read_in_batches
from horen.model.devices import device_of
from horen.model.layout import Layout
from horen.model.prompts import PromptReader
from horen.model.quiet import quiet
from horen.store import Folder

_BATCH = 32


@dataclass(frozen=True)
class _Arrival:
    """A wording that is to find its place: with a value of an earlier training, or with what to train one on."""

    member: Member
    target: str
    row: list[int]
    lesson: Lesson | None = None
    value: Tensor | None = None


class Grace(HookedMethod[GraceAdapter]):
    """GRACE, general retrieval adaptors for continual editing (Hartvigsen et al. 2023, arXiv 2211.11031).

    One layer f of the frozen model is adapted. With h the layer's input at the prompt's last token, K the keys, V the
    values and ε the deferral radii:

        i* = argmin_i ‖h − K_i‖,   output = V_i* if ‖h − K_i*‖ ≤ ε_i*, else f(h)

    Here f is the down projection of a layer's MLP, or the whole MLP where it has not one. A value replaces the output
    at the prompt's last token and nowhere else: other tokens of the prompt and those of the answer are the model's
    own, so a prompt is routed once, and an answer is the same with a cache and without. How entries are added,
    expanded and split is :meth:`horen.editors.grace.memory.Memory.place`. An edit's value is trained on
    −log p(target | prompt), everything else frozen. A rephrase of an edit counts as an edit of its own.

    Args:
        model: a decoder-only transformers model with an MLP in its layers.
        tokenizer: the model's own, a fast one.
        config: the settings; None for the default preset.
        seed: of the values' random start.

    Raises:
        ModelError: when the model is wrapped already or has no layers with an MLP.
        ConfigError: when the settings name a layer that the model does not have.
    """

    name = "grace"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: GraceConfig | None = None,
        *,
        seed: int = 0,
    ) -> None:
        given = config or GraceConfig()
        layer = resolve_layer(given.layer, len(Layout.of(model).layers), "layer")
        self._reader = PromptReader(tokenizer, words_only=False)
        super().__init__(model, tokenizer, GraceAdapter(model, self._reader, given.sites(layer)))
        self.config, self._seed = given, seed
        self._memory = self._empty()
        self._adapter.install(self._memory)

    def edit(self, edits: Sequence[Edit]) -> None:
        """Write the edits in order: all of them or, on an error or interruption, none.

        Keys do not depend on what is stored, so the values of a list are trained together. What is stored for the
        prompts, or for one of the wordings, is superseded; an edit that is stored already is left as it is.

        Raises:
            EditError: for a list whose rephrases contradict it, or an edit that cannot be encoded.
            ModelError: after :meth:`close`.
        """
        adapter, memory = self._wrapped(), self._memory
        known = memory.labels()
        fresh = [edit for edit in latest(edits) if not _is_known(edit, known)]
        if not fresh:
            return
        arrivals = [arrival for edit in fresh for arrival in self._arrivals(edit)]
        mark = memory.mark()
        try:
            orphans = memory.drop([edit.prompt for edit in fresh], [a.member.wording for a in arrivals])
            stranded = [_Arrival(o.member, o.target, self._row(o.member), value=o.value) for o in orphans]
            with quiet(adapter):
                self._settle([*stranded, *arrivals])
        except BaseException:
            memory.reset(mark)
            raise

    def routes(self, prompts: Sequence[str]) -> list[Route]:
        """Return where prompts go; the score is ε − d, not negative where an entry fires, −inf without entries.

        The prompt is that of the edit that founded the nearest entry, or of the edit that was expanded to this wording.

        Raises:
            ModelError: after :meth:`close`.
        """
        self._wrapped()
        if not prompts or not len(self._memory.codebook):
            return [Route(None, -math.inf, False) for _ in prompts]
        found = []
        nearest = self._memory.nearest(self._keys(self.rows(prompts)))
        for prompt, (number, distance) in zip(prompts, nearest, strict=True):
            ball = self._memory.ball(number)
            own = (m.prompt for m in ball.members if same_text(m.wording) == same_text(prompt))
            margin = ball.radius - distance
            found.append(Route(next(own, ball.members[0].prompt), margin, margin >= 0))
        return found

    def stored_bytes(self) -> int:
        """Return the bytes of keys, values and radii (8 bytes each), superseded ones included."""
        codebook = self._memory.codebook
        return codebook.keys.nbytes + codebook.values.nbytes + 8 * len(self._memory.balls)

    def save(self, folder: Path) -> None:
        """Write the entries into a folder.

        Raises:
            StoreError: when the folder cannot be written; what it held before is intact.
        """
        awake = [(number, ball) for number, ball in enumerate(self._memory.balls) if ball is not None]
        numbers = [number for number, _ in awake]
        records = [
            {
                "target": ball.target,
                "radius": ball.radius,
                "members": [{"prompt": member.prompt, "wording": member.wording} for member in ball.members],
            }
            for _, ball in awake
        ]
        codebook = self._memory.codebook
        tensors = {"keys": codebook.keys[numbers], "values": codebook.values[numbers]}
        write_state(folder, self.name, self.model, self._settings(), records=records, tensors=tensors)

    def restore(self, folder: Path) -> None:
        """Take up what :meth:`save` wrote in place of what is stored.

        Raises:
            StoreError: when the folder is missing, truncated or altered.
            MismatchError: when it was made with other settings, for another model or by a newer version.
        """
        memory = self._empty()
        found = read_state(folder, self.name, self.model, self._settings())
        try:
            _fill(memory, found, device_of(self.model))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise StoreError(
                f"{folder}: codebook.safetensors does not fit edits.jsonl ({error}): restore the folder from a copy."
            ) from error
        self._memory = memory
        self._adapter.install(memory)

    def _empty(self) -> Memory:
        with self._adapter.disabled():
            (size,) = self._adapter.reads.sizes
        width = self._adapter.layout.hidden_size
        return Memory(size, width, eps_init=self.config.eps_init, device=device_of(self.model))

    def _settings(self) -> dict[str, object]:
        return self.config.to_dict() | {"seed": self._seed}

    def _row(self, member: Member) -> list[int]:
        return self.contexts.plain(member.wording)

    def _arrivals(self, edit: Edit) -> list[_Arrival]:
        found = []
        for wording in dict.fromkeys((edit.prompt, *edit.rephrases)):
            alone = Edit(wording, edit.target)
            (row,) = self.contexts.wordings(alone)
            (sample,) = self.contexts.samples(alone, self._adapter.config)
            found.append(_Arrival(Member(edit.prompt, wording), edit.target, row, Lesson(wording, sample)))
        return found

    def _keys(self, rows: Sequence[list[int]]) -> Tensor:
        """Return the layer's input at each row's last token, [B, d_k] float32."""
        spans = [self._reader.read(row).spans for row in rows]
        return read_in_batches(
            rows, _BATCH, lambda batch: self._adapter.features([rows[i] for i in batch], [spans[i] for i in batch])
        )

    def _settle(self, arrivals: Sequence[_Arrival]) -> None:
        lessons: dict[int, Lesson] = {}
        keys = self._keys([arrival.row for arrival in arrivals])
        for arrival, key in zip(arrivals, keys, strict=True):
            number = self._memory.place(key, arrival.member, arrival.target)
            if number is not None and arrival.value is not None:
                self._memory.set_value(number, arrival.value)
            elif number is not None and arrival.lesson is not None:
                lessons[number] = arrival.lesson
        trained = train(self._adapter, list(lessons.values()), self.config, self._seed)
        for number, value in zip(lessons, trained, strict=True):
            self._memory.set_value(number, value)


def _is_known(edit: Edit, labels: dict[tuple[str, str], str]) -> bool:
    prompt, target = same_text(edit.prompt), same_text(edit.target)
    return all(labels.get((prompt, same_text(wording))) == target for wording in (edit.prompt, *edit.rephrases))


def _fill(memory: Memory, folder: Folder, device: torch.device) -> None:
    keys, values = folder.tensors["keys"].to(device), folder.tensors["values"].to(device)
    shapes = (memory.codebook.keys.shape[1], memory.codebook.values.shape[1])
    if (keys.shape[1:], values.shape[1:]) != (shapes[:1], shapes[1:]) or not len(keys) == len(values) == len(
        folder.records
    ):
        raise ValueError("keys, values and records are not of the same number, or not of the model's size")
    for key, value, record in zip(keys, values, folder.records, strict=True):
        members = tuple(Member(str(item["prompt"]), str(item["wording"])) for item in record["members"])
        if not members:
            raise ValueError("a record has no members")
        memory.add(key, Ball(str(record["target"]), float(record["radius"]), members), value)
