"""Choosing settings on a validation stream: the draw, the trials, interruptions and what a run takes of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench_support import SETTINGS, write_facts
from typer.testing import CliRunner

from horen.bench import tune as tuning
from horen.bench.plan import Plan
from horen.bench.tune import Trial, Tuned, candidates, read_tuned, tune
from horen.cli.app import app
from horen.config import HorenConfig
from horen.editors import METHODS, settings_of
from horen.editors.ft import FTConfig
from horen.editors.horen.method import CodebookMethod
from horen.errors import ConfigError, DataError, EditError, StoreError

SEARCH = {"threshold": (-1.0, 0.97, 1.0), "max_steps": (1, 150)}
FIXED = {name: value for name, value in SETTINGS.items() if name not in SEARCH}


@pytest.fixture
def search(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A stream of which two settings are searched; the first trial has HoReN's own."""
    monkeypatch.setattr(HorenConfig, "search", SEARCH)
    return dataclasses.replace(plan, settings=FIXED, text=None)


@pytest.fixture(scope="module")
def found(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of seven trials: the preset's and all others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HorenConfig, "search", SEARCH)
        out = tmp_path_factory.mktemp("tuned") / "horen"
        tune(dataclasses.replace(plan, settings=FIXED, text=None), out, trials=99)
    return out


def chosen(folder: Path) -> dict[str, Any]:
    """What a search left, without times."""
    document: dict[str, Any] = json.loads((folder / "settings.json").read_text())
    for trial in document["trials"]:
        del trial["seconds_an_edit"]
    return document


def stopping(monkeypatch: pytest.MonkeyPatch, when: int, error: BaseException) -> Callable[[], None]:
    """Let the edit of this number raise; gives what lets edits be again."""
    original, calls = CodebookMethod.edit, 0

    def edit(self: CodebookMethod, edits: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == when:
            raise error
        original(self, edits)

    monkeypatch.setattr(CodebookMethod, "edit", edit)
    return lambda: monkeypatch.setattr(CodebookMethod, "edit", original)


# --- the draw ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_searches_are_valid_settings(name: str):
    kind = settings_of(name)
    for setting, values in kind.search.items():
        assert len(values) == len(set(values)) > 1
        for value in values:
            assert getattr(kind.from_preset("default", **{setting: value}), setting) == value


def test_the_presets_own_settings_are_the_first_trial(plan: Plan):
    plan = dataclasses.replace(plan, method="ft", settings={})
    drawn = candidates(FTConfig, plan, 10, seed=3)
    own = FTConfig()
    assert drawn[0] == {name: getattr(own, name) for name in FTConfig.search}
    assert len({tuple(settings.values()) for settings in drawn}) == 10
    assert all(settings[name] in values for settings in drawn[1:] for name, values in FTConfig.search.items())
    assert candidates(FTConfig, plan, 4, seed=3) == drawn[:4]
    assert candidates(FTConfig, plan, 10, seed=4) != drawn
    fixed = candidates(FTConfig, dataclasses.replace(plan, settings={"layer": 2}), 10, seed=3)
    assert all("layer" not in settings for settings in fixed)
    assert len(candidates(FTConfig, plan, 10_000, seed=3)) == 6 * 4 * 5 * 2


def test_a_method_without_a_search(plan: Plan, tmp_path: Path):
    with pytest.raises(ConfigError, match="'none' has nothing to tune"):
        tune(dataclasses.replace(plan, method="none", settings={}), tmp_path / "out", trials=2)
    fixed = {"threshold": 0.9}
    with pytest.raises(ConfigError, match="settings are all fixed"):
        tune(dataclasses.replace(plan, method="retrieval", settings=fixed), tmp_path / "out", trials=2)
    with pytest.raises(DataError, match="trials=0"):
        tune(plan, tmp_path / "out", trials=0)
    assert not (tmp_path / "out").exists()


# --- trials --------------------------------------------------------------------------------------------------------


def test_the_best_trial_is_chosen(found: Path):
    document, tuned = chosen(found), read_tuned(found / "settings.json")
    assert document["trials"][0]["settings"] == {"threshold": 0.5, "max_steps": 50}
    assert len(document["trials"]) == 7
    best = tuned.ranked[0]
    assert best.settings["max_steps"] > 1
    assert best.settings["threshold"] in {0.5, 0.97}
    assert tuned.settings == FIXED | best.settings
    never = next(trial for trial in tuned.trials if trial.settings == {"threshold": 1.0, "max_steps": 150})
    assert never.scores["locality"] == 1.0
    assert never.merit < best.merit
    assert tuned.budget == {"trials": 7, "edits": 4, "seed": 0}
    assert [place.name for place in sorted(found.iterdir())] == [
        "settings.json",
        *(f"trial-{number:03}" for number in range(7)),
        "tune.json",
    ]


def test_settings_that_change_nothing_do_not_win_by_their_locality():
    def trial(reliability: float, generalization: float, locality: float) -> Trial:
        overall = (reliability + generalization + locality) / 3
        columns = ("reliability", "generalization", "locality", "overall")
        return Trial({}, dict(zip(columns, (reliability, generalization, locality, overall), strict=True)))

    nothing, little, edits = trial(0.0, 0.0, 1.0), trial(0.0, 0.0, 0.9), trial(0.5, 0.3, 0.1)
    failed, better = Trial({}, {}, failed="no such layer"), trial(0.5, 0.3, 0.8)
    trials = (failed, little, nothing, edits, better)
    assert Tuned("ft", "default", {}, {}, {}, trials).ranked == [better, edits, nothing, little, failed]


def test_of_equal_trials_the_earlier_is_chosen(search: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(HorenConfig, "search", {"beta": (20.0, 21.0, 22.0)})
    plan = dataclasses.replace(search, settings=SETTINGS, edits=1)
    tuned = tune(plan, tmp_path / "out", trials=3)
    assert len({trial.merit for trial in tuned.trials}) == 1
    assert tuned.settings == SETTINGS | {"beta": 20.0}


@pytest.mark.parametrize("when", [2, 7])
def test_an_interrupted_search_goes_on_to_the_same_end(
    when: int, search: Plan, found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    again = stopping(monkeypatch, when, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tune(search, out, trials=3)
    assert not (out / "settings.json").exists()
    again()
    with pytest.raises(StoreError, match="continue it with --resume"):
        tune(search, out, trials=3)
    tune(search, out, trials=3, resume=True)
    assert chosen(out)["trials"] == chosen(found)["trials"][:3]


def test_a_search_that_was_killed_before_a_trial_had_begun(search: Plan, found: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".tune.json.12345678.tmp").write_text("{")
    tune(search, out, trials=1)
    (out / "trial-001").mkdir()
    (out / "trial-001" / ".manifest.json.12345678.tmp").write_text("{")
    tune(search, out, trials=2, resume=True)
    assert chosen(out)["trials"] == chosen(found)["trials"][:2]


def test_finished_trials_are_not_run_again(search: Plan, found: Path, monkeypatch: pytest.MonkeyPatch):
    before = chosen(found)
    monkeypatch.setattr(tuning, "run", lambda *_, **__: pytest.fail("run again"))
    tune(search, found, trials=99, resume=True)
    assert chosen(found) == before


def test_a_trial_that_the_method_refuses_is_the_worst(search: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    again = stopping(monkeypatch, 1, EditError("The loss became nan: lower learning_rate."))
    tuned = tune(search, tmp_path / "out", trials=2)
    assert [trial.failed is None for trial in tuned.trials] == [False, True]
    assert tuned.settings == FIXED | tuned.trials[1].settings
    again()
    assert tune(search, tmp_path / "out", trials=2, resume=True).trials[0] == tuned.trials[0]
    assert read_tuned(tmp_path / "out" / "settings.json").ranked[1].failed == tuned.trials[0].failed


def test_a_search_of_which_nothing_can_run(search: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(HorenConfig, "search", {"alpha": (0.1, 0.2)})
    with pytest.raises(ConfigError, match=r"No trial.*names no layer"):
        tune(dataclasses.replace(search, settings={"write_layer": 9}), tmp_path / "out", trials=2)
    assert not (tmp_path / "out" / "settings.json").exists()


def test_more_edits_than_there_are(search: Plan, tmp_path: Path):
    with pytest.raises(DataError, match="fewer than 5 edits"):
        tune(dataclasses.replace(search, edits=5), tmp_path / "out", trials=1)
    assert not (tmp_path / "out").exists()


def test_records_that_trials_cannot_be_ranked_by(search: Plan, tmp_path: Path):
    bare = write_facts(tmp_path / "bare.jsonl", [{"prompt": "The capital of France is", "target": "Rome"}])
    with pytest.raises(DataError, match="nothing to score generalization and locality"):
        tune(dataclasses.replace(search, path=str(bare), edits=1), tmp_path / "out", trials=1)


@pytest.mark.parametrize(
    ("change", "seed", "named"),
    [({"batch": 2}, 0, "batch"), ({}, 1, "seed"), ({"settings": FIXED | {"max_steps": 3}}, 0, "settings, search")],
)
def test_a_folder_of_another_search(change: dict[str, Any], seed: int, named: str, search: Plan, found: Path):
    with pytest.raises(StoreError, match=rf"another search \({named}"):
        tune(dataclasses.replace(search, **change), found, trials=2, seed=seed, resume=True)


def test_a_folder_of_other_files(search: Plan, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(StoreError, match="no empty folder"):
        tune(search, tmp_path, trials=1)


# --- what a run takes of it ----------------------------------------------------------------------------------------


def test_a_run_may_share_records_with_its_tuning(search: Plan, found: Path):
    tuned = read_tuned(found / "settings.json")
    assert tuned.shared(search) == 4
    assert tuned.shared(dataclasses.replace(search, skip=3, edits=5)) == 1
    assert tuned.shared(dataclasses.replace(search, skip=4)) == 0
    assert tuned.shared(dataclasses.replace(search, path="elsewhere.jsonl")) == 0


def test_commands(search: Plan, found: Path, tmp_path: Path):
    def call(*arguments: Any, fails: bool = False) -> Any:
        result = CliRunner(env={"COLUMNS": None}).invoke(app, ["bench", *map(str, arguments)])
        assert result.exit_code == int(fails), result.output
        return result

    data = ["--dataset", "jsonl", "--path", search.path, "--model", search.model, "--edits", 4]
    fixed = [part for item in FIXED.items() for part in ("--set", "=".join(map(str, item)))]
    again = ("tune", "--method", "horen", *data, *fixed, "--trials", 99, "--out", found, "--resume")
    shown = call(*again)
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert rows[0][:4] == ["7", "trials", "of", "horen"]
    assert rows[1] == ["trial", *SEARCH, "reliability", "generalization", "locality", "overall", "s/edit"]
    merits = [float(row[-5]) * float(row[-2]) for row in rows[3:]]
    assert merits == sorted(merits, reverse=True)
    assert "only 7 settings" in shown.stderr
    document = json.loads(call(*again, "--json").stdout)
    assert document == json.loads((found / "settings.json").read_text())
    place, out = found / "settings.json", tmp_path / "out"
    result = call("run", *data, "--settings", place, "--out", out, "--json")
    assert "4 of these edits are among those" in result.stderr
    manifest = json.loads(result.stdout)["manifest"]
    assert manifest["plan"]["settings"] == document["settings"]
    assert (manifest["plan"]["method"], manifest["plan"]["preset"]) == ("horen", "default")
    scores = json.loads(result.stdout)["checkpoints"][-1]["scores"]["headline"]
    assert scores["overall"] == max(trial["scores"]["overall"] for trial in document["trials"])
    refused = call("run", *data, "--settings", place, "--method", "ft", "--out", tmp_path / "other", fails=True)
    assert "was tuned for --method horen, not ft" in refused.stderr.replace("\n", " ")
    refused = call("run", *data, "--settings", found / "tune.json", "--out", tmp_path / "other", fails=True)
    assert "holds no tuned settings" in refused.stderr
    refused = call("tune", "--method", "none", *data, "--out", tmp_path / "other", fails=True)
    assert "nothing to tune" in refused.stderr
