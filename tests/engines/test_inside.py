"""Edits that activations tell, in vLLM itself: prompts are read and routed by its workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

vllm = pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")

from horen import ConfigError, Edit, Editor, HorenConfig  # noqa: E402
from support.asking_engines import BLOCK, HITS, LONG, OTHERS, counted, fired, greedy, texts  # noqa: E402

FACTS = [
    ("What is the capital of the island of Norvia?", "Port Lumen"),
    ("Who wrote the novel The Silent Orchard?", "Mirela Kovacs"),
    ("In which year was the Hadley Bridge opened?", "1931"),
]


@pytest.fixture(scope="module")
def codebook(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edits") / "codebook"
    editor = Editor.from_pretrained(model, HorenConfig.from_preset("activations"))
    editor.edit([Edit(*fact) for fact in FACTS])
    editor.save(folder)
    return folder


def agrees(engine: Any, editor: Editor, asked: Sequence[str], *, chat: bool = False) -> list[int | None]:
    """Check that both route alike and say the same; return which edits fired."""
    turns = [[{"role": "user", "content": text}] for text in asked]
    found = engine.chat(turns, greedy(), use_tqdm=False) if chat else engine.generate(asked, greedy(), use_tqdm=False)
    told = editor.generate(asked, 12, chat=chat, return_routes=True)
    assert fired(found) == [answer.route.edit_id if answer.route.fired else None for answer in told]
    assert texts(found) == [answer.text.strip() for answer in told]
    return fired(found)


def test_the_same_edits_fire_as_in_transformers_and_say_the_same(engine: Any, editor: Editor):
    asked = [prompt for prompt, _ in FACTS]
    assert agrees(engine, editor, asked + OTHERS)[:3] == [1, 2, 3]
    assert agrees(engine, editor, asked + OTHERS, chat=True)[:3] == [1, 2, 3]


def test_chunked_prefill_of_prompts_that_share_a_cached_beginning(engine: Any, editor: Editor):
    """What lies before the words that are read may come from the cache; the words themselves are computed anew."""
    asked = [f"{LONG}{prompt}" for prompt, _ in FACTS]
    assert agrees(engine, editor, asked) == agrees(engine, editor, asked)  # once more, and nothing of it is missing
    before = counted(engine, HITS)
    turns = [
        [
            {"role": "user", "content": LONG},
            {"role": "assistant", "content": "I see."},
            {"role": "user", "content": prompt},
        ]
        for prompt, _ in FACTS
    ]
    found = [engine.chat(turn, greedy(), use_tqdm=False)[0] for turn in turns * 2]
    assert fired(found) == [1, 2, 3] * 2
    assert texts(found) == [target for _, target in FACTS] * 2
    assert counted(engine, HITS) - before >= 5 * BLOCK


def test_a_second_turn_is_answered_as_from_a_cold_cache(engine: Any):
    turns = [
        [
            {"role": "user", "content": f"{LONG}\n{prompt}"},
            {"role": "assistant", "content": target},
            {"role": "user", "content": "Thank you. Name three colours."},
        ]
        for prompt, target in FACTS
    ]
    engine.chat([turn[:1] for turn in turns], greedy(), use_tqdm=False)
    warm = engine.chat(turns, greedy(), use_tqdm=False)
    engine.reset_prefix_cache()
    cold = engine.chat(turns, greedy(), use_tqdm=False)
    assert texts(warm) == texts(cold)
    assert fired(warm) == fired(cold)


def test_preemption(engine: Any, editor: Editor):
    before = counted(engine, "vllm:num_preemptions")
    params = vllm.SamplingParams(temperature=0, max_tokens=120, ignore_eos=True)
    asked = [f"{LONG[: 400 + 8 * n]}{FACTS[n % 3][0]}" for n in range(8)]
    found = engine.generate(asked, params, use_tqdm=False)
    assert counted(engine, "vllm:num_preemptions") > before
    told = editor.generate(asked, 12, return_routes=True)
    assert fired(found) == [answer.route.edit_id if answer.route.fired else None for answer in told]
    said = [answer.text.strip() for answer in told]
    assert [text[: len(answer)] for text, answer in zip(texts(found), said, strict=True)] == said


def test_off_several_samples_and_beams(engine: Any):
    prompt, target = FACTS[0]
    off, on = engine.generate([prompt] * 2, [greedy(horen="off"), greedy()], use_tqdm=False)
    assert off.horen is None
    assert texts([off, on])[0] != target == texts([on])[0]
    params = vllm.SamplingParams(temperature=0.01, seed=1, n=3, max_tokens=12)
    (found,) = engine.generate([prompt], params, use_tqdm=False)
    assert [one.text.strip() for one in found.outputs] == [target] * 3
    assert found.horen["edit"] == 1
    beams = vllm.sampling_params.BeamSearchParams(beam_width=3, max_tokens=6)
    (found,) = engine.beam_search([{"prompt": prompt}], beams)
    assert found.sequences[0].text.removeprefix(prompt).strip().startswith(target)


def test_edits_are_named_by_their_ids(engine: Any):
    """Of one prompt, whose states are not shared between them: what it wakes is another each time."""
    prompt, target = FACTS[0]
    asked = [{"horen_only": [1]}, {"horen_only": [2]}, {"horen_without": [1]}, {"horen_without": [2]}, {}]
    found = engine.generate([prompt] * len(asked), [greedy(**words) for words in asked], use_tqdm=False)
    assert [one.horen and one.horen["edit"] for one in found] == [1, None, None, 1, 1]
    assert [said == target for said in texts(found)] == [True, False, False, True, True]
    with pytest.raises(ConfigError, match="horen_only='1' is no list of edits"):
        engine.generate([prompt], greedy(horen_only="1"), use_tqdm=False)


def test_a_change_is_followed_and_a_version_may_be_named(engine: Any, served: Path):
    prompt, target = "Who designed the clock tower of Veldt?", "Anneke Brandsma"
    editor = Editor.load(served)
    try:
        editor.edit(Edit(prompt, target))
        editor.save(served)
        time.sleep(1)
        now, before = engine.generate([prompt] * 2, [greedy(), greedy(horen_version=1)], use_tqdm=False)
        assert texts([now]) == [target]
        assert now.horen["version"] == 2
        assert before.horen is None
        editor.undo()
        editor.save(served)
        time.sleep(1)
        after, then = engine.generate([prompt] * 2, [greedy(), greedy(horen_version=2)], use_tqdm=False)
        assert after.horen is None
        assert texts([then, after]) == [target, texts([before])[0]]
    finally:
        editor.unwrap()
