"""Calibrating tiny random models: what is chosen and promised, interruptions, the folder, and editors that use it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from horen import ConfigError, Edit, Editor, HorenConfig, MismatchError, StoreError
from horen.calibration import features as reading
from horen.calibration.guarantee import upper_bound
from horen.calibration.judged import certify, held_back
from horen.calibration.material import Fact, Material, Trial
from horen.calibration.run import Wanted, calibrate, check_sizes
from horen.model.zoo.embedded import EMBEDDED
from horen.store.calibration import SETTINGS, Calibration, shipped
from support.scopes import save_scope
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

SITES = "layer_output@0.01+mlp_hidden@0.3"
NAMES = ("Toko Yasuda", "Danielle Darrieux", "Mira Sand", "Hamlet", "France", "Spain", "Oslo", "Rome")


def trial(start: int, ask: str) -> Trial:
    facts = tuple(
        Fact(f"{ask} {name} {number}?", (f"Tell me {ask} {name} {number}", f"{name} {number}: {ask}"))
        for number in range(start, start + 4)
        for name in NAMES
    )
    numbers = range(start, start + 9)
    far = tuple(("unrelated", f"Seven green boats {number} {name}") for number in numbers for name in NAMES)
    near = tuple(("neighbour", f"{ask} {name} {number + 50}?") for number in numbers[:4] for name in NAMES)
    return Trial(facts, (*far, *near))


@pytest.fixture(scope="module")
def material() -> Material:
    fitted = trial(100, "When is")
    return Material(
        groups=tuple((fact.prompt, *fact.rephrases) for fact in fitted.facts),
        background=tuple(text for _, text in fitted.negatives),
        choose=trial(200, "Who is"),
        certify=trial(300, "Where is"),
    )


@pytest.fixture(scope="module")
def wanted() -> Wanted:
    return Wanted({"unrelated": 0.05}, sites=SITES)


@pytest.fixture(scope="module")
def calibration(material: Material, wanted: Wanted, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return calibrate(tiny_model(), tiny_tokenizer(), material, wanted, cache=tmp_path_factory.mktemp("cache"))


def test_what_is_promised_is_what_was_counted(calibration: Calibration, material: Material):
    assert set(calibration.settings) == set(SETTINGS)
    by_kind = {item.kind: item for item in calibration.guarantees}
    far, near = by_kind["unrelated"], by_kind["neighbour"]
    assert (far.held, near.held) == (True, False)
    assert far.negatives == sum(kind == "unrelated" for kind, _ in material.certify.negatives)
    assert far.certified == calibration.settings["threshold"]
    assert far.bound == pytest.approx(upper_bound(round(far.fires * far.negatives), far.negatives, 0.95))
    assert far.bound <= far.rate == 0.05
    assert far.certified_generalization is not None
    assert far.certified_generalization <= far.empirical_generalization
    assert calibration.report["generalization"] == far.certified_generalization
    assert near.certified is None  # 32 prompts cannot promise 5 %


def test_the_best_objective_of_each_kind_of_setting_was_taken(calibration: Calibration):
    tried = calibration.report["tried"]
    assert {item["weight"] for item in tried} == {"rare", "equal"}
    assert {len(item["sites"]) for item in tried} == {1, 2}
    chosen = [
        item["objective"]
        for item in tried
        if "+".join(item["sites"]) == calibration.settings["read_sites"]
        and all(item[name] == calibration.settings[name] for name in ("contrast", "alpha", "beta", "steps"))
        and item["power"] == calibration.settings["feature_power"]
    ]
    assert max(chosen) >= tried[0]["objective"]


def test_a_model_is_left_as_it_was(material: Material, wanted: Wanted, tmp_path: Path):
    model = tiny_model()
    calibrate(model, tiny_tokenizer(), material, wanted, cache=tmp_path)
    Editor(model, tiny_tokenizer()).unwrap()  # a wrapped one would refuse


def test_an_interrupted_reading_goes_on(
    material: Material, wanted: Wanted, tmp_path: Path, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reading, "_SHARD", 64)
    seen: list[int] = []

    def interrupt(phase: str, done: int, _total: int) -> None:
        if phase == "reading":
            seen.append(done)
            if done >= 128:
                raise KeyboardInterrupt

    model = tiny_model()
    with pytest.raises(KeyboardInterrupt):
        calibrate(model, tiny_tokenizer(), material, wanted, cache=tmp_path, progress=interrupt)
    before = {place: place.stat().st_mtime_ns for place in tmp_path.iterdir()}
    assert len(before) == 2
    again = calibrate(model, tiny_tokenizer(), material, wanted, cache=tmp_path)
    assert {place: place.stat().st_mtime_ns for place in before} == before
    assert again.settings == pytest.approx(dict(calibration.settings), abs=1e-4)  # other batches round otherwise
    reading.discard(tmp_path)
    assert not tmp_path.exists()


def test_a_damaged_shard_is_read_anew(material: Material, wanted: Wanted, tmp_path: Path, calibration: Calibration):
    calibrate(tiny_model(), tiny_tokenizer(), material, wanted, cache=tmp_path)
    shard = next(tmp_path.iterdir())
    shard.write_bytes(shard.read_bytes()[:100])
    again = calibrate(tiny_model(), tiny_tokenizer(), material, wanted, cache=tmp_path)
    assert again.settings == pytest.approx(dict(calibration.settings), abs=1e-4)  # threads round otherwise


def test_saved_and_loaded(calibration: Calibration, tmp_path: Path):
    calibration.save(tmp_path / "calibration")
    calibration.save(tmp_path / "calibration")
    assert len(list((tmp_path / "calibration").iterdir())) == 2
    lines = (tmp_path / "calibration" / "calibration.json").read_text().splitlines()
    assert sum('"objective"' in line for line in lines) == len(calibration.report["tried"])
    assert len(lines) < 150
    again = Calibration.load(tmp_path / "calibration")
    assert again.settings == calibration.settings
    assert again.guarantees == calibration.guarantees
    assert again.report == json.loads(json.dumps(calibration.report))
    rows = torch.randn(5, len(calibration.space.mean), generator=torch.Generator().manual_seed(0))
    cosines = (again.space(rows) * calibration.space(rows)).sum(-1)
    assert torch.all(cosines > 0.9999)


@pytest.fixture
def folder(calibration: Calibration, tmp_path: Path) -> Iterator[Path]:
    calibration.save(tmp_path / "calibration")
    return tmp_path / "calibration"


def test_damaged_folders_are_refused(folder: Path, tmp_path: Path):
    with pytest.raises(StoreError, match="holds no calibration"):
        Calibration.load(tmp_path / "nowhere")
    (tensors,) = folder.glob("*.safetensors")
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-1])
    with pytest.raises(StoreError, match="altered or truncated"):
        Calibration.load(folder)
    tensors.write_bytes(whole)
    document = json.loads((folder / "calibration.json").read_text())
    (folder / "calibration.json").write_text(json.dumps(document | {"format": 99}))
    with pytest.raises(MismatchError, match="newer horen"):
        Calibration.load(folder)
    document["settings"].pop("threshold")
    (folder / "calibration.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match="no usable calibration"):
        Calibration.load(folder)


def test_an_editor_uses_it_and_saves_it_with_its_codebook(folder: Path, calibration: Calibration, tmp_path: Path):
    editor = Editor(tiny_model(), tiny_tokenizer(), HorenConfig(max_steps=3), calibration=folder)
    assert editor.config.threshold == calibration.settings["threshold"]
    assert editor.config.max_steps == 3
    editor.edit(Edit("Who is Toko Yasuda?", "Rome"))
    explained = editor.explain("Toko Yasuda, who is that?")
    editor.save(tmp_path / "facts")
    editor.unwrap()
    again = Editor.load(tmp_path / "facts", tiny_model(), tiny_tokenizer())
    assert again.config == editor.config
    assert again.explain("Toko Yasuda, who is that?") == explained


@pytest.mark.parametrize("name", shipped())
def test_what_comes_with_the_package_is_whole_and_for_an_embedded_model(name: str):
    found = Calibration.load(name)
    assert found.source == name
    assert name in EMBEDDED
    assert found.space.dimension == found.settings["key_dimension"]
    far = next(item for item in found.guarantees if item.kind == "unrelated")
    assert far.held
    assert far.bound <= far.rate == 0.01
    with pytest.raises(MismatchError, match="another model"):
        Editor(tiny_model(), tiny_tokenizer(), calibration=name)


def test_it_is_for_one_model(folder: Path):
    with pytest.raises(MismatchError, match="another model"):
        Editor(tiny_model("gpt2"), tiny_tokenizer(), calibration=folder)


def test_a_gate_may_be_changed_and_a_key_space_may_not(calibration: Calibration):
    changed = calibration.with_gate(threshold=0.9)
    assert changed.settings["threshold"] == 0.9
    assert changed.guarantees == ()
    with pytest.raises(ConfigError, match="fitted with it"):
        calibration.with_gate(feature_power=1.0)
    with pytest.raises(ConfigError, match="no setting of a calibration"):
        calibration.with_gate(max_steps=1)


def test_rates_that_cannot_be(material: Material, tmp_path: Path):
    with pytest.raises(ConfigError, match="32 neighbour prompts cannot certify"):
        calibrate(
            tiny_model(), tiny_tokenizer(), material, Wanted({"neighbour": 0.01}, sites=SITES), cache=tmp_path / "c"
        )
    assert not (tmp_path / "c").exists()
    for rates in ({}, {"unknown": 0.1}, {"unrelated": 0.0}, {"unrelated": 1.0}):
        with pytest.raises(ConfigError, match="rate"):
            Wanted(rates)
    with pytest.raises(ConfigError, match="confidence"):
        Wanted(confidence=1.0)


@pytest.fixture(scope="module")
def scope(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scope(tmp_path_factory.mktemp("scope"))


@pytest.fixture(scope="module")
def judged(scope: Path) -> Calibration:
    wanted = Wanted({"unrelated": 0.05}, base=HorenConfig(encoder=str(scope)))
    return certify(tiny_model(), tiny_tokenizer(), trial(400, "Who is"), wanted)


def test_a_judge_has_its_threshold_certified_and_nothing_else_changed(judged: Calibration, scope: Path):
    far, near = judged.guarantees
    assert (far.kind, far.held, near.kind, near.held) == ("unrelated", True, "neighbour", False)
    assert far.bound <= far.rate
    assert judged.settings["threshold"] == far.certified
    assert judged.report["edits"] == len(trial(400, "Who is").facts)
    assert judged.report["generalization"] > 0  # this judge goes by words in common
    own = HorenConfig(encoder=str(scope))
    assert {name: v for name, v in judged.settings.items() if name != "threshold"} == {
        name: getattr(own, name) for name in SETTINGS if name != "threshold"
    }


def test_an_editor_uses_a_certified_judge(judged: Calibration, scope: Path, tmp_path: Path):
    judged.save(tmp_path / "calibration")
    read = Calibration.load(tmp_path / "calibration", encoder=scope)
    assert read.encoder == judged.encoder is not None
    edits = [Edit("Who is Mira Sand 7?", "Rome")]
    one = Editor(tiny_model(), tiny_tokenizer(), HorenConfig(max_steps=1), calibration=read)
    two = Editor(tiny_model(), tiny_tokenizer(), HorenConfig(max_steps=1, encoder=str(scope)))
    for editor in (one, two):
        editor.edit(edits)
    asked = "Mira Sand 7 is who?"
    assert one.explain(asked).score == pytest.approx(two.explain(asked).score)
    assert one.config.threshold == judged.settings["threshold"]


def test_a_calibration_with_another_encoder_is_refused(judged: Calibration, tmp_path: Path):
    other = save_scope(tmp_path / "other", seed=3)
    moved = dataclasses.replace(judged, settings={**judged.settings, "encoder": str(other)})
    with pytest.raises(MismatchError, match="with another text encoder"):
        Editor(tiny_model(), tiny_tokenizer(), HorenConfig(), calibration=moved)


def test_what_cannot_be_certified_of_a_judge(scope: Path):
    asked = trial(400, "Who is")
    with pytest.raises(ConfigError, match="neighbour prompts cannot certify"):
        certify(
            tiny_model(), tiny_tokenizer(), asked, Wanted({"neighbour": 0.01}, base=HorenConfig(encoder=str(scope)))
        )
    with pytest.raises(ConfigError, match="not those of a gate that asks who and what"):
        certify(tiny_model(), tiny_tokenizer(), asked, Wanted())


def test_what_comes_with_the_package_has_every_kind_of_negative():
    asked = held_back()
    assert {kind for kind, _ in asked.negatives} == {"unrelated", "neighbour", "same_subject"}
    assert len(asked.facts) > 100
    check_sizes(asked, Wanted())  # what the command holds where nothing else is said
    assert all(fact.rephrases for fact in asked.facts)
    assert asked == held_back()
