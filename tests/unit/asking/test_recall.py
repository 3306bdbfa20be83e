"""Recall: facts that a prompt is about, put before it in words, on tiny models with a judge that goes by words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from horen import ConfigError, Edit, EditError, Editor, HorenConfig
from horen.asking.facts import fitted
from horen.model.scoped import CANDIDATES
from horen.scope.judging import Logistic
from horen.store import read_folder
from support.editors import EDITED, GREEDY, OTHER, QUICK, chat_ids, ids_of, logits, same
from support.recalls import (
    ABOUT,
    BOTH,
    CAPITAL_FACT,
    EDITS,
    SAME,
    SWIMMERS_FACT,
    UNKNOWN,
    WAKEN,
    WAKING,
    editor,
    fed,
    plainly,
)
from support.scopes import WORDS_DECIDE, save_scope
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scope(tmp_path_factory.mktemp("scope"))


# --- what is put before a prompt -----------------------------------------------------------------------------------


def test_nothing_is_recalled_unless_it_is_asked_for(folder: Path):
    assert HorenConfig().recall == "off"
    one = editor(folder)
    with one.disabled():
        before = one.generate([ABOUT, UNKNOWN], 5, **GREEDY)
    with fed(one) as seen:
        assert one.generate([ABOUT, UNKNOWN], 5, **GREEDY) == before
    assert [row for row, _ in seen] == [ids_of(UNKNOWN), ids_of(ABOUT)]
    assert one.explain(ABOUT).recalled == ()


def test_a_question_is_asked_after_what_it_is_about(folder: Path):
    one = editor(folder, recall="related")
    with fed(one) as seen:
        answer = one.generate(ABOUT, 5, **GREEDY)
    row = chat_ids(f"{CAPITAL_FACT}\n\n{ABOUT}")
    assert seen == [(row, True)]
    assert answer == plainly(one, row)


def test_a_fact_whose_subject_is_in_doubt_is_not_recalled(tmp_path: Path):
    doubtful = replace(WORDS_DECIDE, subject=Logistic(WORDS_DECIDE.subject.weights, 8.5))  # 0.62 for ABOUT
    one = editor(save_scope(tmp_path, judge=doubtful), recall="related")
    seen = one.explain(ABOUT)
    assert seen.asks == "about"
    assert seen.recalled == ()


def test_a_model_without_chat_is_given_a_cue(folder: Path):
    one = editor(folder, style="plain", recall="related")
    assert not one._session.contexts.has_chat
    with fed(one) as seen:
        one.generate(ABOUT, 3)
    told = f"{CAPITAL_FACT}\nQuestion: {ABOUT}\nAnswer:"
    assert seen == [(one.tokenizer(told)["input_ids"], True)]


def test_the_words_of_a_fact_do_not_wake_its_edit(folder: Path):
    one = editor(folder, [WAKING], threshold=0.85, recall="related")
    told = f"New fact: {WAKING.prompt} Rome\n\n{WAKEN}"
    assert one.explain(told, chat=True).fired
    assert one.generate(told, 5, chat=True, **GREEDY) != plainly(one, chat_ids(told))
    assert one.explain(WAKEN).recalled == (1,)
    assert one.generate(WAKEN, 5, **GREEDY) == plainly(one, chat_ids(told))


def test_what_is_no_question_is_gone_on_with(folder: Path):
    one = editor(folder, recall="related")
    text = "The sun of France is hot, and people swim when"
    with fed(one) as seen:
        one.generate([text, f"{text} (why?)"], 3)
    assert [row for row, _ in seen] == [
        ids_of(f"{CAPITAL_FACT}\n{text}"),
        chat_ids(f"{CAPITAL_FACT}\n\n{text} (why?)"),
    ]


def test_facts_and_question_are_one_message_of_a_chat(folder: Path):
    one = editor(folder, recall="related")
    with fed(one) as seen:
        one.generate(ABOUT, 3, chat=True)
    assert seen == [(chat_ids(f"{CAPITAL_FACT}\n\n{ABOUT}"), True)]


def test_of_several_facts_the_likeliest_comes_first(folder: Path):
    one = editor(folder, [Edit(EDITED, "Rome"), *EDITS[1:]], recall="related")
    about = [near for near in one.explain(ABOUT, nearest=3).nearest if near.asks == "about"]
    assert one.explain(ABOUT).recalled == tuple(near.edit_id for near in about) == tuple(BOTH)
    assert about[0].score > about[1].score
    with fed(one) as seen:
        one.generate(ABOUT, 3)
    assert [row for row, _ in seen] == [chat_ids(f"{SWIMMERS_FACT}\n{CAPITAL_FACT}\n\n{ABOUT}")]


def test_facts_are_found_beyond_what_the_gate_looks_at(folder: Path, monkeypatch: pytest.MonkeyPatch):
    facts = [Edit(f"Where in France do two cats swim {word}?", "Oslo") for word in "abcdefghijkl"]
    one = editor(folder, facts, recall="related", recall_tokens=10_000)
    assert sorted(one.explain(ABOUT).recalled) == list(range(1, len(facts) + 1))
    fired = one.explain(SAME).fired
    monkeypatch.setattr("horen.model.scoped.STEPPED", CANDIDATES)
    assert len(one.explain(ABOUT).recalled) == CANDIDATES
    assert one.explain(SAME).fired == fired


def test_what_is_asked_for_in_a_sentence_of_a_long_text_is_recalled(folder: Path):
    one = editor(folder, EDITS, recall="related")
    text = f"Seven green boats came home. {ABOUT}"
    assert one.explain(text).recalled == tuple(BOTH)
    with fed(one) as seen:
        one.generate(text, 3)
    assert seen[0][0] == chat_ids(f"{SWIMMERS_FACT}\n{CAPITAL_FACT}\n\n{text}")


def test_what_a_margin_keeps_from_firing_is_recalled(folder: Path):
    tied = [Edit(EDITED, "Rome"), Edit("The capital of France is Rome or", "Mira Sand")]
    one = editor(folder, tied, margin=0.9, recall="related")
    assert not one.explain(SAME).fired
    assert one.explain(SAME).recalled == (1, 2)


def test_removed_and_superseded_facts_are_not_recalled(folder: Path):
    one = editor(folder, EDITS, recall="related")
    one.remove(2)
    one.supersede(1, "Paris")
    assert one.explain(ABOUT).recalled == (4,)
    with fed(one) as seen:
        one.generate(ABOUT, 3)
    assert seen[0][0] == chat_ids(f"New fact: {EDITED} Paris\n\n{ABOUT}")
    one.remove(4)
    assert one.explain(ABOUT).recalled == ()


# --- the budget ----------------------------------------------------------------------------------------------------


def tokens(text: str) -> int:
    return len(tiny_tokenizer("chatml")(text, add_special_tokens=False)["input_ids"])


def test_facts_are_taken_while_they_fit(folder: Path):
    most = tokens(f"{SWIMMERS_FACT}\n{CAPITAL_FACT}")
    for budget, count in ((most, 2), (most - 1, 1)):
        one = editor(folder, EDITS, recall="related", recall_tokens=budget)
        found = one.explain(ABOUT).recalled
        assert len(found) == count
        assert list(found) == BOTH[:count]


def test_a_less_likely_fact_does_not_take_the_place_of_a_likelier_one(folder: Path):
    one = editor(folder, [Edit(EDITED, "Rome"), Edit(f"{OTHER} and two cats", "Oslo"), Edit("Hello", "Oslo")])
    records = one.edits()
    told = "\n".join(f"New fact: {record.prompt} {record.target}" for record in (records[0], records[2]))
    budget = tokens(told)
    assert [fact.edit_id for fact in fitted(one.tokenizer, [records[0], records[2]], budget)] == [1, 3]
    assert [fact.edit_id for fact in fitted(one.tokenizer, records, budget)] == [1]


def test_a_fact_that_is_too_long_ends_with_a_sentence(folder: Path):
    first, second, third = "Rome is 3.5 boats long.", 'She said "Why not?"', "It is blue."
    one = editor(folder, [Edit(EDITED, f"{first}\n{second} {third}"), Edit("Hello", "Oslo")])
    records = one.edits()

    def told(budget: int) -> list[str]:
        return [fact.text for fact in fitted(one.tokenizer, records, budget)]

    whole = f"New fact: {EDITED} {first} {second} {third}"
    assert told(tokens(whole)) == [whole]
    assert told(tokens(whole) - 1)[0] == f"New fact: {EDITED} {first} {second}"
    assert told(tokens(f"New fact: {EDITED} {first}"))[0] == f"New fact: {EDITED} {first}"
    # Not one sentence of it fits, so the next fact is taken.
    assert told(tokens(f"New fact: {EDITED} {first}") - 1) == ["New fact: Hello Oslo"]


def test_facts_leave_room_for_prompt_and_answer(folder: Path):
    one = editor(folder, recall="related")
    limit = one._session.contexts.limit
    assert limit is not None
    row = chat_ids(f"{CAPITAL_FACT}\n\n{ABOUT}")
    for room, wanted in ((limit - len(row), row), (limit - len(row) + 1, ids_of(ABOUT))):
        with fed(one) as seen:
            one.generate(ABOUT, room, max_length=None, stop_strings=None)
        assert seen[0][0] == wanted
    with pytest.raises(EditError, match="shorten it"):
        one.generate(ABOUT, limit)


# --- what is left as it is -----------------------------------------------------------------------------------------


def test_a_prompt_that_fires_recalls_nothing(folder: Path):
    one = editor(folder, EDITS, recall="related")
    assert one.explain(SAME).fired
    assert one.explain(SAME).recalled == ()
    with fed(one) as seen:
        answer = one.generate(SAME, 5, **GREEDY)
    assert seen == [(ids_of(SAME), False)]
    assert answer == one.generate(SAME, 5, recall="off", **GREEDY) != plainly(one, ids_of(SAME))


@pytest.mark.parametrize("chat", [False, True])
def test_rows_that_recall_nothing_are_a_call_of_their_own(folder: Path, chat: bool):
    one = editor(folder, EDITS, recall="related")
    own = [UNKNOWN, SAME, "cherry cherry cherry"]
    scores: dict[str, Any] = {"output_scores": True, "return_dict_in_generate": False}
    with fed(one) as seen:
        alone = one.generate(own, 5, chat=chat, recall="off", **GREEDY)
        before = [row for row, _ in seen]
    with fed(one) as seen:
        mixed = one.generate([own[0], ABOUT, *own[1:]], 5, chat=chat, **GREEDY, **scores)
    assert [mixed[0], *mixed[2:]] == alone
    assert [row for row, silent in seen if not silent] == before
    assert [silent for _, silent in seen] == [False] * 3 + [True]


def test_logits_of_an_unknown_subject_are_the_same_bits(folder: Path):
    one, off = editor(folder, EDITS, recall="related"), editor(folder, EDITS)
    assert one.rows([UNKNOWN, SAME]) == [ids_of(UNKNOWN), ids_of(SAME)]
    rows = one.rows([UNKNOWN, SAME])
    assert same([logits(one.model, row) for row in rows], [logits(off.model, row) for row in rows])


def test_a_disabled_editor_recalls_nothing(folder: Path):
    one = editor(folder, recall="related")
    with one.disabled(), fed(one) as seen:
        one.generate(ABOUT, 3)
        one.chat([{"role": "user", "content": ABOUT}], 3)
        assert one.rows([ABOUT]) == [ids_of(ABOUT)]
    assert [row for row, _ in seen] == [ids_of(ABOUT), chat_ids(ABOUT)]


def test_an_empty_codebook_recalls_nothing(folder: Path):
    one = editor(folder, [], recall="related")
    assert one.explain(ABOUT).recalled == ()
    with fed(one) as seen:
        one.generate([ABOUT], 3)
    assert seen == [(ids_of(ABOUT), False)]


# --- conversations -------------------------------------------------------------------------------------------------


def test_the_last_user_message_of_a_conversation_is_looked_up(folder: Path):
    one = editor(folder, recall="related")
    messages = [
        {"role": "user", "content": ABOUT},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": UNKNOWN},
    ]
    with fed(one) as seen:
        one.chat(messages, 3)
        one.chat([*messages[:2], messages[0]], 3)
        one.chat(messages[:1], 3, recall="off")
    assert seen == [
        (chat_ids(ABOUT, "Hello", UNKNOWN), False),
        (chat_ids(ABOUT, "Hello", f"{CAPITAL_FACT}\n\n{ABOUT}"), True),
        (chat_ids(ABOUT), False),
    ]
    assert messages[0]["content"] == ABOUT


def test_a_conversation_without_a_user_recalls_nothing(folder: Path):
    one = editor(folder, recall="related")
    with fed(one) as seen:
        one.chat([{"role": "system", "content": ABOUT}], 3)
    assert [silent for _, silent in seen] == [False]


# --- settings ------------------------------------------------------------------------------------------------------


def test_a_call_goes_before_the_setting(folder: Path):
    on, off = editor(folder, recall="related"), editor(folder)
    told = chat_ids(f"{CAPITAL_FACT}\n\n{ABOUT}")
    for one, recall, wanted in ((on, "off", ids_of(ABOUT)), (off, "related", told), (on, None, told)):
        with fed(one) as seen:
            one.generate(ABOUT, 3, recall=recall)
        assert seen[0][0] == wanted
    assert on.explain(ABOUT, recall="off").recalled == ()
    assert off.explain([ABOUT, UNKNOWN], recall="related")[0].recalled == (1,)
    with pytest.raises(ConfigError, match=r"recall='all' is not valid: expected one of off, related"):
        on.generate(ABOUT, 3, recall="all")


@pytest.mark.parametrize("preset", ["activations", "paper", "text"])
def test_recall_asks_for_a_judge(preset: str):
    with pytest.raises(ConfigError, match=r"^recall='related' is not valid .* expected .*judge.* Leave recall='off'"):
        HorenConfig.from_preset(preset, recall="related")


def test_recall_of_a_call_asks_for_a_judge_too():
    one = Editor(tiny_model(), tiny_tokenizer("chatml"), HorenConfig(**QUICK))
    one.edit(EDITS[0])
    for ask in (one.generate, one.explain):
        with pytest.raises(ConfigError, match="expected settings with a judge"):
            ask(ABOUT, recall="related")
    with pytest.raises(ConfigError, match="expected settings with a judge"):
        one.chat([{"role": "user", "content": ABOUT}], recall="related")


def test_a_folder_from_before_recalls_nothing(folder: Path, tmp_path: Path):
    one = editor(folder, recall="related", recall_tokens=99)
    one.save(tmp_path / "facts")
    saved = read_folder(tmp_path / "facts").config["settings"]
    assert (saved["recall"], saved["recall_tokens"]) == ("related", 99)
    before = {name: value for name, value in saved.items() if not name.startswith("recall")}
    assert HorenConfig.from_saved(before) == one.config.replace(recall="off", recall_tokens=256)
    model, tokenizer = one.unwrap(), one.tokenizer
    again = Editor.load(tmp_path / "facts", model, tokenizer, encoder=folder)
    assert again.explain(ABOUT).recalled == (1,)


def test_codebooks_that_differ_in_recall_go_together(folder: Path, tmp_path: Path):
    one = editor(folder, recall="related")
    one.save(tmp_path / "on")
    two = editor(folder, EDITS[1:])
    receipts = two.merge(tmp_path / "on")
    assert len(receipts) == 1
    assert two.config.recall == "off"
    two.restore(tmp_path / "on")
    assert [record.prompt for record in two.edits()] == [EDITED]


def test_recall_is_turned_on_without_making_keys_anew(folder: Path, monkeypatch: pytest.MonkeyPatch):
    one = editor(folder)
    monkeypatch.setattr("horen.editing.rekey._read", lambda *_: pytest.fail("keys were made anew"))
    one.rekey(one.config.replace(recall="related"))
    assert one.explain(ABOUT).recalled == (1,)
