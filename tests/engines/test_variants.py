"""Edits in engines that are set up in other ways: compiled, with guessed tokens, with layers shared by two workers."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

vllm = pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")

from horen import Edit, Editor, HorenConfig  # noqa: E402
from support.asking_engines import LONG, fired  # noqa: E402
from support.tiny_models import tiny_model  # noqa: E402
from support.tiny_tokenizers import tiny_tokenizer  # noqa: E402

FACTS = [
    ("What is the capital of the island of Norvia?", "Port Lumen"),
    ("Who wrote the novel The Silent Orchard?", "Mirela Kovacs"),
    (
        "Describe the lantern night of Orvale.",
        "It begins at dusk, when the children carry paper boats to the river, and it ends with a song on the bridge.",
    ),
]
OTHERS = ["What is the capital of France?", "Name three colours.", "one two three one two three one two"]
TOKENS = 48


@pytest.fixture(scope="module", params=["default", "activations"])
def codebook(model: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path_factory.mktemp("edits") / "codebook"
    editor = Editor.from_pretrained(model, HorenConfig.from_preset(request.param))
    editor.edit([Edit(*fact) for fact in FACTS])
    editor.save(folder)
    return folder


@contextmanager
def started(model: str, codebook: Path, **options: Any) -> Iterator[Any]:
    given = {"dtype": "float32", "max_model_len": 1024, "block_size": 32, "enforce_eager": True, **options}
    engine = vllm.LLM(model=model, additional_config={"horen": {"codebook": str(codebook)}}, **given)
    try:
        yield engine
    finally:
        engine.llm_engine.engine_core.shutdown()
        del engine
        gc.collect()


@pytest.mark.parametrize(
    "options",
    [
        {"enforce_eager": False, "max_num_batched_tokens": 64},
        {"speculative_config": {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3}},
    ],
    ids=["compiled", "guessed tokens"],
)
def test_it_answers_as_transformers(model: str, codebook: Path, options: dict[str, Any]):
    asked = [*(prompt for prompt, _ in FACTS), *OTHERS, *(LONG + prompt for prompt, _ in FACTS)]
    editor = Editor.load(codebook)
    told = editor.generate(asked, TOKENS, return_routes=True)
    with started(model, codebook, **options) as engine:
        params = vllm.SamplingParams(temperature=0, max_tokens=TOKENS)
        found = engine.generate(asked, params, use_tqdm=False)
        found += engine.generate(asked, params, use_tqdm=False)  # the second time from the prefix cache
        off = vllm.SamplingParams(temperature=0, max_tokens=TOKENS, extra_args={"horen": "off"})
        (stock,) = engine.generate([asked[0]], off, use_tqdm=False)
    edits = fired(found)
    assert edits == [answer.route.edit_id if answer.route.fired else None for answer in told] * 2
    assert edits[:3] == [1, 2, 3]
    assert [one.outputs[0].text.strip() for one in found] == [answer.text.strip() for answer in told] * 2
    with editor.disabled():
        assert stock.outputs[0].text.strip() == editor.generate(asked[0], TOKENS).strip()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A random model whose heads can be shared by two workers: the real one has nine."""
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")  # a machine of one NUMA node must be told
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
    tiny_model("llama", head_dim=32, num_hidden_layers=4, **sizes).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


TINY_FACTS = [("Who wrote Hamlet?", "Mira Sand"), ("The capital of France is", "Oslo")]


def two_workers(model: str, codebook: Path, config: HorenConfig, **options: Any) -> list[str | None]:
    """Check that two workers answer as transformers does, and return where they write."""
    editor = Editor.from_pretrained(model, config)
    editor.edit([Edit(*fact) for fact in TINY_FACTS])
    editor.save(codebook)
    asked = [*(prompt for prompt, _ in TINY_FACTS), "The capital of Italy is", "Daniel lives in"]
    told = editor.generate(asked, 8, return_routes=True)
    with started(model, codebook, **options) as engine:
        found = engine.generate(asked, vllm.SamplingParams(temperature=0, max_tokens=8), use_tqdm=False)
        sites: list[str | None] = engine.collective_rpc("horen_site")
    edits = fired(found)
    assert edits == [answer.route.edit_id if answer.route.fired else None for answer in told]
    assert edits[:2] == [1, 2]
    said = [editor.tokenizer.decode(one.outputs[0].token_ids, skip_special_tokens=True) for one in found]
    assert [text.strip() for text in said] == [answer.text.strip() for answer in told]
    return sites


@pytest.mark.parametrize("preset", ["default", "activations"])
def test_two_workers_that_share_heads_answer_as_transformers(preset: str, tiny: str, tmp_path: Path):
    sites = two_workers(tiny, tmp_path / "codebook", HorenConfig.from_preset(preset), tensor_parallel_size=2)
    assert len(sites) == 2
    assert len(set(sites)) == 1


@pytest.mark.parametrize("preset", ["default", "activations"])
def test_two_workers_that_share_layers_answer_as_transformers(preset: str, tiny: str, tmp_path: Path):
    """Where activations tell they are read on the stage that writes; vLLM itself needs graphs for stages here."""
    sites = {} if preset == "default" else {"read_sites": "mlp_hidden@0.5"}
    config = HorenConfig.from_preset(preset, write_layer=0.9, **sites)
    found = two_workers(tiny, tmp_path / "codebook", config, pipeline_parallel_size=2, enforce_eager=False)
    assert found[0] is None
    assert found[1] is not None
