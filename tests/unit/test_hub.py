"""Codebooks go to a hub and come back through huggingface_hub itself; the hub is a server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from horen import Edit, Editor, MismatchError, StoreError, hub
from horen.cli.app import app
from horen.store.card import CARD
from horen.store.state import Saved
from support.editors import EDITED, PROMPTS, outputs, quick_editor, same
from support.local_hub import LocalHub, local_hub, name_of
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

NAMES = {"config.json", "edits.jsonl", "codebook.safetensors", CARD}
REPOSITORY = "me/facts"
ANYONE = "hf_anyone"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.chdir(tmp_path)
    with local_hub() as found:
        yield found


@pytest.fixture
def editor() -> Editor:
    return quick_editor()


def pushed(there: LocalHub, codebook: Any, **options: Any) -> str:
    return hub.push(codebook, REPOSITORY, token=ANYONE, endpoint=there.endpoint, **options)


def loaded(there: LocalHub, **options: Any) -> Editor:
    parts = options.pop("model", None) or tiny_model(), tiny_tokenizer("chatml")
    return hub.load(REPOSITORY, *parts, endpoint=there.endpoint, cache_dir="cache", token=False, **options)


def test_what_is_pushed_is_what_is_loaded(there: LocalHub, editor: Editor):
    address = pushed(there, editor, private=True)
    assert address == f"{there.endpoint}/me/facts/commit/{name_of(REPOSITORY, 1)}"
    asked = there.created[0]  # releases of huggingface_hub say it in either way
    assert asked.get("private") is True or asked.get("visibility") == "private"
    assert set(there.repositories[REPOSITORY][-1]) == NAMES
    back = loaded(there)
    assert back.edits() == editor.edits()
    assert same(outputs(back), outputs(editor))


def test_a_folder_is_pushed_without_the_paths_of_this_machine(there: LocalHub, editor: Editor, tmp_path: Path):
    editor._session.source = str(tmp_path / "models" / "secret")
    editor.save(tmp_path / "facts")
    pushed(there, tmp_path / "facts")
    for data in there.repositories[REPOSITORY][-1].values():
        assert str(tmp_path).encode() not in data
    assert Saved.read(tmp_path / "facts").source == str(tmp_path / "models" / "secret")
    assert loaded(there).edits() == editor.edits()


def test_nothing_else_is_fetched(there: LocalHub, editor: Editor):
    pushed(there, editor)
    there.put(REPOSITORY, {"modeling.py": b"raise SystemExit", "codebook.pkl": b"\x80", "sub/config.json": b"{}"})
    folder = Path(next(iter(loaded(there)._session.folders)))
    assert set(there.fetched) == NAMES
    assert {path.name for path in folder.iterdir()} == NAMES


def test_a_revision_stays_what_it_was(there: LocalHub, editor: Editor):
    pushed(there, editor)
    before = editor.edits()
    editor.edit(Edit("It is blue", "Paris"))
    pushed(there, editor)
    assert loaded(there).edits() == editor.edits()
    assert loaded(there, revision=name_of(REPOSITORY, 1)).edits() == before


def test_card_of_somebody_stays(there: LocalHub, editor: Editor, tmp_path: Path):
    pushed(there, editor)
    own = b"---\nlicense: mit\n---\nOurs.\n"
    there.put(REPOSITORY, {CARD: own})
    editor.edit(Edit("It is blue", "Paris"))
    pushed(there, editor)
    assert there.repositories[REPOSITORY][-1][CARD] == own
    assert b"Paris" in there.repositories[REPOSITORY][-1]["edits.jsonl"]
    editor.save(tmp_path / "facts")
    (tmp_path / "facts" / CARD).write_bytes(b"Mine.\n")
    hub.push(tmp_path / "facts", "me/others", token=ANYONE, endpoint=there.endpoint)
    assert there.repositories["me/others"][-1][CARD] == b"Mine.\n"


def test_other_model_is_refused(there: LocalHub, editor: Editor):
    pushed(there, editor)
    with pytest.raises(MismatchError, match="made for another model"):
        loaded(there, model=tiny_model(seed=1))


def test_altered_codebook_is_refused(there: LocalHub, editor: Editor):
    pushed(there, editor)
    edits = there.repositories[REPOSITORY][-1]["edits.jsonl"]
    there.put(REPOSITORY, {"edits.jsonl": edits.replace(b"Rome", b"Rima")})
    with pytest.raises(StoreError, match=r"edits\.jsonl"):
        loaded(there)


@pytest.mark.parametrize("revision", [None, "nowhere"])
def test_repository_or_revision_that_is_not_there(there: LocalHub, editor: Editor, revision: str | None):
    if revision is not None:
        pushed(there, editor)
    with pytest.raises(StoreError, match="'me/facts' cannot be used"):
        loaded(there, revision=revision)


def test_name_that_is_none(there: LocalHub, editor: Editor):
    with pytest.raises(StoreError, match="check its name"):
        hub.push(editor, "a/b/c", endpoint=there.endpoint, token=ANYONE)


def test_command(there: LocalHub, editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = hub.push
    monkeypatch.setattr(
        hub, "push", lambda *given, **options: real(*given, token=ANYONE, endpoint=there.endpoint, **options)
    )
    editor.save(tmp_path / "facts")
    result = CliRunner().invoke(app, ["push", str(tmp_path / "facts"), REPOSITORY, "--message", "First"])
    assert result.exit_code == 0, result.output
    assert f"/me/facts/commit/{name_of(REPOSITORY, 1)}" in result.stdout


def test_card_says_what_is_there_and_no_text(editor: Editor, tmp_path: Path):
    editor._session.source = "name/model"
    editor.save(tmp_path / "facts")
    card = (tmp_path / "facts" / CARD).read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["library_name"] == "horen"
    assert head["base_model"] == "name/model"
    assert "model-editing" in head["tags"]
    assert "| edits | 1 |" in card
    assert Saved.read(tmp_path / "facts").folder.config["model"]["fingerprint"]["weights"][:12] in card
    assert not any(text in card for text in (EDITED, "Rome", *PROMPTS))


def test_card_follows_the_codebook_until_somebody_changes_it(editor: Editor, tmp_path: Path):
    place = tmp_path / "facts" / CARD
    editor.save(tmp_path / "facts")
    editor.edit(Edit("It is blue", "Paris"))
    editor.save(tmp_path / "facts")
    assert "| edits | 2 |" in place.read_text()
    place.write_text(changed := place.read_text().replace("A codebook of HoReN", "Our facts"))
    editor.undo()
    editor.save(tmp_path / "facts")
    assert place.read_text() == changed
    place.unlink()
    assert Editor.load(tmp_path / "facts", tiny_model(), tiny_tokenizer("chatml")).edits() == editor.edits()


@pytest.mark.parametrize("source", ["/home/ada/llama", "a\n---\nlicense: x", "<b>x</b>", None])
def test_card_names_no_place_and_repeats_no_markup(editor: Editor, tmp_path: Path, source: str | None):
    editor._session.source = source
    editor.save(tmp_path / "facts")
    card = (tmp_path / "facts" / CARD).read_text()
    assert "no public name" in card
    assert source is None or source not in card
    assert "base_model" not in card
    assert "model, tokenizer)" in card
