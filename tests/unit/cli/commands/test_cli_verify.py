"""What verify proves, what it notices, and what its report keeps to itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_support import EDITS, Run

from horen import ConfigError, Edit, Editor, HorenConfig
from horen import verify as verifying
from horen.model.adapter import Adapter
from horen.model.logits import next_logits
from horen.model.zoo.loading import load_model
from horen.verify import Verification, checks, run, verify
from horen.verify.elsewhere import Job

QUICK = HorenConfig.from_preset("activations", key_space="raw", max_steps=2)


def outcomes(found: Verification) -> dict[str, str]:
    return {check.name: check.outcome for check in found.checks}


def detail(found: Verification, name: str) -> str:
    return next(check.detail for check in found.checks if check.name == name)


@pytest.fixture
def here_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer in the place of the other process, which takes seconds to start, where a test is about something else."""

    def answer(job: Job, _place: Path) -> tuple[list[torch.Tensor], list[str]]:
        editor = Editor.load(job.codebook, *load_model(job.model))
        rows = [list(editor.tokenizer(text)["input_ids"]) for text in job.prompts]
        return next_logits(editor.model, rows, 1), [editor.generate(text, job.budget) for text in job.asked]

    monkeypatch.setattr(run, "run_elsewhere", answer)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_codebook_is_proved_and_left_as_it_is(book: Path, run: Run):
    before = contents(book)
    result = run("verify", "--codebook", book, "--json")
    document = json.loads(result.stdout)
    found = {check["name"]: check["outcome"] for check in document["checks"]}
    assert list(found) == list(checks.TITLES)
    assert (result.exit_code, document["passed"]) == (0, True), document["checks"]
    assert set(found.values()) == {"pass"}
    assert contents(book) == before
    assert document["facts"]["edits"] == "3 of 3 of a codebook"


@pytest.mark.usefixtures("here_alone")
def test_table_and_report(book: Path, run: Run):
    result = run("verify", "--codebook", book)
    assert result.exit_code == 0
    assert result.stdout.count("PASS") == 2 * len(checks.TITLES)
    report = result.stdout.split("To paste into a bug report:")[1]
    assert f"torch: {torch.__version__}" in report
    assert "LlamaForCausalLM" in report
    assert "preset activations" in report
    for secret in (str(book), str(book.parent), str(Path.home()), *(e["prompt"] for e in EDITS)):
        assert secret not in report


@pytest.fixture
def proved(book: Path, here_alone: None) -> Callable[[], Verification]:  # noqa: ARG001
    return lambda: verify(codebook=book)


def test_undo_that_leaves_something(proved: Callable[[], Verification], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Editor, "undo", lambda _self: None)
    found = proved()
    assert outcomes(found)["undo"] == "fail"
    assert "differ, by up to" in detail(found, "undo")
    assert not found.passed
    assert [name for name, outcome in outcomes(found).items() if outcome != "pass"] == ["undo"]


def test_edits_that_are_not_disabled(proved: Callable[[], Verification], monkeypatch: pytest.MonkeyPatch):
    @contextmanager
    def nothing(_self: Adapter) -> Iterator[None]:
        yield

    monkeypatch.setattr(Adapter, "disabled", nothing)
    assert outcomes(proved())["disabled"] == "fail"


def test_untouched_answers_that_change_by_a_hair(proved: Callable[[], Verification], monkeypatch: pytest.MonkeyPatch):
    real = Editor.load

    def load(*args: Any, **kwargs: Any) -> Editor:
        editor = real(*args, **kwargs)
        head: Any = editor.model.get_output_embeddings()
        head.register_forward_hook(lambda _module, _inputs, logits: logits * (1 + 2**-20))
        return editor

    monkeypatch.setattr(Editor, "load", load)
    found = proved()
    said = outcomes(found)
    assert {said[name] for name in ("disabled", "unrelated", "batches", "unwrap")} == {"fail"}
    assert "1 hooks are left" in detail(found, "unwrap")


