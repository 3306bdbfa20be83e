"""The check-up of stored edits."""

from __future__ import annotations

from typing import Any

import pytest

from horen import Diagnosis, Edit, Editor, ModelError
from horen.asking import doctor
from support.editors import EDITED, OTHER, PROMPTS, REPHRASED, outputs, quick_editor, same, taught_editor

HAMLET = "Who wrote Hamlet?"
EDITS = [Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris"), Edit(HAMLET, "Oslo")]
SENTENCES = "It is blue. Seven green boats"


def with_key_of(editor: Editor, number: int, other: int) -> None:
    """Let an edit's prompt read as that of another edit does; for keys that are stored as they are."""
    keys = editor._session.codebook().keys
    keys[editor.get(number).entries[0]] = keys[editor.get(other).entries[0]]


def kinds(found: Diagnosis) -> list[tuple[int, str, int | None]]:
    return [(finding.edit_id, finding.kind, finding.other) for finding in found.findings]


def test_nothing_is_found_where_every_reading_comes_home():
    editor = quick_editor(edits=EDITS, threshold=0.5)
    before = outputs(editor)
    calls: list[tuple[int, int]] = []
    found = editor.doctor(progress=lambda done, total: calls.append((done, total)))
    assert found == Diagnosis(edits=3, readings=8, threshold=0.5, findings=())
    assert found.healthy
    assert calls == [(done, 8) for done in range(1, 9)]
    assert same(outputs(editor), before)
    assert editor.doctor(chat=False).readings == 4


def test_an_empty_codebook_is_healthy():
    editor = quick_editor(edits=[])
    assert editor.doctor() == Diagnosis(0, 0, editor.config.threshold, ())


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": 0.97},
        {"threshold": 0.5, "margin": 0.3},
        {"threshold": 0.999},
        {"threshold": 0.7, "contrast": 0.4, "neighbours": 2},
        {"threshold": 0.9, "alpha": 1.0, "steps": 3, "beta": 2.0},
        {"threshold": 0.97, "scope": "all"},
        {"threshold": 0.9, "style": "plain"},
    ],
)
def test_what_is_found_is_what_explanations_tell(settings: dict[str, Any]):
    editor = quick_editor(edits=[*EDITS, Edit(SENTENCES, "Rome"), Edit("Hello", "Oslo")], **settings)
    chats = [False, True] if editor.tokenizer.chat_template else [False]
    found = editor.doctor()
    told = {(item.text, item.chat): item for finding in found.findings for item in finding.readings}
    count = 0
    for record in editor.edits():
        for text in (record.prompt, *record.rephrases):
            for chat in chats:
                count += 1
                seen = editor.explain(text, chat=chat)
                if seen.fired and editor.get(seen.edit_id).target == record.target:
                    assert (text, chat) not in told
                else:
                    item = told.pop((text, chat))
                    assert (item.nearest, item.fired) == (seen.edit_id, seen.fired)
                    assert item.score == pytest.approx(seen.score, abs=1e-5)
    assert (told, found.readings) == ({}, count)


def test_an_edit_whose_prompt_reads_like_that_of_another_is_shadowed():
    editor = quick_editor(edits=EDITS, threshold=0.9, key_storage="float32")
    with_key_of(editor, 2, 1)
    found = editor.doctor(chat=False)
    assert kinds(found) == [(2, "shadowed", 1)]
    (finding,) = found.findings
    assert (finding.prompt, finding.target) == (OTHER, "Paris")
    assert [(item.text, item.chat, item.fired, item.nearest) for item in finding.readings] == [(OTHER, False, True, 1)]
    assert "Edit 1 reads alike" in finding.advice
    editor.remove(1)
    assert editor.doctor(chat=False).healthy


