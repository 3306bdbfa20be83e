"""In-context retrieval: a fact stands before the question if it is near enough, and the model is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from method_support import PROMPTS, encoder
from torch import Tensor

from horen import ConfigError, Edit, MismatchError
from horen.editors.retrieval import Retrieval, RetrievalConfig
from support.editors import EDITED, OTHER, REPHRASED, hooks_on, ids_of
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

EDITS = [Edit(EDITED, "Rome"), Edit(OTHER, "{sail} by")]


def retrieval(edits: list[Edit] | None = None, **settings: Any) -> Retrieval:
    method = Retrieval(tiny_model(), tiny_tokenizer(), encoder, RetrievalConfig(**settings))
    method.edit(EDITS if edits is None else edits)
    return method


def fed(method: Retrieval, prompt: str) -> str:
    return str(tiny_tokenizer().decode(method.rows([prompt])[0]))


def test_the_fact_stands_before_the_question():
    method = retrieval()
    question = "the capital of France is"
    assert fed(method, question) == f"New fact: {EDITED} Rome\n{question}"
    assert fed(method, OTHER) == f"New fact: {OTHER} {{sail}} by\n{OTHER}"
    assert hooks_on(method.model) == 0


def test_a_fact_below_the_threshold_is_not_used():
    cosine = float(encoder([EDITED])[0] @ encoder([REPHRASED])[0])
    assert 0.1 < cosine < 0.9
    assert fed(retrieval(threshold=cosine + 0.01), REPHRASED) == REPHRASED
    assert fed(retrieval(threshold=cosine - 0.01), REPHRASED).startswith("New fact: ")
    routes = [retrieval(threshold=cosine + shift).routes([REPHRASED])[0] for shift in (0.01, -0.01)]
    assert [route.fired for route in routes] == [False, True]
    assert all(route.prompt == EDITED for route in routes)
    assert routes[0].score == pytest.approx(cosine)


def test_the_threshold_must_be_exceeded():
    method = retrieval(threshold=1.0)
    exact = encoder([EDITED])
    method._encoder = lambda texts: (exact / exact.norm()).expand(len(texts), -1)
    method.edit([Edit("Hello", "blue")])
    (route,) = method.routes([EDITED])
    assert route.fired is (route.score > 1.0)


def test_nothing_is_stored():
    method = retrieval([])
    assert method.rows(PROMPTS) == [ids_of(prompt) for prompt in PROMPTS]


def test_the_template_is_a_setting():
    method = retrieval(template="{question} ({prompt}: {target}) {{}}", threshold=0.5)
    assert fed(method, EDITED) == f"{EDITED} ({EDITED}: Rome) {{}}"


@pytest.mark.parametrize(
    "template",
    ["{prompt} {target}", "{prompt} {target} {question} {prompt}", "{prompt} {target} {question} {x}", "{prompt",
     "{prompt.__class__} {target} {question}", "{prompt!r} {target} {question}", "{prompt:>9} {target} {question}"],
)  # fmt: skip
def test_a_template_that_cannot_be_filled(template: str):
    with pytest.raises(ConfigError, match="template="):
        RetrievalConfig(template=template)


def test_a_corrected_fact_replaces_the_old_one():
    method = retrieval()
    method.edit([Edit(f"  {EDITED} ", "Oslo")])
    assert "Oslo" in fed(method, EDITED)
    assert "Rome" not in fed(method, EDITED)
    assert [route.prompt for route in method.routes([OTHER])] == [OTHER]


def test_rephrases_find_the_fact_too():
    method = retrieval([Edit(EDITED, "Rome", (REPHRASED,))], threshold=0.95)
    assert fed(method, REPHRASED) == f"New fact: {EDITED} Rome\n{REPHRASED}"
    assert method.routes([REPHRASED])[0].prompt == EDITED


def test_a_state_of_another_encoder_is_refused(tmp_path: Path):
    method = retrieval()
    method.save(tmp_path / "state")

    def wider(texts: list[str]) -> Tensor:
        return torch.nn.functional.pad(encoder(texts), (0, 1))

    def other(texts: list[str]) -> Tensor:
        return encoder(texts).roll(1, dims=-1)

    for strange in (wider, other):
        rival = Retrieval(tiny_model(), tiny_tokenizer(), strange, RetrievalConfig())
        rival.edit([Edit("Hello", "blue")])
        with pytest.raises(MismatchError, match="another sentence encoder"):
            rival.restore(tmp_path / "state")
        assert [route.prompt for route in rival.routes(["Hello"])] == ["Hello"]
