"""Routing inside of an engine: activations are gathered while a prompt is computed, and tell its edit at its end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from horen.errors import HorenError
from horen.front.versions import Versions, mark
from horen.front.writing import Gathering, Writing, written
from horen.model.prompts import Placed
from horen.session import Session
from horen.store.state import CodebookState, Saved
from horen.vllm.settings import shape_of

_log = logging.getLogger(__name__)


class Gathered:
    """What is known of a prompt's activations.

    Args:
        gathering: where they are read.
        ids: token ids of the prompt.
    """

    def __init__(self, gathering: Gathering, ids: Sequence[int]) -> None:
        self.gathering, self.ids = gathering, tuple(ids)
        self._end = max(stop for _, stop in gathering.prompt.spans)
        self._states: list[Tensor] = []
        self._there = torch.zeros(self._end - gathering.begin, dtype=torch.bool)

    def wants(self, done: int, length: int) -> bool:
        """Return whether any of the tokens that are computed next is read."""
        return done < self._end and done + length > self.gathering.begin

    def take(self, seen: Sequence[Tensor], row: int, done: int, length: int) -> None:
        """Keep what is read of a run of tokens.

        Args:
            seen: [N, d_i] activations of the flat batch, one for each part.
            row: of the batch at which the run begins.
            done: how many of the request's tokens were computed before.
            length: of the run.
        """
        begin = self.gathering.begin
        first, stop = max(done, begin), min(done + length, self._end)
        if not self._states:
            self._states = [part.new_empty(len(self._there), part.shape[1]) for part in seen]
        for kept, part in zip(self._states, seen, strict=True):
            kept[first - begin : stop - begin] = part[row + first - done : row + stop - done]
        self._there[first - begin : stop - begin] = True

    @property
    def whole(self) -> bool:
        """Whether all that is read was computed."""
        return bool(self._there.all())

    @property
    def states(self) -> list[Tensor]:
        """[1, n, d_i] activations from the first token on that is read, one for each part."""
        return [part[None] for part in self._states]


class Inside:
    """Routes prompts by their activations: what a codebook is, without the weights of the model that it is for.

    Args:
        folder: the codebook's.
        model: the folder or hub id of the model that is served.
        device: where activations are.
    """

    def __init__(self, folder: str, model: str, device: torch.device) -> None:
        self._folder, self._device = Path(folder), device
        self._saved = Saved.read(folder)
        tokenizer: Any = AutoTokenizer.from_pretrained(model)
        self._session = Session(shape_of(model), tokenizer, self._saved.config)
        self._versions = Versions(self._folder)
        self._state = self._taken()

    def route(self, gathered: Gathered) -> Writing | None:
        """Return what is written for a prompt; None where no edit fires, or its version cannot be had."""
        gathering = gathered.gathering
        try:
            if not gathered.whole:
                raise RuntimeError("not all of its tokens were computed here")
            self._turn_to(gathering)
        except (HorenError, OSError, RuntimeError) as error:
            _log.error("A request is answered without edits: %s", error)
            return None
        place = Placed(0, -gathering.begin, gathered.ids, gathering.prompt)
        adapter = self._session._adapter
        with torch.inference_mode():
            found = adapter.route([place], adapter.reads.of_call([place], gathered.states))
        return written(self._session, found[0] if found else None, gathering.version)

    def _turn_to(self, gathering: Gathering) -> None:
        """Let the session be what the codebook was at a version; read the folder where that is newer."""
        if mark(self._state.history, gathering.version) != gathering.mark:
            self._saved = Saved.read(self._folder)
            self._state = self._taken()
            if mark(self._state.history, gathering.version) != gathering.mark:
                raise RuntimeError(f"{self._folder} is no longer what it was when the request came")
        session = self._session
        session.history, session._adapter.codebook = self._versions.at(self._state, gathering.version, gathering.among)
        session._adapter.codebook.to(self._device)

    def _taken(self) -> CodebookState:
        state = self._saved.state()
        adapter = self._session._adapter
        adapter.key_space, adapter.reads.weights = state.space.to(self._device), state.token_weights
        self._versions.forget()
        return state
