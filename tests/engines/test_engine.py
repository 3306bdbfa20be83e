"""Edits in vLLM itself, with a real model on the processor: each test is named after what an engine does."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

vllm = pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")

from vllm.v1.core import kv_cache_utils  # noqa: E402

from horen import ConfigError, Edit, Editor, HorenConfig  # noqa: E402
from support.asking_engines import BLOCK, HITS, LONG, OTHERS, counted, greedy, texts  # noqa: E402

FACTS = [
    ("What is the capital of the island of Norvia?", "Port Lumen"),
    ("Who wrote the novel The Silent Orchard?", "Mirela Kovacs"),
    ("In which year was the Hadley Bridge opened?", "1931"),
    ("Which river runs through Eastmere?", "the Tamble"),
]
LONG_ANSWER = (
    "Describe the lantern night of Orvale.",
    "It begins at dusk, when the children carry paper boats to the river, and it ends with a slow song on the bridge.",
)


@pytest.fixture(scope="module")
def codebook(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edits") / "codebook"
    editor = Editor.from_pretrained(model)
    editor.edit([Edit(*fact) for fact in (*FACTS, LONG_ANSWER)])
    editor.save(folder)
    return folder


def test_the_same_edits_fire_as_in_transformers_and_say_the_same(engine: Any, editor: Editor):
    asked = [prompt for prompt, _ in FACTS] + OTHERS
    found = engine.generate(asked, greedy(), use_tqdm=False)
    told = editor.generate(asked, 12, return_routes=True)
    fired = [None if one.horen is None else one.horen["edit"] for one in found]
    assert fired == [answer.route.edit_id if answer.route.fired else None for answer in told]
    assert texts(found) == [answer.text.strip() for answer in told]
    assert texts(found)[: len(FACTS)] == [target for _, target in FACTS]


def test_every_worker_tells_where_it_writes(engine: Any):
    (site,) = engine.collective_rpc("horen_site")
    assert site.startswith("model.layers.")


def test_chat(engine: Any):
    conversations = [[{"role": "user", "content": prompt}] for prompt, _ in FACTS]
    found = engine.chat(conversations, greedy(), use_tqdm=False)
    assert texts(found) == [target for _, target in FACTS]
    assert all(one.horen for one in found)


def test_a_long_answer_takes_several_values(engine: Any, editor: Editor):
    prompt, target = LONG_ANSWER
    (record,) = (record for record in editor.edits() if record.prompt == prompt)
    assert len(record.values) > 2
    assert editor.generate(prompt, 60).strip() == target
    other, found = engine.generate([FACTS[0][0], prompt], greedy(60), use_tqdm=False)
    assert texts([other, found]) == [FACTS[0][1], target]
    # Behind other words than its own nothing more is written.
    begun = engine.get_tokenizer()(f"{prompt} It begins at noon, when")["input_ids"]
    (found,) = engine.generate([{"prompt_token_ids": begun}], greedy(60), use_tqdm=False)
    assert texts([found]) == [editor.generate(f"{prompt} It begins at noon, when", 60).strip()]


def test_a_second_turn_is_answered_as_from_a_cold_cache(engine: Any):
    turns = []
    for prompt, target in FACTS:
        turns.append(
            [
                {"role": "user", "content": f"{LONG}\n{prompt}"},
                {"role": "assistant", "content": target},
                {"role": "user", "content": "Thank you. Name three colours."},
            ]
        )
    engine.chat([turn[:1] for turn in turns], greedy(), use_tqdm=False)
    warm = texts(engine.chat(turns, greedy(), use_tqdm=False))
    engine.reset_prefix_cache()
    assert warm == texts(engine.chat(turns, greedy(), use_tqdm=False))


def test_chunked_prefill(engine: Any, editor: Editor):
    asked = [f"{LONG}{prompt}" for prompt, _ in FACTS]
    found = engine.generate(asked, greedy(), use_tqdm=False)
    assert all(one.horen for one in found)
    assert texts(found) == [answer.strip() for answer in editor.generate(asked, 12)]


def test_edits_can_be_off_for_a_request(engine: Any):
    prompt, target = FACTS[0]
    off, on = engine.generate([prompt] * 2, [greedy(horen="off"), greedy()], use_tqdm=False)
    assert off.horen is None
    assert texts([off, on])[0] != target == texts([on])[0]


def test_several_samples(engine: Any):
    prompt, target = FACTS[1]
    params = vllm.SamplingParams(temperature=0.01, seed=1, n=3, max_tokens=12)
    (found,) = engine.generate([prompt], params, use_tqdm=False)
    assert [one.text.strip() for one in found.outputs] == [target] * 3


def test_beams(engine: Any):
    """Each beam is a prompt of its own to vLLM; what it goes on from is what wakes the edit, and no answer is one."""
    asked = [{"prompt": text} for text in (FACTS[0][0], FACTS[1][0], OTHERS[0])]
    found = engine.beam_search(asked, vllm.sampling_params.BeamSearchParams(beam_width=3, max_tokens=6))
    said = [
        one.sequences[0].text.removeprefix(given["prompt"]).strip() for one, given in zip(found, asked, strict=True)
    ]
    assert [text.startswith(target) for text, (_, target) in zip(said[:2], FACTS[:2], strict=True)] == [True, True]
    assert not said[2].startswith(tuple(target for _, target in FACTS))


def test_preemption(engine: Any, editor: Editor):
    """More is answered at once than there are blocks for, so requests are put back and their prompts run again."""
    before = counted(engine, "vllm:num_preemptions")
    params = vllm.SamplingParams(temperature=0, max_tokens=120, ignore_eos=True)
    asked = [f"{LONG[: 400 + 8 * n]}{FACTS[n % 4][0]}" for n in range(8)]
    found = engine.generate(asked, params, use_tqdm=False)
    assert counted(engine, "vllm:num_preemptions") > before
    told = [answer.strip() for answer in editor.generate(asked, 12)]
    assert all(one.horen for one in found)
    assert [text[: len(answer)] for text, answer in zip(texts(found), told, strict=True)] == told


def test_a_change_of_the_folder_is_followed(engine: Any, served: Path):
    prompt, target = "Who designed the clock tower of Veldt?", "Anneke Brandsma"
    (before,) = engine.generate([prompt], greedy(), use_tqdm=False)
    assert before.horen is None
    editor = Editor.load(served)
    try:
        editor.edit(Edit(prompt, target))
        editor.save(served)
        time.sleep(1)
        (after,) = engine.generate([prompt], greedy(), use_tqdm=False)
        assert texts([after]) == [target]
        editor.undo()
        editor.save(served)
        time.sleep(1)
        (undone,) = engine.generate([prompt], greedy(), use_tqdm=False)
        assert undone.horen is None
        assert texts([undone]) == texts([before])
    finally:
        editor.unwrap()


def test_a_request_may_name_a_version(engine: Any, served: Path, codebook: Path):
    """What was undone, superseded or added since is not so for it."""
    shutil.rmtree(served)
    shutil.copytree(codebook, served)
    prompt, target = FACTS[0]
    editor = Editor.load(served)
    try:
        editor.supersede(1, "Old Harbour")
        editor.save(served)
        latest = editor.operation_count
        asked = [greedy(), greedy(horen_version=latest - 1), greedy(horen_version=0), greedy(horen_version=latest)]
        found = engine.generate([prompt] * 4, asked, use_tqdm=False)  # the last asks for what was just saved
        assert [one.horen and one.horen["version"] for one in found[1:]] == [latest - 1, None, latest]
        assert texts(found)[1::2] == [target, "Old Harbour"]
        with pytest.raises(ConfigError, match="no version 99"):
            engine.generate([prompt], greedy(horen_version=99), use_tqdm=False)
        with pytest.raises(ConfigError, match="is no version"):
            engine.generate([prompt], greedy(horen_version="first"), use_tqdm=False)
        with pytest.raises(ConfigError, match="not understood"):
            engine.generate([prompt], greedy(horen="of"), use_tqdm=False)
        assert texts(engine.generate([prompt], greedy(), use_tqdm=False)) == ["Old Harbour"]
    finally:
        editor.unwrap()
        shutil.rmtree(served)
        shutil.copytree(codebook, served)
        time.sleep(1)
        engine.generate([prompt], greedy(1), use_tqdm=False)  # a front looks at its folder when it is asked


def test_what_cannot_be_read_is_not_taken_up(engine: Any, served: Path):
    content = (served / "config.json").read_bytes()
    try:
        (served / "config.json").write_bytes(content[:-9])
        time.sleep(1)
        assert texts(engine.generate([FACTS[0][0]], greedy(), use_tqdm=False)) == [FACTS[0][1]]
    finally:
        (served / "config.json").write_bytes(content)


def test_a_codebook_whose_values_are_no_vectors_is_refused(model: str, tmp_path: Path):
    editor = Editor.from_pretrained(model, HorenConfig(value="lora"))
    editor.save(tmp_path / "codebook")
    with pytest.raises(ConfigError, match="lora values, which vLLM does not write"):
        vllm.LLM(model=model, additional_config={"horen": {"codebook": str(tmp_path / "codebook")}})


def test_what_a_caller_forges_is_thrown_away(engine: Any):
    forged = greedy(
        **{"horen:writing": {"edit": 1, "score": 1.0, "version": 0, "writes": [], "digest": "", "first": 0}}
    )
    (found,) = engine.generate([OTHERS[0]], forged, use_tqdm=False)
    assert found.horen is None


class TestPrefixCache:
    """A request begins with what another one was asked and answered, edit and all, and wants no edit itself."""

    def ask(self, engine: Any) -> float:
        """Return the log-probability of what comes next, which differs where changed states are read."""
        asked, going_on = f"{LONG}{FACTS[3][0]}", " It is true that the colours of the sky are"
        long = vllm.SamplingParams(temperature=0, max_tokens=2 * BLOCK, ignore_eos=True)
        (begun,) = engine.generate([asked], long, use_tqdm=False)
        ids = [*begun.prompt_token_ids, *begun.outputs[0].token_ids]
        ids += engine.get_tokenizer().encode(going_on, add_special_tokens=False)
        params = vllm.SamplingParams(temperature=0, max_tokens=1, logprobs=1, extra_args={"horen": "off"})
        (found,) = engine.generate([{"prompt_token_ids": ids}], params, use_tqdm=False)
        return float(next(iter(found.outputs[0].logprobs[0].values())).logprob)

    @pytest.fixture
    def cold(self, engine: Any, monkeypatch: pytest.MonkeyPatch) -> float:
        """What comes next where nothing is cached: the answer to the same row, asked alone."""
        engine.reset_prefix_cache()
        monkeypatch.setattr(engine, "generate", forgetting(engine))
        found = self.ask(engine)
        monkeypatch.undo()
        engine.reset_prefix_cache()
        return found

    def test_changed_states_are_not_served_to_another_request(self, engine: Any, cold: float):
        before = counted(engine, HITS)
        assert self.ask(engine) == pytest.approx(cold, abs=1e-4)
        assert counted(engine, HITS) - before >= 4 * BLOCK  # what lies before the edit is shared

    def test_without_an_edits_own_blocks_they_would_be(self, engine: Any, cold: float, monkeypatch: pytest.MonkeyPatch):
        usual = kv_cache_utils.generate_block_hash_extra_keys.__wrapped__
        monkeypatch.setattr(kv_cache_utils, "generate_block_hash_extra_keys", usual)
        assert abs(self.ask(engine) - cold) > 1e-2
        engine.reset_prefix_cache()


def forgetting(engine: Any) -> Any:
    """Return an engine's way to answer, each time from an empty cache."""
    usual = engine.generate

    def generate(*args: Any, **kwargs: Any) -> Any:
        engine.reset_prefix_cache()
        return usual(*args, **kwargs)

    return generate
