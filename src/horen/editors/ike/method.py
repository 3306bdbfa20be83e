"""IKE as a method of the benchmark."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.editors.ike.config import IkeConfig
from horen.editors.ike.demonstrations import Demonstration, load_demonstrations
from horen.editors.retrieval import Encoder, Fact, Retrieval


class Ike(Retrieval):
    """In-context knowledge editing (Zheng et al. 2023, arXiv 2305.12740).

    The model is left as it is and is fed the context C and the question x, where f is the fact (x*, y*):

        P(y | x, f, C),   C = {c_1, …, c_k}

    Each demonstration c_i is a fact (x_i*, y_i*), a question x_i and its answer y_i, of one of three kinds:

        copy: x_i = x_i*, y_i = y_i*;  update: x_i rephrases x_i*, y_i = y_i*;  retain: x_i is out of the fact's scope
        and y_i is what was true before

    in the proportions 1 : 3 : 4. They are the k facts with the largest cosine to f among those of a file, the nearest
    one next to f. How f is found is :class:`horen.editors.retrieval.Retrieval`'s: the paper knows the fact that a
    question is about, or that there is none, and here the sentence encoder finds it. Which demonstration is of which
    kind follows from its rank, where the paper draws it.

    Args:
        model: any causal language model.
        tokenizer: the model's own.
        encoder: sentence encoder, from n texts to [n, d] float32 unit rows.
        config: the settings; None for the default preset.

    Raises:
        DataError: when the file of demonstrations cannot be used.
    """

    name = "ike"
    config: IkeConfig

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        encoder: Encoder,
        config: IkeConfig | None = None,
    ) -> None:
        given = config or IkeConfig()
        super().__init__(model, tokenizer, encoder, given)
        self._demonstrations = load_demonstrations(given.demonstrations) if given.count else []
        self._features: Tensor | None = None
        self._chosen: dict[str, list[Demonstration]] = {}

    def _rendered(self, fact: Fact, question: str) -> str:
        """Demonstrations, the farthest first, the fact and the question, within the model's context if that can be."""
        asked = super()._rendered(fact, question)
        blocks = [
            self._written(demonstration, place)
            for place, demonstration in enumerate(self._nearest_demonstrations(fact))
        ]
        while True:
            text = "\n\n".join([*reversed(blocks), asked])
            if not blocks or self._fits(text):
                return text
            blocks.pop()

    def _written(self, demonstration: Demonstration, place: int) -> str:
        question, answer = demonstration.shown(place)
        shown = self.config.template.format(prompt=demonstration.prompt, target=demonstration.target, question=question)
        return f"{shown} {answer}"

    def _nearest_demonstrations(self, fact: Fact) -> list[Demonstration]:
        """Return the k demonstrations whose facts are most like this one, the nearest first."""
        text = f"{fact.prompt} {fact.target}"
        if self._demonstrations and text not in self._chosen:
            if self._features is None:
                self._features = self._encoder([shown.fact for shown in self._demonstrations])
            order = (self._features @ self._encoder([text])[0]).argsort(descending=True, stable=True)
            self._chosen[text] = [self._demonstrations[i] for i in order[: self.config.count].tolist()]
        return self._chosen.get(text, [])

    def _fits(self, text: str) -> bool:
        limit = self.contexts.limit
        return limit is None or len(self.contexts.plain(text)) + self.config.room <= limit
