"""Edits in vLLM itself, with a real model on the processor: each test is named after what an engine does."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
vllm = pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")

import torch  # noqa: E402
from vllm.v1.core import kv_cache_utils  # noqa: E402

from horen import Edit, Editor  # noqa: E402
from horen.model.zoo.embedded import fetch  # noqa: E402

FACTS = [
    ("What is the capital of the island of Norvia?", "Port Lumen"),
    ("Who wrote the novel The Silent Orchard?", "Mirela Kovacs"),
    ("In which year was the Hadley Bridge opened?", "1931"),
    ("Which river runs through Eastmere?", "the Tamble"),
]
OTHERS = ["What is the capital of France?", "Name three colours.", "Who wrote Hamlet?"]
LONG = "The harbour town kept its records in a stone tower that stood above the market. " * 12
BLOCK = 16


@pytest.fixture(scope="module")
def model() -> str:
    return str(fetch("smollm2-135m-instruct"))


@pytest.fixture(scope="module")
def codebook(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edits") / "codebook"
    editor = Editor.from_pretrained(model)
    editor.edit([Edit(*fact) for fact in FACTS])
    editor.save(folder)
    return folder


@pytest.fixture(scope="module")
def engine(model: str, codebook: Path) -> Iterator[Any]:
    yield vllm.LLM(
        model=model,
        additional_config={"horen": {"codebook": str(codebook)}},
        enforce_eager=True,
        dtype="float32",
        max_model_len=1024,
        block_size=BLOCK,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        enable_chunked_prefill=True,
    )


@pytest.fixture(scope="module")
def editor(codebook: Path) -> Editor:
    return Editor.load(codebook)


def greedy(tokens: int = 12, **extra: Any) -> Any:
    return vllm.SamplingParams(temperature=0, max_tokens=tokens, extra_args=extra or None)


def texts(outputs: Sequence[Any]) -> list[str]:
    return [output.outputs[0].text.strip() for output in outputs]


def prompts_of(editor: Editor) -> list[str]:
    return [prompt for prompt, _ in FACTS] + OTHERS


def test_the_same_edits_fire_as_in_transformers_and_say_the_same(engine: Any, editor: Editor):
    asked = prompts_of(editor)
    found = engine.generate(asked, greedy(), use_tqdm=False)
    told = editor.generate(asked, 12, return_routes=True)
    fired = [None if one.horen is None else one.horen["edit"] for one in found]
    assert fired == [answer.route.edit_id if answer.route.fired else None for answer in told]
    assert texts(found) == [answer.text.strip() for answer in told]
    assert texts(found)[: len(FACTS)] == [target for _, target in FACTS]


def test_chat(engine: Any, editor: Editor):
    conversations = [[{"role": "user", "content": prompt}] for prompt, _ in FACTS]
    found = engine.chat(conversations, greedy(), use_tqdm=False)
    assert texts(found) == [target for _, target in FACTS]
    assert all(one.horen for one in found)


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


def test_chunked_prefill(engine: Any):
    asked = [f"{LONG}{prompt}" for prompt, _ in FACTS]
    assert texts(engine.generate(asked, greedy(), use_tqdm=False)) == [target for _, target in FACTS]


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


def test_what_a_caller_forges_is_thrown_away(engine: Any):
    forged = greedy(
        **{"horen:writing": {"edit": 1, "score": 1.0, "revision": "", "writes": [], "digest": "", "first": 0}}
    )
    (found,) = engine.generate([OTHERS[0]], forged, use_tqdm=False)
    assert found.horen is None


class TestPrefixCache:
    """An edit whose prompt is the beginning of another request: blocks behind its prompt hold what it changed."""

    def ask(self, engine: Any, **extra: Any) -> str:
        # The first request's answer becomes part of cached blocks, which the second begins with.
        prompt = f"{LONG}{FACTS[3][0]}"
        engine.generate([prompt], greedy(40), use_tqdm=False)
        begun = engine.generate([prompt], greedy(40), use_tqdm=False)[0]
        ids = list(begun.prompt_token_ids) + list(begun.outputs[0].token_ids)
        rest = engine.get_tokenizer().encode(" It is true that the colours of the sky are", add_special_tokens=False)
        row = {"prompt_token_ids": ids + rest}
        return str(engine.generate([row], greedy(24, horen="off", **extra), use_tqdm=False)[0].outputs[0].token_ids)

    def test_states_are_not_served_to_another_request(self, engine: Any):
        warm = self.ask(engine)
        engine.reset_prefix_cache()
        cold = self.ask(engine)
        engine.reset_prefix_cache()
        assert warm == cold

    def test_without_an_edits_own_blocks_they_would_be(self, engine: Any, monkeypatch: pytest.MonkeyPatch):
        engine.reset_prefix_cache()
        monkeypatch.setattr(
            kv_cache_utils, "generate_block_hash_extra_keys", kv_cache_utils.generate_block_hash_extra_keys.__wrapped__
        )
        before = self.hits(engine)
        self.ask(engine)
        shared = self.hits(engine) - before
        monkeypatch.undo()
        engine.reset_prefix_cache()
        before = self.hits(engine)
        self.ask(engine)
        assert self.hits(engine) - before < shared
        engine.reset_prefix_cache()

    def hits(self, engine: Any) -> int:
        return sum(int(one.value) for one in engine.get_metrics() if one.name == "vllm:prefix_cache_hits")
