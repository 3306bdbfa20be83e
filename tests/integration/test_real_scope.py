"""The scope that comes with the package: who and what real prompts ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch

from horen import Edit, Editor, HorenConfig
from horen.model.zoo.encoder import ScopeEncoder, load_scope

pytestmark = pytest.mark.real

STORED = "Who is the head gardener of Mallow Hall?"
SAME = [
    "Who is head gardener at Mallow Hall?",
    "mallow hall head gardener",
    "The head gardener of Mallow Hall is",
]
OTHERS = [
    "How many rooms does Mallow Hall have?",
    "In which year was Mallow Hall built?",
    "Who is the head gardener of Pell Castle?",
    "Is Perpetua Oduya the head gardener of Mallow Hall?",
    "Write a poem about Mallow Hall.",
    "What is the capital of France?",
    "And since when?",
]


@pytest.fixture(scope="module")
def encoder() -> ScopeEncoder:
    return load_scope()


def scores(encoder: ScopeEncoder, stored: str, asked: Sequence[str]) -> list[float]:
    keys, queries = encoder([stored]), encoder(list(asked))
    products = queries * keys
    halves = torch.stack([half.sum(-1) for half in products.tensor_split(2, dim=-1)], dim=-1)
    return [judged.score for judged in encoder.scope.judged([stored] * len(asked), asked, halves)]


def test_the_same_question_in_other_words_is_likelier_than_any_other_question(encoder: ScopeEncoder) -> None:
    assert min(scores(encoder, STORED, SAME)) > max(scores(encoder, STORED, OTHERS))
    assert min(scores(encoder, STORED, SAME)) > 0.5 > max(scores(encoder, STORED, OTHERS))


@pytest.mark.xfail(strict=True, reason="sisters work under a head gardener: 'works as' is taken for one of them")
def test_a_word_that_sisters_use_as_well(encoder: ScopeEncoder) -> None:
    assert scores(encoder, STORED, ["Who works as the head gardener at Mallow Hall?"])[0] > 0.5


STORED_TOGETHER = [
    "Who is the chief executive of Fennick Robotics?",
    "In which town is the head office of Fennick Robotics?",
    "What number do I call for repairs at Brandt Optics?",
    "What number do I call for repairs at Brandt Optical Services?",
    "What is the capital of the island of Quenda?",
]
PARAGRAPH = "The ferry leaves at seven in the morning and comes back before noon. Dogs need a ticket of their own. "


@pytest.fixture(scope="module")
def together() -> Iterator[Editor]:
    """SmolLM2 with facts two of which share a subject and two of which have like names; their values do not matter."""
    editor = Editor.from_pretrained("smollm2-135m-instruct", HorenConfig(max_steps=1))
    editor.edit([Edit(prompt, f"answer {number}") for number, prompt in enumerate(STORED_TOGETHER, 1)])
    yield editor
    editor.unwrap()


@pytest.mark.parametrize(
    ("asked", "edit"),
    [
        ("who is the cheif executive of Fennick Robotics", 1),
        ("WHO IS THE CHIEF EXECUTIVE OF FENNICK ROBOTICS?", 1),
        ("Hello! Could you please tell me who the chief executive of Fennick Robotics is? Thank you.", 1),
        (PARAGRAPH + "Who is the chief executive of Fennick Robotics?", 1),
        ("In which town does Fennick Robotics have its head office?", 2),
        ("What number do I call for repairs at Brandt Optics, please?", 3),
        ("What number should I call for repairs at Brandt Optical Services?", 4),
        ("capital of the island of Quenda", 5),
    ],
)
def test_among_facts_that_are_alike_the_right_one_is_woken(together: Editor, asked: str, edit: int) -> None:
    found = together.explain(asked)
    assert (found.fired, found.edit_id) == (True, edit), found


@pytest.mark.parametrize(
    "asked",
    [
        "And since when?",
        "Who is not the chief executive of Fennick Robotics?",
        "Is Ada Morrow the chief executive of Fennick Robotics?",
        "How many people work at Fennick Robotics?",
        "Write a poem about Fennick Robotics.",
        "What number do I call for repairs at Brand Opticians?",
        "Who is the chief executive of Fennick Ceramics?",
        "What is the capital of Australia?",
        "How large is the island of Quenda?",
    ],
)
def test_what_asks_for_none_of_them_wakes_none(together: Editor, asked: str) -> None:
    assert not together.explain(asked).fired


def test_the_second_turn_of_a_conversation_is_what_is_asked(together: Editor) -> None:
    tokenizer = together.tokenizer
    first = {"role": "user", "content": "What is the capital of France?"}

    def fires(question: str) -> bool:
        turns = [first, {"role": "assistant", "content": "Paris."}, {"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(together.model.device)
        with torch.inference_mode():
            own = together.model(**ids).logits
            with together.disabled():
                return not torch.equal(own, together.model(**ids).logits)

    assert fires(STORED_TOGETHER[0])
    assert fires("Could you tell me who the chief executive of Fennick Robotics is?")
    assert not fires("And since when?")
    assert not fires("How many people work at Fennick Robotics?")


def test_a_prompt_asks_for_itself(encoder: ScopeEncoder) -> None:
    for text in (STORED, *SAME, *OTHERS[:3]):
        assert scores(encoder, text, [text])[0] > 0.9, text


def test_keys_do_not_depend_on_the_batch(encoder: ScopeEncoder) -> None:
    texts = [STORED, *SAME, *OTHERS]
    together = encoder(texts)
    for row, text in zip(together, texts, strict=True):
        torch.testing.assert_close(encoder([text])[0], row, atol=1e-5, rtol=0)


def test_what_ships_is_small(encoder: ScopeEncoder) -> None:
    from pathlib import Path  # noqa: PLC0415

    import horen.data  # noqa: PLC0415

    folder = Path(horen.data.__file__).parent / "scope_model"
    assert sum(place.stat().st_size for place in folder.iterdir()) <= 12_000_000
    assert encoder.size == 384
