from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen import ConfigError, HorenConfig
from horen.config import (
    GATE_SETTINGS,
    KEY_SETTINGS,
    RECALL_SETTINGS,
    SEARCH_SETTINGS,
    SITES,
    VALUE_SETTINGS,
    parse_sites,
    resolve_layer,
)
from horen.memory import Gate, KeyStorage

FIELDS = {field.name: field for field in dataclasses.fields(HorenConfig)}
KINDS = get_type_hints(HorenConfig)
NUMBERS = [name for name in FIELDS if KINDS[name] in {int, float}]
CHOICES = [name for name, field in FIELDS.items() if "choices" in field.metadata]


def refused(name: str, value: Any) -> None:
    """The value is refused with the setting's name, the value itself and its meaning; by every way of making one."""
    for make in (
        lambda: HorenConfig(**{name: value}),
        lambda: HorenConfig.from_dict({name: value}),
        lambda: HorenConfig.from_preset("paper", **{name: value}),
        lambda: HorenConfig().replace(**{name: value}),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        message = str(caught.value)
        assert message.startswith(f"{name}=")
        assert "expected" in message
        assert FIELDS[name].metadata["help"] in message


def allowed(name: str) -> st.SearchStrategy[Any]:
    limits, kind = FIELDS[name].metadata, KINDS[name]
    if name == "recall":
        return st.just("off")  # another asks for a judge: see below
    if "choices" in limits:
        return st.sampled_from(limits["choices"])
    if kind is bool:
        return st.booleans()
    if name == "read_sites":
        place = st.tuples(st.sampled_from(SITES), st.floats(0, 1, exclude_max=True) | st.integers(0, 200))
        return st.lists(place, min_size=1, max_size=4, unique=True).map(
            lambda places: "+".join(f"{site}@{layer}" for site, layer in places)
        )
    if kind is str:
        return st.text()
    if limits.get("layer"):
        return st.floats(0, 1, exclude_max=True) | st.integers(0, 200)
    low, high = limits.get("low", -1000), limits.get("high", 1000)
    open_low = bool(limits.get("open_low"))
    if kind is int:
        return st.integers(math.floor(low) + open_low, high)
    return st.floats(low, high, exclude_min=open_low)


@given(st.fixed_dictionaries({}, optional={name: allowed(name) for name in FIELDS}))
def test_what_is_allowed_is_taken_and_kept(settings: dict[str, Any]):
    config = HorenConfig(**settings)
    for name, value in settings.items():
        assert getattr(config, name) == value
        assert type(getattr(config, name)) is KINDS[name]
    assert HorenConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.replace() == config
    assert hash(config) == hash(dataclasses.replace(config))


@given(st.sampled_from(NUMBERS), st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6))
def test_numbers_out_of_range(name: str, value: float):
    limits = FIELDS[name].metadata
    low, high = limits.get("low", -math.inf), limits.get("high", math.inf)
    if limits.get("layer"):
        fine = 0 <= value <= 1 or (value > 1 and value == int(value))
    else:
        fine = low <= value <= high and not (limits.get("open_low") and value == low)
        fine = fine and (KINDS[name] is float or value == int(value))
    if fine:
        assert getattr(HorenConfig(**{name: value}), name) == value
    else:
        refused(name, value)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["1", None, [1], True, False, math.nan, math.inf, -math.inf, 1j, {}], ids=repr)
def test_what_is_no_number(name: str, value: Any):
    refused(name, value)


def test_numbers_beyond_every_float():
    for name in NUMBERS:
        for value in (10**400, -(10**400)):
            refused(name, value)


@pytest.mark.parametrize("name", [name for name in NUMBERS if KINDS[name] is int])
@pytest.mark.parametrize("value", [1.5, 2.0001])
def test_what_is_no_whole_number(name: str, value: float):
    refused(name, value)


@pytest.mark.parametrize("name", CHOICES)
@given(value=st.text() | st.none() | st.integers() | st.booleans())
def test_what_is_no_choice(name: str, value: Any):
    choices = FIELDS[name].metadata["choices"]
    if value in choices:
        return
    refused(name, value)


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_listed(name: str):
    with pytest.raises(ConfigError, match=r", ".join(FIELDS[name].metadata["choices"])):
        HorenConfig(**{name: "other"})


