"""Methods on tiny models, a sentence encoder of hashed words, and asking through the interface alone."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from horen import Edit
from horen.editors import METHODS, open_method
from horen.editors.interface import Method
from horen.editors.mend import MendTraining, train_network
from horen.model.fingerprint import fingerprint
from horen.model.layout import Layout
from support.editors import CAREFUL, EDITED, GREEDY, PROMPTS, QUICK, padded
from support.tiny_models import taught_model, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

FAMILIES = ("llama", "gpt2", "gemma3", "opt", "mixtral")
# Methods that send a prompt to an edit and leave others as they are, bit for bit; the rest change weights.
ROUTING = ("horen", "cosine", "grace", "retrieval", "ike")
# Methods that change no weights either, but whose gate is trained: it may err on prompts that it was not trained on.
GATED = ("wise", "defer")
each_method = pytest.mark.parametrize("name", METHODS)
each_editing = pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
each_routing = pytest.mark.parametrize("name", ROUTING)
each_family = pytest.mark.parametrize("family", FAMILIES)
# Methods that know of a model what another one's class knows, or nothing: one family does for them.
TWINS = {"none", "cosine", "alphaedit", "ike"}
each_method_of_each_family = pytest.mark.parametrize(
    ("name", "family"),
    [(name, family) for family in FAMILIES for name in METHODS if family == FAMILIES[0] or name not in TWINS],
)
LOCATING = ("rome", "memit", "alphaedit")
# Methods that need one down projection in a layer, which a mixture of experts has not.
DENSE = (*LOCATING, "ft", "ultraedit", "mend", "wise")
NEW = 5
EDITS = (Edit(EDITED, "Rome"), Edit("Who wrote Hamlet?", "Mira Sand"))

_LOCATED = {"prefixes": 1, "max_steps": 2, "stop_probability": 1.0, "precision": "model", "tokens": 300}

# One coarse step, which changes every answer, and enough training for an edit to hold on the taught model.
QUICKLY: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "horen": QUICK,
    "cosine": QUICK,
    "grace": {
        "layer": 1,
        "max_steps": 1,
        "learning_rate": 5.0,
        "learning_rate_unit": "absolute",
        "stop_probability": 1.0,
        "precision": "model",
    },
    "ft": {"layer": 1, "max_steps": 1, "learning_rate": 1.0, "norm": 0.0, "stop_loss": 0.0},
    "lora": {"targets": "attention", "rank": 2, "max_steps": 1, "learning_rate": 0.5, "stop_loss": 0.0},
    "rome": _LOCATED | {"layer": 1},
    "memit": _LOCATED | {"first_layer": 1, "last_layer": 1},
    "alphaedit": _LOCATED | {"first_layer": 1, "last_layer": 1},
    "wise": {"layer": 1, "max_steps": 15, "irrelevant": 64, "alpha": 0.0, "beta": 2.0, "gamma": 2.0},
    "defer": {"layer": 1, "max_steps": 15, "irrelevant": 64},
    "retrieval": {"threshold": 0.9},
    "ultraedit": {"first_layer": 1, "last_layer": 2, "learning_rate": 1e-3},
    "mend": {},
    "ike": {"threshold": 0.9, "count": 3},
    "unke": {
        "layer": 1,
        "max_steps": 1,
        "learning_rate": 5.0,
        "learning_rate_unit": "absolute",
        "stop_probability": 1.0,
        "precision": "model",
        "weight_steps": 2,
        "weight_rate": 0.05,
        "preserve_count": 2,
    },
}
CAREFULLY: dict[str, dict[str, Any]] = {
    "horen": dict(CAREFUL),
    "cosine": dict(CAREFUL),
    "grace": {"layer": 0, "precision": "model"},
    "ft": {"layer": 1, "max_steps": 200, "learning_rate": 0.05, "norm": 0.0},
    "lora": {"max_steps": 200, "learning_rate": 0.01},
    "wise": {"layer": 0, "max_steps": 200, "irrelevant": 64},
    "defer": {"layer": 0, "irrelevant": 64},
    "unke": {
        "layer": 1,
        "precision": "model",
        "max_steps": 150,
        "weight_steps": 60,
        "weight_rate": 0.01,
        "preserve_count": 2,
    },
    # On so small a model four times an activation's length is too short for some answers.
} | {name: {"tokens": 1500, "precision": "model", "max_norm": 20.0, "max_steps": 100} for name in LOCATING}
CAREFULLY["alphaedit"]["threshold"] = 10.0


def encoder(texts: list[str]) -> Tensor:
    """A bag of hashed words, [n, 256] unit rows."""
    rows = torch.zeros(len(texts), 256)
    for row, text in zip(rows, texts, strict=True):
        for word in text.lower().split():
            row[hashlib.sha256(word.encode()).digest()[0]] += 1
    return normalize(rows, dim=-1)


_networks = tempfile.TemporaryDirectory()


def needed(name: str, model: PreTrainedModel) -> dict[str, Any]:
    """Settings without which a method cannot be opened on a model."""
    if name != "mend":
        return {}
    place = Path(_networks.name) / hashlib.sha256(json.dumps(fingerprint(model)).encode()).hexdigest()
    training = MendTraining(blocks=2, rank=4, steps=0, step_size=0.05)
    train_network(model, tiny_tokenizer(), [], training, place)
    return {"network": str(place)}


def opened(name: str, model: PreTrainedModel | None = None, *, family: str = "llama", **settings: Any) -> Method:
    """A quickly trained method on a random model."""
    model = model or tiny_model(family)
    if name in DENSE and Layout.of(model).down_projection(1) is None:
        pytest.skip(f"{name} refuses a mixture of experts")
    changes = dict(QUICKLY[name]) | needed(name, model) | settings
    return open_method(name, model, tiny_tokenizer(), settings=changes, encoder=encoder)


def taught(name: str, **settings: Any) -> Method:
    """A method that trains its edits until they hold, on the taught model."""
    return open_method(name, taught_model(), tiny_tokenizer(), settings=dict(CAREFULLY[name]) | settings)


def prompt_logits(method: Method, prompt: str) -> Tensor:
    """Logits of what the method feeds for a prompt, [length, vocabulary]."""
    (row,) = method.rows([prompt])
    with method.boundary(len(row)), torch.no_grad():
        found: Tensor = method.model(input_ids=torch.tensor([row])).logits[0]
    return found


def fed(method: Method) -> list[Any]:
    """What the method makes of ``PROMPTS``: rows, and the model's logits for them."""
    return [*method.rows(PROMPTS), *(prompt_logits(method, prompt) for prompt in PROMPTS)]


