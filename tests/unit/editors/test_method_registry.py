"""Opening methods by name."""

from __future__ import annotations

from typing import Any

import pytest
from method_support import encoder, needed

from horen import ConfigError
from horen.editors import METHODS, open_method
from horen.editors.common.locate import LocateMethod
from horen.editors.grace import Grace
from horen.editors.horen.method import CodebookMethod
from horen.editors.ike import Ike
from horen.editors.retrieval import Retrieval
from horen.editors.unke import Unke
from support.editors import QUICK
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer


def opened(name: str, **options: Any) -> Any:
    model = tiny_model()
    options["settings"] = options.get("settings") or needed(name, model)
    return open_method(name, model, tiny_tokenizer(), encoder=encoder, **options)


def test_every_method_has_a_description():
    assert list(METHODS) == [
        *("none", "horen", "cosine", "grace", "defer", "wise", "retrieval", "ike", "ft", "lora"),
        *("rome", "memit", "alphaedit", "ultraedit", "mend", "unke"),
    ]
    assert all(METHODS.values())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_presets(name: str, preset: str):
    method = opened(name, preset=preset)
    if isinstance(method, CodebookMethod):
        assert method.editor.config.preset == preset
        assert method.editor.config.steps == (0 if name == "cosine" else 1)
    if isinstance(method, Grace | LocateMethod | Ike | Unke):
        assert method.config.preset == preset


def test_settings_are_changes_to_the_preset():
    assert opened("horen", preset="paper", settings={"threshold": 0.9}).editor.config.threshold == 0.9
    assert opened("grace", settings={"eps_init": 3}).config.eps_init == 3.0
    assert opened("retrieval", settings={"threshold": 0.1}).config.threshold == 0.1
    assert opened("cosine", settings={**QUICK, "steps": 0}).editor.config.steps == 0


def test_cosine_differs_from_horen_in_the_hopfield_step_alone():
    horen, cosine = opened("horen", settings=QUICK).editor.config, opened("cosine", settings=QUICK).editor.config
    assert cosine == horen.replace(steps=0)


def test_the_seed_goes_to_what_is_drawn():
    method = opened("grace", seed=7)
    assert isinstance(method, Grace)
    assert method._seed == 7


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("grasp", {}, "Unknown method 'grasp': did you mean 'grace'"),
        ("zzz", {}, "Unknown method 'zzz': the methods are none, horen"),
        ("none", {"preset": "fast"}, "Unknown preset 'fast'"),
        ("horen", {"preset": "fast"}, "Unknown preset 'fast'"),
        ("none", {"settings": {"layer": 1}}, "Unknown setting 'layer': the settings are none"),
        ("grace", {"settings": {"epsilon_init": 1}}, "Unknown setting 'epsilon_init': did you mean 'eps_init'"),
        ("horen", {"settings": {"treshold": 1}}, "did you mean 'threshold'"),
        ("retrieval", {"settings": {"threshold": 2}}, "threshold=2 is not valid"),
        ("ike", {"settings": {"count": -1}}, "count=-1 is not valid: expected at least 0"),
        ("unke", {"settings": {"scope": "all"}}, "scope='all' is not valid: expected one of layer, mlp"),
        ("cosine", {"settings": {"steps": 1}}, "steps=1 is not valid"),
        ("ultraedit", {"settings": {"modules": "all"}}, "modules='all' is not valid: expected one of in, out, both"),
        ("ultraedit", {"settings": {"first_layer": 3, "last_layer": 2}}, "last_layer=2.* before first_layer=3"),
        (
            "mend",
            {"settings": {"network": ""}},
            "'mend' needs a trained network: make one with 'horen bench train-mend",
        ),
    ],
)
def test_what_cannot_be_opened(name: str, options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        opened(name, **options)


def test_retrieval_takes_the_encoder_it_is_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horen.editors.registry.load_encoder", lambda **_: encoder)
    assert isinstance(opened("retrieval"), Retrieval)
    method = open_method("retrieval", tiny_model(), tiny_tokenizer())
    assert isinstance(method, Retrieval)
    assert method._encoder is encoder
