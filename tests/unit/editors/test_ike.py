"""IKE: demonstrations before the fact, of three kinds and in the order of nearness, within the context."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from method_support import PROMPTS, encoder
from torch import Tensor

from horen import ConfigError, DataError, Edit
from horen.editors.ike import Ike, IkeConfig
from horen.editors.ike.demonstrations import Demonstration, load_demonstrations
from support.editors import EDITED, OTHER, REPHRASED, hooks_on, ids_of
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

FIELDS = ("prompt", "target", "rephrase", "unrelated_prompt", "unrelated_answer")
CAPITAL = dict(
    zip(FIELDS, ("The capital of Spain is", "Lima", "Spain is ruled from", "Spain lies in", "Europe"), strict=True)
)
COLOUR = dict(
    zip(FIELDS, ("What colour is jam?", "blue", "Jam has the colour", "What is tea?", "a drink"), strict=True)
)
BOATS = dict(zip(FIELDS, ("Nine boats", "sink", "Boats of nine", "Ten cars", "drive"), strict=True))


def written(folder: Path, *records: Any) -> str:
    place = folder / "facts.jsonl"
    place.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return str(place)


def ike(model: Any = None, **settings: Any) -> Ike:
    method = Ike(model or tiny_model(), tiny_tokenizer(), encoder, IkeConfig(**settings))
    method.edit([Edit(EDITED, "Rome"), Edit(OTHER, "sail by")])
    return method


def fed(method: Ike, prompt: str) -> str:
    return str(tiny_tokenizer().decode(method.rows([prompt])[0]))


def similarity(record: dict[str, str]) -> float:
    one, two = encoder([f"{EDITED} Rome", f"{record['prompt']} {record['target']}"])
    return float(one @ two)


def test_the_nearest_demonstration_stands_next_to_the_fact(tmp_path: Path):
    assert similarity(CAPITAL) > similarity(COLOUR) > similarity(BOATS)
    method = ike(demonstrations=written(tmp_path, COLOUR, BOATS, CAPITAL), count=3)
    assert fed(method, EDITED) == (
        "New Fact: Nine boats sink\nPrompt: Nine boats sink\n\n"
        "New Fact: What colour is jam? blue\nPrompt: What is tea? a drink\n\n"
        "New Fact: The capital of Spain is Lima\nPrompt: Spain is ruled from Lima\n\n"
        f"New Fact: {EDITED} Rome\nPrompt: {EDITED}"
    )
    assert hooks_on(method.model) == 0


def test_a_prompt_that_no_fact_is_near_to_is_left_as_it_is():
    method = ike(threshold=0.9)
    assert method.rows(["Hello", REPHRASED]) == [ids_of("Hello"), ids_of(REPHRASED)]
    paper = Ike(tiny_model(max_position_embeddings=4096), tiny_tokenizer(), encoder, IkeConfig.from_preset("paper"))
    assert paper.rows(PROMPTS) == [ids_of(prompt) for prompt in PROMPTS]
    paper.edit([Edit(EDITED, "Rome"), Edit(OTHER, "sail by")])
    assert fed(paper, "Hello").endswith("\nPrompt: Hello")
    assert fed(paper, "Hello").count("New Fact: ") == 33
    assert fed(paper, REPHRASED).endswith(f"New Fact: {EDITED} Rome\nPrompt: {REPHRASED}")


@pytest.mark.parametrize(("count", "kinds"), [(8, (1, 3, 4)), (32, (4, 12, 16)), (3, (1, 1, 1))])
def test_the_published_proportions(count: int, kinds: tuple[int, int, int]):
    fact = Demonstration(*CAPITAL.values())
    copied, updated, retained = (
        (fact.prompt, fact.target),
        (fact.rephrase, fact.target),
        (fact.unrelated_prompt, fact.unrelated_answer),
    )
    found = Counter(fact.shown(place) for place in range(count))
    assert (found[copied], found[updated], found[retained]) == kinds


def test_the_farthest_are_left_out_where_the_context_is_small(tmp_path: Path):
    place = written(tmp_path, COLOUR, BOATS, CAPITAL)
    whole = fed(ike(demonstrations=place, count=3), EDITED)
    length = len(tiny_tokenizer()(whole)["input_ids"])
    for limit, blocks in ((length + 10, 4), (length + 9, 3), (20, 1)):
        model = tiny_model(max_position_embeddings=limit)
        found = fed(ike(model, demonstrations=place, count=3, room=10), EDITED)
        assert found == "\n\n".join(whole.split("\n\n")[-blocks:])


def test_no_demonstrations():
    assert fed(ike(count=0), EDITED) == f"New Fact: {EDITED} Rome\nPrompt: {EDITED}"


def test_a_corrected_fact_is_shown():
    method = ike(count=1)
    assert fed(method, EDITED).endswith(f"{EDITED} Rome\nPrompt: {EDITED}")
    method.edit([Edit(EDITED, "Oslo")])
    assert fed(method, EDITED).endswith(f"{EDITED} Oslo\nPrompt: {EDITED}")


def test_demonstrations_are_encoded_once():
    method, seen = ike(count=2), []

    def counting(texts: list[str]) -> Tensor:
        seen.extend(texts)
        return encoder(texts)

    method._encoder = counting
    method.rows([EDITED, EDITED])
    method.rows([EDITED])
    facts = [text for text in seen if text != EDITED]
    assert len(facts) == len(set(facts)) == 33


def test_those_of_the_package():
    found = load_demonstrations("")
    assert len(found) == len({shown.prompt for shown in found}) == 32
    for shown in found:
        assert len({shown.prompt, shown.rephrase, shown.unrelated_prompt}) == 3
        assert shown.target != shown.unrelated_answer


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no demonstration"),
        ("{", "line 1: it is not JSON"),
        ("[1]", "line 1: it is a list"),
        ('\n{"prompt": "a"}', "line 2: target is null where text is expected"),
        (json.dumps({**CAPITAL, "rephrase": " "}), "line 1: rephrase is empty; give prompt, target, rephrase"),
    ],
)
def test_files_that_cannot_be_used(text: str, message: str, tmp_path: Path):
    place = tmp_path / "facts.jsonl"
    place.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        ike(demonstrations=str(place))
    with pytest.raises(DataError, match="cannot be read"):
        ike(demonstrations=str(tmp_path / "nothing"))


def test_a_template_whose_question_is_not_last():
    with pytest.raises(ConfigError, match="at its end"):
        IkeConfig(template="{question} ({prompt} {target})")
    with pytest.raises(ConfigError, match="template="):
        IkeConfig(template="{prompt} {question}")