def same(one: Sequence[Any], two: Sequence[Any]) -> bool:
    """Whether two results of :func:`fed` are equal, bit for bit."""
    return all(a == b if isinstance(a, list) else torch.equal(a, b) for a, b in zip(one, two, strict=True))


def forced_logits(method: Method, prompt: str, answer: Sequence[int]) -> Tensor:
    """Logits at the prompt's last token and at the answer's, fed together."""
    (row,) = method.rows([prompt])
    with method.boundary(len(row)), torch.no_grad():
        found: Tensor = method.model(input_ids=torch.tensor([[*row, *answer]])).logits[0]
    return found[len(row) - 1 :]


def answers(method: Method, prompts: Sequence[str], *, left: bool = True, **options: Any) -> list[list[int]]:
    """New token ids of each prompt, generated greedily in one padded batch."""
    inputs = padded(method.rows(prompts), left=left)
    width = inputs["input_ids"].shape[1]
    with method.boundary(width), torch.no_grad():
        produced: Any = method.model.generate(**inputs, **(GREEDY | {"max_new_tokens": NEW} | options))
    return [row[width:].tolist() for row in produced]


def texts(method: Method, prompts: Sequence[str]) -> list[str]:
    """Answers as words, ended where the model ends them."""
    ends = tiny_tokenizer().eos_token_id
    found = answers(method, prompts, eos_token_id=ends, max_new_tokens=12)
    return [str(tiny_tokenizer().decode(row, skip_special_tokens=True)).strip() for row in found]