@pytest.mark.parametrize("name", [name for name in FIELDS if KINDS[name] is bool])
@pytest.mark.parametrize("value", [0, 1, "true", None, 1.0])
def test_what_is_no_truth_value(name: str, value: Any):
    refused(name, value)


@pytest.mark.parametrize("value", [5, None, ["default"], True])
def test_a_preset_name_that_is_no_text(value: Any):
    refused("preset", value)


@pytest.mark.parametrize("make", [HorenConfig.from_dict, HorenConfig().replace])
def test_unknown_settings(make: Any):
    take = (lambda **settings: make(settings)) if make == HorenConfig.from_dict else make
    with pytest.raises(ConfigError, match=r"Unknown setting 'treshold': did you mean 'threshold'\?"):
        take(treshold=0.5)
    with pytest.raises(ConfigError, match=r"Unknown setting 'zzz': the settings are .*threshold"):
        take(zzz=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto@0.1", [("auto", 0.1)]),
        ("mlp_hidden@3 + layer_output@0.03", [("mlp_hidden", 3.0), ("layer_output", 0.03)]),
        ("mlp_input@1+mlp_output@1", [("mlp_input", 1.0), ("mlp_output", 1.0)]),
    ],
)
def test_sites_are_read(text: str, expected: list[tuple[str, float]]):
    assert parse_sites(text) == expected
    assert HorenConfig(read_sites=text).read_sites == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "auto", "@1", "mlp@1", "auto@", "auto@x", "auto@-1", "auto@1.5", "auto@nan", "auto@inf", "auto@1e400"),
        *("auto@1+", "auto@1+auto@1", "auto@1,mlp_input@2"),
        *("text@1", "text+auto@1", "auto@1+text", "text+text", "texts"),
    ],
)
def test_what_is_no_site(text: str):
    with pytest.raises(ConfigError, match=r"^read_sites=.*expected different site@layer joined by \+"):
        HorenConfig(read_sites=text)


def test_a_text_encoder_reads_alone():
    config = HorenConfig(read_sites="text")
    assert config.reads_text
    assert not config.weighs_tokens
    assert config.encoder == "all-minilm-l6-v2"
    assert not HorenConfig.from_preset("activations").reads_text
    assert HorenConfig.from_preset("activations").weighs_tokens


def test_a_judge_decides_where_text_is_read_unless_a_space_is_named():
    assert HorenConfig().judges
    assert not HorenConfig().whitens
    assert not HorenConfig(key_space="raw").judges
    assert HorenConfig.from_preset("text").whitens
    assert not HorenConfig.from_preset("text").judges
    assert HorenConfig(read_sites="auto@0.1").whitens
    assert not HorenConfig(read_sites="auto@0.1").judges


def test_a_value_is_shared_by_cosine_whatever_decides_what_fires():
    assert HorenConfig(threshold=0.3).sharing_threshold == 0.8
    assert HorenConfig.from_preset("activations", threshold=0.3).sharing_threshold == 0.3


def test_settings_of_values_and_those_of_keys():
    values = HorenConfig().of_values()
    assert {"write_layer", "max_steps", "value", "contexts", "start", "optimizer"} <= values.keys()
    assert values.keys().isdisjoint({"preset", "read_sites", "encoder", "scope", *GATE_SETTINGS})
    assert HorenConfig.from_preset("text").of_values() == values


def test_every_setting_is_of_keys_of_the_gate_or_of_values():
    assert {*KEY_SETTINGS, *GATE_SETTINGS, *VALUE_SETTINGS, *SEARCH_SETTINGS, *RECALL_SETTINGS} == set(FIELDS) - {
        "preset",
        "key_storage",
        "similar_threshold",
    }
    assert HorenConfig(margin=0.3, beta=7.0).retrieval() == Gate(
        contrast=0.4, neighbours=8, alpha=0.1, beta=7.0, steps=1, epsilon=1e-5, threshold=0.5, margin=0.3
    )


@pytest.mark.parametrize("other", [{"read_sites": "auto@0.1"}, {"key_space": "raw"}, {"key_space": "whitened"}])
def test_recall_asks_for_a_judge(other: dict[str, Any]):
    assert HorenConfig(recall="related").judges
    for make in (HorenConfig, HorenConfig(recall="related").replace, HorenConfig(**other).replace):
        with pytest.raises(ConfigError, match=r"^recall='related' is not valid .* expected settings with a judge"):
            make(recall="related", **other)
    assert HorenConfig(recall="off", **other) == HorenConfig(**other)


