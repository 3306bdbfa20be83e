"""Training of MEND's network on edits with rephrases and unrelated prompts; it can be interrupted and goes on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config.settings import check_same
from horen.editing.training.batches import seeded
from horen.editors.common.gradients import capture
from horen.editors.common.samples import plain_samples, summed_losses, target_labels
from horen.editors.mend.config import MendTraining
from horen.editors.mend.folder import Stored, damaged, new_network, read_network, write_network
from horen.editors.mend.network import edited
from horen.edits import Edit
from horen.errors import ConfigError, MismatchError
from horen.model.contexts import Contexts
from horen.model.devices import device_of
from horen.model.fingerprint import difference, fingerprint
from horen.model.padding import left_padded
from horen.model.partial.frozen import frozen
from horen.model.partial.tail import Sample
from horen.store import lock_folder

Progress = Callable[[str, int, int], None]

_EVERY = 10  # steps whose mean losses are noted, and after which training may be saved
_SECONDS_BETWEEN_SAVES = 60.0
_READ_AT_ONCE = 1000
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class Lesson:
    """What the network is taught by.

    Attributes:
        edit: an edit; its rephrases are what it shall hold for, its prompt if there are none.
        elsewhere: prompts that it must leave alone; other lessons' prompts if there are none.
    """

    edit: Edit
    elsewhere: tuple[str, ...] = ()


def train_network(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lessons: Sequence[Lesson],
    training: MendTraining,
    folder: Path,
    *,
    progress: Progress | None = None,
) -> Stored:
    """Train a network into a folder, or go on with a training of the same settings, lessons and model.

    An unfinished training may go on with another number of steps, not fewer than it has taken.

    For an edit (x, y), a rephrase x′ and an unrelated prompt x_loc, W̃ being the weights after one edit by the network:
    L = c_edit·(−log p_W̃(y | x′)) + KL(p_W(· | x_loc) ‖ p_W̃(· | x_loc)), the first in nats of a target token, the second
    of every token of x_loc; the mean over a batch goes to Adam (Mitchell et al. 2022, algorithm 1). What a step draws
    depends on its number and the seed alone, so that an interrupted training ends as one that was not.

    Args:
        model: with no edits on it; it is left as it was.
        tokenizer: the model's own, a fast one.
        lessons: at least two, or one with prompts to leave alone; none for ``steps=0``.
        training: the settings.
        folder: where to; saved once a minute and at the end.
        progress: called with (phase, done, total).

    Returns:
        What the folder holds.

    Raises:
        ConfigError: for too few lessons, or settings that the model does not allow.
        EditError: for an edit that cannot be encoded.
        MismatchError: when the folder holds a network of other settings, lessons or another model.
        StoreError: when the folder is damaged, holds something else, is in use or cannot be written.
    """
    if training.steps and (not lessons or (len(lessons) == 1 and not lessons[0].elsewhere)):
        raise ConfigError(f"{len(lessons)} edits are too few to train on: give at least two.")
    report = progress or _silent
    contexts = Contexts(model, tokenizer, ())
    for number, lesson in enumerate(lessons):  # all of them now, so that none stops the training halfway
        if number % _READ_AT_ONCE == 0:
            report("reading the edits", number, len(lessons))
        plain_samples(contexts, [lesson.edit], end=training.train_end)
        for text in lesson.elsewhere:
            contexts.wordings(Edit(text, lesson.edit.target))
    with lock_folder(folder, timeout=0.0), frozen(model):
        trainer = Trainer(model, contexts, lessons, training, folder)
        trainer.run(report)
    return read_network(folder)


class Trainer:
    """A training that is going on.

    The history has, for every ten steps, ``step``, and the means of ``edit_loss`` and ``kl`` in nats, see
    :func:`train_network`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        contexts: Contexts,
        lessons: Sequence[Lesson],
        training: MendTraining,
        folder: Path,
    ) -> None:
        self._model, self._lessons, self._training, self._folder = model, lessons, training, folder
        self._contexts = contexts
        self._digest = hashlib.sha256(json.dumps([astuple(lesson) for lesson in lessons]).encode()).hexdigest()
        self._made_for = fingerprint(model)
        self._network, self._linears = new_network(model, training)
        others = [p for name, p in self._network.named_parameters() if name != "step_sizes"]
        self._optimizer = torch.optim.Adam(
            [
                {"params": others, "lr": training.learning_rate},
                {"params": [self._network.step_sizes], "lr": training.step_size_rate},
            ]
        )
        self._step = 0
        self._history: list[dict[str, Any]] = []
        if (folder / "config.json").exists():
            found = read_network(folder)
            self._resume(found)
            if self._step == training.steps and not found.finished:
                self._save()  # it is to end where it was interrupted
        else:
            self._save()  # which tells at once whether the folder can be written

    def run(self, progress: Progress) -> None:
        """Take the steps that are left, and save."""
        steps, saved, window = self._training.steps, time.monotonic(), torch.zeros(2)
        while self._step < steps:
            progress("training the network", self._step, steps)
            window += self.step()
            if self._step % _EVERY and self._step < steps:
                continue
            edit_loss, kl = (window / ((self._step - 1) % _EVERY + 1)).tolist()
            self._history.append({"step": self._step, "edit_loss": edit_loss, "kl": kl})
            window.zero_()
            if self._step == steps or time.monotonic() - saved > _SECONDS_BETWEEN_SAVES:
                self._save()
                saved = time.monotonic()
        progress("training the network", steps, steps)

    def step(self) -> Tensor:
        """Take one step of Adam, and return the batch's mean edit loss and KL, [2] float32."""
        edits, asked, elsewhere = self._draw()
        found = capture(self._model, self._linears, edits)
        self._network.learn_moments(found)
        inputs = left_padded(elsewhere, self._model)
        with torch.no_grad():
            untouched = self._log_probabilities(inputs)
        with torch.enable_grad(), edited(self._linears, self._network(found), found.sample, len(edits)):
            edit_loss = self._edit_loss(asked)
            changed = self._log_probabilities(inputs)
            each = (untouched.exp() * (untouched - changed)).sum(-1)
            mask = inputs[1]
            kl = (each * mask).sum(-1) / mask.sum(-1)
            losses = torch.stack([edit_loss.mean(), kl.mean()])
            loss = self._training.edit_weight * losses[0] + losses[1]
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._step += 1
        return losses.detach().cpu()

    def _draw(self) -> tuple[list[Sample], list[Sample], list[list[int]]]:
        """Edits, what they are asked by, and unrelated prompts, of this step."""
        draw = seeded(f"{self._training.seed}:{self._step}")

        def among(count: int) -> int:
            return int(torch.randint(count, (), generator=draw))

        edits, asked, elsewhere = [], [], []
        for _ in range(self._training.batch):
            number = among(len(self._lessons))
            lesson = self._lessons[number]
            texts = lesson.edit.rephrases or (lesson.edit.prompt,)
            edits += self._samples(lesson.edit.prompt, lesson)
            asked += self._samples(texts[among(len(texts))], lesson)
            others = lesson.elsewhere
            if not others:
                other = (number + 1 + among(len(self._lessons) - 1)) % len(self._lessons)
                others = (self._lessons[other].edit.prompt,)
            elsewhere += self._contexts.wordings(Edit(others[among(len(others))], lesson.edit.target))
        return edits, asked, elsewhere

    def _samples(self, text: str, lesson: Lesson) -> list[Sample]:
        return plain_samples(self._contexts, [Edit(text, lesson.edit.target)], end=self._training.train_end)

    def _edit_loss(self, samples: Sequence[Sample]) -> Tensor:
        """−log p of each sample in nats of a target token, [B] float32."""
        inputs = left_padded([(*s.prompt, *s.target[:-1]) for s in samples], self._model)
        labels = target_labels(samples, inputs[0].shape[1]).to(inputs[0].device)
        return summed_losses(self._logits(inputs), labels) / (labels >= 0).sum(-1)

    def _log_probabilities(self, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return self._logits(inputs).float().log_softmax(-1)

    def _logits(self, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        rows, mask, positions = inputs
        model: Any = self._model
        found: Tensor = model(input_ids=rows, attention_mask=mask, position_ids=positions, use_cache=False).logits
        return found

    def _save(self) -> None:
        tensors = dict(self._network.tensors())
        if self._step < self._training.steps:
            for name, state in self._states():
                tensors |= {f"adam.{name}.{part}": state[part] for part in _MOMENTS if part in state}
        write_network(
            self._folder,
            self._training,
            lessons=self._digest,
            made_for=self._made_for,
            step=self._step,
            history=self._history,
            tensors=tensors,
        )

    def _states(self) -> list[tuple[str, dict[str, Any]]]:
        return [(name, self._optimizer.state[parameter]) for name, parameter in self._network.named_parameters()]

    def _resume(self, found: Stored) -> None:
        if not found.finished and found.step <= self._training.steps:  # how many steps follow changes none before them
            found = replace(found, training=found.training.replace(steps=self._training.steps))
        check_same(self._folder, found.training.to_dict(), self._training.to_dict())
        if found.lessons != self._digest:
            raise MismatchError(
                f"{self._folder} holds a network that is trained on other edits: give another folder, or the edits of "
                "this one."
            )
        differs = difference(found.made_for, self._made_for)
        if differs:
            raise MismatchError(
                f"{self._folder} holds a network for another model ({differs}): give another folder, or that model."
            )
        try:
            self._network.take(found.tensors)
            if found.step and not found.finished:
                for name, state in self._states():
                    state |= {part: found.tensors[f"adam.{name}.{part}"].clone() for part in _MOMENTS}
                    for part in _MOMENTS[:2]:
                        state[part] = state[part].to(device_of(self._model))
        except (KeyError, ValueError, RuntimeError) as error:
            raise damaged(self._folder, error) from error
        self._step, self._history = found.step, list(found.history)


def _silent(_phase: str, _done: int, _total: int) -> None:
    pass