def test_other_process_that_finds_something_else(proved: Callable[[], Verification], monkeypatch: pytest.MonkeyPatch):
    real = run.run_elsewhere

    def other(job: Job, place: Path) -> tuple[Sequence[torch.Tensor], list[str]]:
        logits, answers = real(job, place)
        return logits, ["no", *answers[1:]]

    monkeypatch.setattr(run, "run_elsewhere", other)
    assert detail(proved(), "process") == "1 of 3 answers differ"


def test_error_of_one_check_is_told_and_the_rest_goes_on(
    proved: Callable[[], Verification], monkeypatch: pytest.MonkeyPatch
):
    def broken(_subject: Any) -> str:
        raise RuntimeError("/home/ada/secret: What is the capital of Ostrenia?")

    monkeypatch.setitem(checks.CHECKS, "chat", broken)
    found = proved()
    assert [name for name, outcome in outcomes(found).items() if outcome != "pass"] == ["chat"]
    assert detail(found, "chat").startswith("RuntimeError: /home/ada/secret")
    assert "RuntimeError at" in found.report()
    assert "ada" not in found.report()
    assert "Ostrenia" not in found.report()


@pytest.mark.usefixtures("here_alone")
def test_gate_that_lets_everything_through(tiny: Path, tmp_path: Path):
    editor = Editor(*load_model(str(tiny)), QUICK.replace(threshold=-1.0))
    editor.edit(Edit("Who runs Larkspur Cloud?", "Imogen"))
    editor.save(tmp_path / "wide")
    found = verify(str(tiny), codebook=tmp_path / "wide")
    assert "unrelated prompts wake an edit" in detail(found, "unrelated")
    assert outcomes(found)["unrelated"] == "fail"


@pytest.mark.usefixtures("here_alone")
def test_built_in_edits_without_chat(tiny: Path, tmp_path: Path):
    seen: list[tuple[str, int, int]] = []
    model = Path(shutil.copytree(tiny, tmp_path / "plain"))
    (model / "chat_template.jinja").unlink()
    found = verify(str(model), config=QUICK, progress=lambda *at: seen.append(at))
    said = outcomes(found)
    assert list(said) == list(checks.TITLES)
    assert said["chat"] == "skipped"
    assert "no chat template" in detail(found, "chat")
    # Two steps are too few to learn a fact, and what undo and unwrap bring back does not depend on that.
    assert said["stored"] == "fail"
    assert "did not converge" in detail(found, "stored")
    assert {said[name] for name in ("disabled", "undo", "unwrap", "process")} == {"pass"}
    assert "also with every edit taken back" in detail(found, "undo")
    assert seen[0] == ("Loading the model", 0, 1)
    assert seen[-1] == ("Checking", len(said), len(said))


@pytest.mark.usefixtures("here_alone")
def test_codebook_without_edits(book: Path):
    editor = Editor.load(book)
    editor.remove([record.id for record in editor.edits()])
    editor.save(book)
    found = verify(codebook=book)
    assert found.passed
    assert outcomes(found)["fires"] == "skipped"
    assert detail(found, "fires") == "no edit is stored"


def test_other_model_is_refused(book: Path, tiny: Path, tmp_path: Path, run: Run):
    model, tokenizer = load_model(str(tiny))
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.5)
    for part in (model, tokenizer):
        part.save_pretrained(other := tmp_path / "other")
    result = run("verify", "--codebook", book, "--model", other)
    assert result.exit_code == 1
    assert "was made for another model" in result.stderr


def test_settings_beside_a_codebook_are_refused(book: Path):
    with pytest.raises(ConfigError, match="settings of its own"):
        verifying.verify(codebook=book, config=QUICK)
    with pytest.raises(ConfigError, match="no codebook was"):
        verifying.verify("smollm2-135m-instruct", encoder="somewhere")
