"""Edits in vLLM's own server, in processes of its own, as its clients see them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")
openai = pytest.importorskip("openai")

from horen import Edit, Editor  # noqa: E402
from horen.model.zoo.embedded import fetch  # noqa: E402
from support.vllm_servers import free_port, serving  # noqa: E402

FACTS = [
    ("What is the capital of the island of Norvia?", "Port Lumen"),
    ("Who wrote the novel The Silent Orchard?", "Mirela Kovacs"),
]
OTHER = "Name three colours."
# Several answers to one prompt are sampled, and these are nearly sure of it.
COLD = {"temperature": 0.01, "seed": 1}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder, model, port = tmp_path_factory.mktemp("served"), str(fetch("smollm2-135m-instruct")), free_port()
    editor = Editor.from_pretrained(model)
    for fact in FACTS:
        editor.edit(Edit(*fact))
    editor.save(folder / "codebook")
    with serving(model, folder / "codebook", port, folder / "log"):
        yield openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")


def complete(client: Any, prompt: Any, **extra: Any) -> Any:
    return client.completions.create(model="small", prompt=prompt, max_tokens=8, **{"temperature": 0, **extra})


def converse(client: Any, prompt: str, **extra: Any) -> Any:
    messages = [{"role": "user", "content": prompt}]
    given = {"model": "small", "messages": messages, "max_tokens": 8, "temperature": 0, **extra}
    return client.chat.completions.create(**given)


def asked(**words: Any) -> dict[str, Any]:
    return {"extra_body": {"vllm_xargs": words}}


def test_each_choice_tells_its_edit(client: Any):
    found = complete(client, [FACTS[0][0], OTHER, FACTS[1][0]], n=2, **COLD)
    assert [choice.text.strip() for choice in found.choices[::2]][::2] == [target for _, target in FACTS]
    told = [choice.horen for choice in found.choices]
    assert told[2:4] == [None, None]
    assert [one["edit"] for one in told[:2] + told[4:]] == [1, 1, 2, 2]
    assert all(one["score"] > 0.5 and one["version"] == 2 for one in told[:2] + told[4:])


def test_chat(client: Any):
    found = converse(client, FACTS[1][0])
    assert found.choices[0].message.content.strip() == FACTS[1][1]
    assert found.choices[0].horen["edit"] == 2
    assert converse(client, OTHER).choices[0].horen is None


def test_a_stream_tells_once_for_each_choice(client: Any):
    pieces = list(complete(client, [FACTS[0][0], OTHER], stream=True))
    told = [
        (c.index, c.horen and c.horen["edit"]) for piece in pieces for c in piece.choices if "horen" in c.model_extra
    ]
    assert sorted(told, key=str) == [(0, 1), (1, None)]
    text = "".join(choice.text for piece in pieces for choice in piece.choices if choice.index == 0)
    assert text.strip() == FACTS[0][1]
    pieces = list(converse(client, FACTS[0][0], stream=True, n=2, **COLD))
    told = [(c.index, c.horen["edit"]) for piece in pieces for c in piece.choices if "horen" in c.model_extra]
    assert sorted(told) == [(0, 1), (1, 1)]


def test_edits_off_and_an_earlier_version(client: Any):
    off, first, second = (
        complete(client, FACTS[1][0], **asked(**words)).choices[0]
        for words in ({"horen": "off"}, {"horen_version": 1}, {"horen_version": 2})
    )
    assert off.horen is first.horen is None
    assert off.text == first.text != second.text
    assert second.horen["version"] == 2


@pytest.mark.parametrize(
    ("words", "told"), [({"horen": "of"}, "not understood"), ({"horen_version": 7}, "has had 2 operations")]
)
def test_what_is_not_understood_is_a_bad_request(client: Any, words: dict[str, Any], told: str):
    with pytest.raises(openai.BadRequestError, match=told):
        complete(client, FACTS[0][0], **asked(**words))
    with pytest.raises(openai.BadRequestError, match=told):
        converse(client, FACTS[0][0], **asked(**words))
    assert converse(client, FACTS[0][0]).choices[0].horen


def test_many_at_once_each_have_their_own(client: Any):
    def one(number: int) -> bool:
        place = number % 3
        prompt = OTHER if place == 2 else FACTS[place][0]
        (choice,) = converse(client, prompt).choices
        return json.dumps(choice.horen and choice.horen["edit"]) == json.dumps(None if place == 2 else place + 1)

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(one, range(48)))
