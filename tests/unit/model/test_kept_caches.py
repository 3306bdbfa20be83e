"""Caches: what comes after one alone, the names that layers give it, and guesses that come with a prompt."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import transformers
from generation_support import counted, generated, routed_by_hand
from packaging.version import Version
from transformers import AutoModelForCausalLM, BloomConfig, FalconConfig, GPTNeoConfig, StaticCache

from horen import Edit, Editor, HorenConfig
from horen.model.past import past_argument, past_of
from support.editors import EDITED, GREEDY, OTHER, PROMPTS, QUICK, chat_ids, ids_of, padded, quick_editor
from support.tiny_models import FAMILIES, HIDDEN, LAYERS, seeded, tiny_config
from support.tiny_tokenizers import VOCABULARY, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("reading")

_SIZES = {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_attention_heads": 4}
_MORE: dict[str, Any] = {
    "falcon": lambda more: FalconConfig(num_hidden_layers=LAYERS, **_SIZES, **more),
    "bloom": lambda more: BloomConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, n_layer=LAYERS, n_head=4, hidden_dropout=0.0, **more
    ),
    "gpt-neo": lambda more: GPTNeoConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, num_layers=LAYERS, num_heads=4,
        attention_types=[[["global", "local"], LAYERS // 2]], window_size=16, max_position_embeddings=256, **more,
    ),
}  # fmt: skip
every_family = pytest.mark.parametrize("family", [*FAMILIES, *_MORE])
_NEW = {"max_new_tokens": 5, "return_dict_in_generate": True}


def editor_of(family: str, edits: list[Edit] | None = None, **settings: Any) -> Editor:
    if family in FAMILIES:
        return quick_editor(family, "chatml", edits, **settings)
    like = tiny_config("gpt2")
    specials = {name: getattr(like, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    with seeded(0):
        model: Any = AutoModelForCausalLM.from_config(_MORE[family](specials))
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "norm" not in name and "ln_" not in name:
                torch.nn.init.normal_(parameter, std=1.5 / parameter.shape[-1] ** 0.5)
    editor = Editor(model.eval(), tiny_tokenizer("chatml"), HorenConfig(**(dict(QUICK) | settings)))
    editor.edit(edits or [Edit(EDITED, "Rome", (PROMPTS[2],))])
    return editor


def going_on(editor: Editor, ids: list[int], length: int, cache: Any = None, **options: Any) -> Any:
    kept = {} if cache is None else {past_argument(editor.model): cache}
    mask = torch.ones(1, length, dtype=torch.long)
    with torch.no_grad():
        return editor.model.generate(torch.tensor([ids]), attention_mask=mask, **kept, **(GREEDY | _NEW | options))


@every_family
@pytest.mark.parametrize(
    "chunk",
    [
        None,
        pytest.param(
            5,
            marks=pytest.mark.skipif(
                Version(transformers.__version__) < Version("5.18"),
                reason="transformers before 5.18 gives other tokens there, with any model",
            ),
        ),
    ],
    ids=["at once", "in chunks"],
)
def test_what_is_new_alone(family: str, chunk: int | None, monkeypatch: pytest.MonkeyPatch):
    """The cache of the answered turn, and the ids that come after it: as with all ids of the conversation."""
    edits = [Edit("Who wrote Hamlet?", "Rome"), Edit("It is blue", "Paris")]
    editor = editor_of(family, edits, threshold=-1.0)
    options = {} if chunk is None else {"prefill_chunk_size": chunk}
    one = going_on(editor, first := chat_ids("Who wrote Hamlet?"), len(first))
    asked, before = chat_ids("x", "x", "It is blue"), chat_ids("x", "x", answer=False)
    grown = [*one.sequences[0].tolist(), *asked[len(before) - 2 :]]
    expected = going_on(editor, grown, len(grown)).sequences[0, len(grown) :].tolist()
    cache = past_of(one)
    new = grown[int(cache.get_seq_length()) :]
    with counted(editor, monkeypatch) as calls:
        two = going_on(editor, new, len(grown), cache, **options)
    assert calls == [1]
    assert two.sequences[0, len(new) :].tolist() == expected
    with editor.disabled():
        base = going_on(editor, grown, len(grown)).sequences[0, len(grown) :].tolist()
    assert routed_by_hand(editor, grown)
    assert expected != base


@pytest.mark.parametrize("static", [False, True], ids=["growing", "static"])
def test_what_is_new_alone_goes_through_further_values(static: bool):
    """An answer of several values, whose steps are told by the tokens that the cache was fed."""
    edits = [Edit("It is blue", " ".join(["Mira Sand"] * 6))]
    editor = quick_editor("llama", "chatml", edits, threshold=-1.0, value_tokens=4, max_steps=60, learning_rate=0.5)
    cache = StaticCache(config=editor.model.config, max_cache_len=128) if static else None
    options = {"max_new_tokens": 20}
    one = going_on(editor, first := chat_ids("Hello"), len(first), cache)
    asked, before = chat_ids("x", "x", "It is blue"), chat_ids("x", "x", answer=False)
    grown = [*one.sequences[0].tolist(), *asked[len(before) - 2 :]]
    expected = going_on(editor, grown, len(grown), **options).sequences[0, len(grown) :]
    new = grown[int(past_of(one).get_seq_length()) :]
    two = going_on(editor, new, len(grown), past_of(one), **options)
    assert torch.equal(two.sequences[0, len(new) :], expected)


@every_family
def test_a_cache_goes_by_every_name(family: str):
    """An answer on a cache is the answer without one, whatever the layers call it."""
    editor = editor_of(family)
    rows = [ids_of(EDITED), ids_of(PROMPTS[2])]
    kept = generated(editor, rows)
    assert torch.equal(kept, generated(editor, rows, use_cache=False))
    with editor.disabled():
        assert not torch.equal(kept, generated(editor, rows))
    layer = editor._session.adapter.layout.layers[0]
    assert {"cache", "layer_past", "past_key_values"} & set(inspect.signature(layer.forward).parameters)


@every_family
def test_guesses_behind_the_prompt(family: str, monkeypatch: pytest.MonkeyPatch):
    """With prompt lookup the first call holds the prompt and guesses of what follows it."""
    text = f"{EDITED} Rome. {OTHER}. {EDITED}"
    editor = editor_of(family, [Edit(text, "Rome")])
    ids = ids_of(text)
    expected = generated(editor, [ids], use_cache=True)
    seen: list[int] = []
    hook = editor.model.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    with counted(editor, monkeypatch) as calls:
        found = generated(editor, [ids], prompt_lookup_num_tokens=3, max_matching_ngram_size=2)
    hook.remove()
    assert seen[0] > len(ids)
    assert calls == [1]
    assert torch.equal(found, expected)
    with editor.disabled():
        assert not torch.equal(generated(editor, [ids]), expected)
    assert padded([ids], left=True)["input_ids"].shape[1] == len(ids)
