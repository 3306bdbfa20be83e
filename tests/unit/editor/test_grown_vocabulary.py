"""Tokens that are added to a model after it was wrapped."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from horen import Edit, Editor, HorenConfig
from horen.model.pooling import for_vocabulary
from support.editors import EDITED, QUICK, REPHRASED
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

NEW = "Zorblax lives in"


@pytest.mark.parametrize("weight", ["rare", "equal"])
def test_tokens_that_were_added(weight: str, tmp_path: Path):
    tokenizer = copy.deepcopy(tiny_tokenizer())  # others use that one, as it is
    editor = Editor(tiny_model(), tokenizer, HorenConfig(**(dict(QUICK) | {"read_weight": weight})))
    editor.edit(Edit(EDITED, "Rome", (REPHRASED,)))
    model = editor.model
    before, score = editor.generate(EDITED), editor.explain(EDITED).score
    tokenizer.add_tokens(["Zorblax", "Quuxify"])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    assert len(tokenizer(NEW)["input_ids"]) < len(tokenizer("Zerblux lives in")["input_ids"])
    assert editor.generate([NEW, "Quuxify Zorblax"], 3)
    assert editor.generate(EDITED, 3) == before[: len(editor.generate(EDITED, 3))]
    assert editor.explain(EDITED).score == score
    editor.edit(Edit(NEW, "Rome"))
    assert editor.explain(NEW).fired
    answers = editor.generate([EDITED, NEW])
    editor.save(tmp_path / "edits")
    editor.unwrap()
    loaded = Editor.load(tmp_path / "edits", model, tokenizer)
    assert loaded.generate([EDITED, NEW]) == answers
    weights = loaded._session.token_weights
    if weight == "rare":
        assert weights is not None
        assert len(weights) == len(tokenizer)
        assert weights[-2:].tolist() == [1.0, 1.0] == [float(weights.max())] * 2
        assert len(for_vocabulary(weights, 7)) == 7
    else:
        assert weights is None
