"""An edited model in EleutherAI's lm-evaluation-harness (the extra ``lm-eval``): what edits do to other skills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from horen.bench import scorer
from horen.editors.interface import Method
from horen.extras import require
from horen.model.contexts import ends_of

require("lm-eval", "The evaluation harness needs")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.api.model import TemplateLM  # noqa: E402
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # noqa: E402

_CONTEXT = 2048  # where a model does not say how much it holds
_BUDGET = 256


class EditedModel(TemplateLM):  # type: ignore[misc]
    """A method's model as the harness wants it: ``lm_eval.simple_evaluate(model=EditedModel(method), tasks=[…])``.

    Each request's context is the prompt and its continuation the answer, so an edit acts as it does for a user. Methods
    that work in context are given no context here: the harness's prompts are rendered already.

    Args:
        method: an opened method.
        batch_size: rows run together.
    """

    def __init__(self, method: Method, batch_size: int = 16) -> None:
        super().__init__()
        self._method, self._batch = method, batch_size
        self.tokenizer: Any = method.tokenizer
        self._ends = ends_of(method.model, method.tokenizer).all
        config = method.model.config.get_text_config(decoder=True)
        self._limit = int(getattr(config, "max_position_embeddings", None) or _CONTEXT)

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._ends[0] if self._ends else int(self.tokenizer.eos_token_id or 0)

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before a text without context."""
        first = self.tokenizer.bos_token_id
        return self.eot_token_id if first is None else int(first)

    @property
    def tokenizer_name(self) -> str:
        """For the harness's cache."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return token ids; what the tokenizer puts before every text comes along unless it is told not to."""
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer(string, **options)["input_ids"])

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return a conversation as text."""
        return str(
            self.tokenizer.apply_chat_template(
                chat_history, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        pairs = [self._fitted(context, rest) for _, context, rest in requests]
        scored = scorer.forced_rows(
            self._method, [context for context, _ in pairs], [rest for _, rest in pairs], batch=self._batch
        )
        return [(one.log_likelihood, all(one.greedy)) for one in scored]

    def loglikelihood_rolling(self, requests: list[Instance], **_: Any) -> list[float]:
        """Return Σ log p of whole texts, in windows as long as the model's context."""
        found = []
        for text, *_rest in (request.args for request in requests):
            windows = map(
                make_disjoint_window,
                get_rolling_token_windows(
                    token_list=self.tok_encode(text),
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self._limit - 1,
                    context_len=1,
                ),
            )
            scored = self._loglikelihood_tokens([(("", ""), context, rest) for context, rest in windows])
            found.append(sum(value for value, _ in scored))
        return found

    def generate_until(self, requests: list[Instance], **_: Any) -> list[str]:
        """Return greedy answers up to the first of each request's stop texts."""
        found = []
        for context, options in (request.args for request in requests):
            stops = options.get("until") or []
            budget = int(options.get("max_gen_toks", _BUDGET))
            ids = self.tok_encode(context)[-(self._limit - budget) :]
            text = scorer.answer_rows(self._method, [ids], budget=budget)[0].raw
            found.append(_until(text, [stops] if isinstance(stops, str) else stops))
        return found

    def _fitted(self, context: list[int], rest: list[int]) -> tuple[list[int], list[int]]:
        """Context and continuation that fit the model together, cut on the left."""
        kept = max(self._limit - len(rest), 1)
        return context[-kept:], rest[: self._limit - 1]


def _until(text: str, stops: Sequence[str]) -> str:
    ends = [text.find(stop) for stop in stops if stop and stop in text]
    return text[: min(ends)] if ends else text