def test_keys_are_stored_as_integers_but_for_the_published_recipe_and_what_does_not_say():
    assert HorenConfig().of_keys() == HorenConfig.from_preset("activations").of_keys() == KeyStorage("int8")
    assert HorenConfig.paper().key_storage == "float32"
    for config in (HorenConfig(), HorenConfig.paper()):
        assert HorenConfig.from_saved(config.to_saved()) == config
    assert "key_storage" not in HorenConfig.paper().to_saved()
    old = HorenConfig.from_saved({})
    assert (old.key_storage, old.value_storage) == ("float32", "float32")
    assert HorenConfig(key_storage="float32").of_edits() != HorenConfig().of_edits()
    with pytest.raises(ConfigError, match=r"key_storage='int4' is not valid: expected one of float32, int8"):
        HorenConfig(key_storage="int4")


def test_settings_of_recall_are_of_no_edit():
    assert HorenConfig(recall="related", recall_tokens=99).of_edits() == HorenConfig().of_edits()
    assert HorenConfig(threshold=0.6).of_edits() != HorenConfig().of_edits()


def test_settings_saved_by_the_first_version():
    new = ("read_sites", "encoder", "read_weight", "feature_power", "contrast", "neighbours")
    before = HorenConfig.from_preset("activations", threshold=0.6)
    saved = {name: value for name, value in before.to_dict().items() if name not in new}
    config = HorenConfig.from_saved(saved | {"read_layer": 0.3, "read_site": "mlp_input"})
    assert config == before.replace(read_sites="mlp_input@0.3", read_weight="equal", feature_power=1.0, contrast=0.0)
    assert HorenConfig.from_saved(config.to_dict()) == config


def test_presets():
    assert HorenConfig.from_preset("default") == HorenConfig()
    assert HorenConfig.from_preset("paper") == HorenConfig.paper()
    assert HorenConfig.from_preset("text").read_sites == "text"
    assert HorenConfig.from_preset("paper", threshold=0.3) == HorenConfig.paper(threshold=0.3)
    assert HorenConfig.paper().preset == "paper"
    assert HorenConfig.paper().replace(threshold=0.3).preset == "paper"
    with pytest.raises(ConfigError, match=r"Unknown preset 'papper': use 'default' or 'activations' or 'paper'"):
        HorenConfig.from_preset("papper")
    with pytest.raises(ConfigError, match="treshold"):
        HorenConfig.from_preset("paper", treshold=1)


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        HorenConfig().threshold = 0.1  # type: ignore[misc]


def test_every_setting_has_a_meaning():
    assert all(field.metadata["help"].strip() for field in FIELDS.values())


def test_every_setting_is_described():
    told = {item.name: item for item in HorenConfig.describe()}
    assert list(told) == list(FIELDS)
    for name, item in told.items():
        assert item.value == item.default == FIELDS[name].default
        assert item.help == FIELDS[name].metadata["help"]
        assert bool(item.decides) == (name != "preset")
    gates = {item.name for item in told.values() if item.decides == "when an edit fires"}
    assert gates == set(GATE_SETTINGS)


@pytest.mark.parametrize("preset", HorenConfig.presets)
def test_a_preset_is_described_by_its_values(preset: str):
    values = HorenConfig.from_preset(preset).to_dict()
    assert {item.name: item.value for item in HorenConfig.describe(preset)} == values
    assert {item.name: item.default for item in HorenConfig.describe(preset)} == HorenConfig().to_dict()


def test_an_unknown_preset_is_not_described():
    with pytest.raises(ConfigError, match=r"Unknown preset 'papper'"):
        HorenConfig.describe("papper")


@pytest.mark.parametrize("name", [name for name in NUMBERS if {"low", "layer"} & FIELDS[name].metadata.keys()])
def test_what_is_described_as_allowed_is_what_a_refusal_says(name: str):
    allowed = {item.name: item.allowed for item in HorenConfig.describe()}[name]
    with pytest.raises(ConfigError) as caught:
        HorenConfig(**{name: -5})
    assert f"expected {allowed} (" in str(caught.value)


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_every_depth_names_a_layer(count: int, depth: float):
    assert 0 <= resolve_layer(depth, count, "read_layer") < count