def test_an_edit_with_the_same_target_does_not_shadow():
    editor = quick_editor(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Rome")], threshold=0.9, key_storage="float32")
    with_key_of(editor, 2, 1)
    assert editor.doctor(chat=False).healthy


def test_steps_that_take_a_prompt_to_another_edit():
    editor = quick_editor(edits=EDITS, threshold=0.5, alpha=1.0, steps=8, beta=0.5)
    found = editor.doctor(chat=False)
    assert {finding.kind for finding in found.findings} == {"shadowed"}
    assert all("alpha" in finding.advice for finding in found.findings)


def test_a_prompt_that_the_crowd_keeps_from_firing_is_crowded():
    editor = quick_editor(edits=EDITS, threshold=0.65, contrast=1.0, neighbours=1)
    found = editor.doctor(chat=False)
    assert [(number, kind) for number, kind, _ in kinds(found)] == [(1, "crowded"), (2, "crowded"), (3, "crowded")]
    for finding in found.findings:
        assert finding.other == editor.explain(finding.prompt).runner_up
        lowest = min(item.score for item in finding.readings)
        advised = float(finding.advice.split("threshold of ")[1].split()[0])
        assert lowest - 0.01 <= advised <= lowest


def test_a_prompt_that_another_edit_is_too_near_to_is_crowded():
    editor = quick_editor(edits=EDITS, threshold=0.5, margin=0.6)
    found = editor.doctor(chat=False).findings
    assert [(finding.edit_id, finding.kind) for finding in found] == [(1, "unreached"), (2, "crowded")]
    assert all("a smaller margin than 0.6" in finding.advice for finding in found)
    assert all(item.score > 0.5 and not item.fired for finding in found for item in finding.readings)


def test_a_crowd_that_says_the_same_is_named():
    editor = quick_editor(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Rome")], threshold=0.9, contrast=1.0, neighbours=1)
    assert editor.get(1).value != editor.get(2).value
    assert "Edit 2 says the same and raises the hubness correction:" in editor.doctor(chat=False).findings[0].advice


def test_a_wording_that_does_not_come_to_its_edit_is_unreached():
    editor = quick_editor(edits=EDITS, threshold=0.5, key_storage="float32")
    keys = editor._session.codebook().keys
    keys[editor.get(1).entries[1]] = keys[editor.get(1).entries[0]].roll(1)
    # Its plain reading is its key, which is found; in chat it is read anew, and that comes to nothing near.
    (finding,) = editor.doctor().findings
    assert (finding.edit_id, finding.kind) == (1, "unreached")
    assert {(item.text, item.chat) for item in finding.readings} == {(REPHRASED, True)}
    assert "rephrase" in finding.advice


def test_edits_that_did_not_converge():
    editor = taught_editor(max_steps=1)
    receipts = editor.edit([Edit(EDITED, "Mira Sand"), Edit(OTHER, "Oslo")])
    assert not any(receipt.converged for receipt in receipts)
    found = [finding for finding in editor.doctor().findings if finding.kind == "unconverged"]
    assert [finding.edit_id for finding in found] == [1, 2]
    assert f"{receipts[0].loss:.2f} after 1 steps" in found[0].advice
    # Without early stopping nothing is ever said to have converged.
    assert not any(finding.kind == "unconverged" for finding in quick_editor(edits=EDITS).doctor().findings)


def test_only_active_edits_are_checked():
    editor = quick_editor(edits=EDITS, threshold=0.9, key_storage="float32")
    with_key_of(editor, 2, 1)
    editor.remove(2)
    editor.supersede(3, "Mira Sand")
    found = editor.doctor(chat=False)
    assert (found.edits, found.readings, found.healthy) == (2, 3, True)
    editor.undo()
    editor.undo()
    assert kinds(editor.doctor(chat=False)) == [(2, "shadowed", 1)]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    editor = quick_editor(edits=[Edit(text, "Rome") for text in PROMPTS], threshold=0.6, contrast=1.0)
    expected = editor.doctor()
    monkeypatch.setattr(doctor, "_SIMILARITIES", 1)
    monkeypatch.setattr(doctor, "_BATCH", 2)
    found = editor.doctor()
    assert kinds(found) == kinds(expected)
    for one, two in zip(found.findings, expected.findings, strict=True):
        assert [item.score for item in one.readings] == pytest.approx([item.score for item in two.readings], abs=1e-5)


def test_an_unwrapped_editor_is_not_checked():
    editor = quick_editor()
    editor.unwrap()
    with pytest.raises(ModelError, match="unwrapped"):
        editor.doctor(chat=False)


def test_the_share_that_is_asleep_is_told():
    editor = quick_editor(edits=EDITS, threshold=0.5)
    assert editor.doctor().asleep == 0
    editor.remove(1)
    assert editor.doctor().asleep == 0.5
    assert editor.doctor().healthy
    editor.remove([2, 3])
    assert editor.doctor().asleep == 1
    editor.compact()
    assert editor.doctor().asleep == 0
