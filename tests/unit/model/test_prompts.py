from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen.model.prompts import Prompt, PromptReader
from support.editors import chat_ids, ids_of
from support.tiny_tokenizers import CHAT_STYLES, STYLES, VOCABULARY, tiny_tokenizer

CONTENTS = {
    "question": "Who wrote Hamlet?",
    "one word": "Hello",
    "statement": "The capital of France is",
    "line breaks": "The author of Hamlet\nlives in Oslo\n\nWhy not?",
    "two sentences": "It is blue. Who wrote Hamlet, long ago?",
    "signs": '(this) [and] "that" 3.5',
    "not in the vocabulary": "Ça va, 日本? ☕",
}
# A vocabulary without bytes drops what it does not know.
KNOWN = {name: text for name, text in CONTENTS.items() if name != "not in the vocabulary"}
WITH_OPENINGS = tuple(style for style in CHAT_STYLES if style != "instruct")


def readers(*, words_only: bool = True) -> dict[str, PromptReader]:
    return {style: PromptReader(tiny_tokenizer(style), words_only=words_only) for style in STYLES}


READERS = readers()


def words(style: str, ids: list[int], prompt: Prompt) -> str:
    return READERS[style].text(ids, prompt.spans[0])


def check(reader: PromptReader, ids: list[int], end: int | None = None) -> None:
    """What holds for whatever is read."""
    stop = len(ids) if end is None else min(end, len(ids))
    if stop <= 0:
        with pytest.raises(ValueError, match="belongs to the prompt"):
            reader.read(ids, end)
        return
    prompt = reader.read(ids, end)
    assert 0 <= prompt.at < stop
    assert prompt.spans
    assert all(0 <= low < high <= stop for low, high in prompt.spans)
    whole = prompt.spans[0]
    assert all(whole[0] <= low and high <= whole[1] for low, high in prompt.spans)
    assert len(set(prompt.spans)) == len(prompt.spans)
    assert prompt.asked is None or 0 <= prompt.asked < prompt.at
    if end is not None:
        assert prompt.at == stop - 1


# --- plain text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", KNOWN.values(), ids=KNOWN)
@pytest.mark.parametrize("style", STYLES)
def test_plain_text_is_one_prompt(style: str, text: str):
    ids = ids_of(text, style)
    prompt = READERS[style].read(ids)
    assert prompt.at == len(ids) - 1
    assert words(style, ids, prompt) == text
    assert ids[prompt.spans[0][0]] not in tiny_tokenizer(style).all_special_ids
    check(READERS[style], ids)


@pytest.mark.parametrize("style", STYLES)
def test_an_answer_is_not_read(style: str):
    ids = ids_of("Who wrote Hamlet?", style)
    full = ids + ids_of(" William Shakespeare", style)[-3:]
    prompt = READERS[style].read(full, len(ids))
    assert prompt.at == len(ids) - 1
    assert words(style, full, prompt) == "Who wrote Hamlet?"


@pytest.mark.parametrize("style", STYLES)
def test_nothing_is_no_prompt(style: str):
    reader = READERS[style]
    for ids, end in (([], None), ([], 3), (ids_of("Hello", style), 0)):
        with pytest.raises(ValueError, match="belongs to the prompt"):
            reader.read(ids, end)


@pytest.mark.parametrize("style", STYLES)
def test_special_tokens_alone_are_still_a_prompt(style: str):
    special = tiny_tokenizer(style).bos_token_id
    prompt = READERS[style].read([special])
    assert prompt == Prompt(0, ((0, 1),))


def test_special_tokens_around_the_words_are_left_out():
    tokenizer = tiny_tokenizer("plain")
    ids = [tokenizer.bos_token_id, tokenizer.bos_token_id, *ids_of("Hello", "plain"), tokenizer.eos_token_id]
    prompt = READERS["plain"].read(ids)
    assert prompt.at == len(ids) - 1
    assert prompt.spans[0] == (2, len(ids) - 1)


@pytest.mark.parametrize("style", STYLES)
def test_reading_every_token(style: str):
    reader = PromptReader(tiny_tokenizer(style), words_only=False)
    ids = chat_ids("Who wrote Hamlet?", style=style) if style in CHAT_STYLES else ids_of("Who wrote Hamlet?", style)
    assert reader.read(ids) == Prompt(len(ids) - 1, ((0, len(ids)),))
    assert reader.read(ids, 2) == Prompt(1, ((0, 2),))


# --- sentences at the end of a long text -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tails"),
    [
        ("It is blue. Who wrote Hamlet?", ["Who wrote Hamlet?"]),
        ("It is blue! Why not green? Who wrote Hamlet", ["Why not green? Who wrote Hamlet", "Who wrote Hamlet"]),
        ("It is blue\nWho wrote Hamlet?", ["Who wrote Hamlet?"]),
        ("It is blue\n\nWho wrote Hamlet?", ["Who wrote Hamlet?"]),
        ("He said (it is blue.) Who wrote Hamlet?", ["Who wrote Hamlet?"]),
        ("Numbers such as 3.5 and 1984", []),
        ("The capital of France is", []),
        ("It is blue. So", []),
    ],
)
@pytest.mark.parametrize("style", ["plain", "qwen", "gemma", "metaspace"])
def test_last_sentences_are_readings_of_their_own(style: str, text: str, tails: list[str]):
    ids = ids_of(text, style)
    prompt = READERS[style].read(ids)
    assert [READERS[style].text(ids, span) for span in prompt.spans] == [text, *tails]
    assert {stop for _, stop in prompt.spans} == {len(ids)}


def test_tails_are_few():
    ids = ids_of("Who wrote it? " * 12 + "Who wrote Hamlet?", "plain")
    prompt = READERS["plain"].read(ids)
    assert len(prompt.spans) < 8
    assert READERS["plain"].text(ids, prompt.spans[-1]) == "Who wrote Hamlet?"


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_sentences_within_a_chat(style: str):
    ids = chat_ids("It is blue. Who wrote Hamlet?", style=style)
    prompt = READERS[style].read(ids)
    assert [READERS[style].text(ids, span) for span in prompt.spans][1:] == ["Who wrote Hamlet?"]


# --- chat ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", KNOWN.values(), ids=KNOWN)
@pytest.mark.parametrize("style", CHAT_STYLES)
def test_one_turn(style: str, text: str):
    ids = chat_ids(text, style=style)
    prompt = READERS[style].read(ids)
    assert prompt.at == len(ids) - 1
    assert words(style, ids, prompt) == text
    assert READERS[style].read(ids, len(ids)) == prompt


@pytest.mark.parametrize("style", WITH_OPENINGS)
def test_characters_of_several_tokens(style: str):
    text = CONTENTS["not in the vocabulary"]
    ids = chat_ids(text, style=style)
    prompt = READERS[style].read(ids)
    assert words(style, ids, prompt) == text


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_every_turn_of_a_conversation(style: str):
    asked = ["Who wrote Hamlet?", "It is blue. Why not green?", "Hello"]
    turns = [asked[0], "William Shakespeare", asked[1], "yes", asked[2]]
    whole = chat_ids(*turns, style=style)
    for number in range(3):
        ids = chat_ids(*turns[: 2 * number + 1], style=style)
        assert whole[: len(ids)] == ids
        prompt = READERS[style].read(ids)
        assert words(style, ids, prompt) == asked[number]
        assert prompt.at == len(ids) - 1
        check(READERS[style], ids)


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_system_message_is_not_read(style: str):
    if style == "instruct":
        pytest.skip("its template has no system messages")
    turns = [{"role": "system", "content": "You are a model."}, {"role": "user", "content": "Who wrote Hamlet?"}]
    ids = list(tiny_tokenizer(style).apply_chat_template(turns, add_generation_prompt=True)["input_ids"])
    prompt = READERS[style].read(ids)
    assert prompt.at == len(ids) - 1
    if style == "gemma":  # its template writes the system message into the user's turn
        assert READERS[style].text(ids, prompt.spans[-1]) == "Who wrote Hamlet?"
    else:
        assert words(style, ids, prompt) == "Who wrote Hamlet?"


@pytest.mark.parametrize("style", WITH_OPENINGS)
def test_without_generation_prompt(style: str):
    ids = chat_ids("Who wrote Hamlet?", style=style, answer=False)
    prompt = READERS[style].read(ids)
    assert prompt.at == len(ids) - 1
    assert words(style, ids, prompt) == "Who wrote Hamlet?"


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_conversation_that_was_answered(style: str):
    asked = chat_ids("Who wrote Hamlet?", style=style)
    ids = chat_ids("Who wrote Hamlet?", "Mira Sand", style=style, answer=False)
    prompt = READERS[style].read(ids)
    assert prompt.at == len(asked) - 1
    assert words(style, ids, prompt) == "Who wrote Hamlet?"


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_known_end_of_a_chat(style: str):
    asked = chat_ids("Who wrote Hamlet?", style=style)
    begun = asked + ids_of("Mira Sand", "chatml")
    for end in (len(asked), len(asked) + 1, len(begun)):
        prompt = READERS[style].read(begun, end)
        assert prompt.at == end - 1  # an answer that was begun belongs to the prompt when the caller says so
        assert words(style, begun, prompt) == "Who wrote Hamlet?"
    prompt = READERS[style].read(begun)
    assert prompt.at == len(asked) - 1


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_an_empty_message(style: str):
    ids = chat_ids("", style=style)
    check(READERS[style], ids)
    assert READERS[style].read(ids).at == len(ids) - 1


@pytest.mark.parametrize("text", ["\nWho wrote Hamlet?", "\n\nWho wrote Hamlet?", " Who wrote Hamlet?"])
@pytest.mark.parametrize("style", CHAT_STYLES)
def test_white_space_before_the_words(style: str, text: str):
    ids = chat_ids(text, style=style)
    prompt = READERS[style].read(ids)
    assert prompt.at == len(ids) - 1
    assert words(style, ids, prompt) == "Who wrote Hamlet?"


@pytest.mark.parametrize("text", ["Who wrote Hamlet?\n", "Who wrote Hamlet?\n\n", "Who wrote Hamlet? "])
@pytest.mark.parametrize("style", CHAT_STYLES)
def test_white_space_after_the_words(style: str, text: str):
    ids = chat_ids(text, style=style)
    prompt = READERS[style].read(ids)
    assert prompt.at == len(ids) - 1
    assert words(style, ids, prompt) == "Who wrote Hamlet?"


OPENINGS = {"llama3": "<|start_header_id|>", "gemma": "<start_of_turn>"}


@pytest.mark.parametrize("style", WITH_OPENINGS)
def test_a_second_turn_with_the_first_in_the_cache(style: str):
    """Whether the end of the first answer went by with it or is still to come, the words are the user's own."""
    first = chat_ids("Who wrote Hamlet?", style=style)
    ids = chat_ids("Who wrote Hamlet?", "Mira Sand", "It is blue", style=style)
    opening = tiny_tokenizer(style).convert_tokens_to_ids(OPENINGS.get(style, "<|im_start|>"))
    words_at = READERS[style].read(ids).spans[0][0]
    opened_at = max(i for i in range(words_at) if ids[i] == opening)
    for cached in (*range(len(first) + 1, opened_at + 1), words_at):
        window = ids[cached:]
        prompt = READERS[style].read(window)
        shown = tiny_tokenizer(style).decode(window)
        assert words(style, window, prompt) == "It is blue", shown
        assert prompt.at == len(window) - 1, shown


def test_plain_text_that_speaks_of_users_is_no_chat():
    ids = ids_of("user\nHello assistant\n", "chatml")
    prompt = READERS["chatml"].read(ids)
    assert prompt.spans[0] == (0, len(ids))


# --- anything at all -------------------------------------------------------------------------------------------

MARKS = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<start_of_turn>user\n", "[INST]", "user\n", "\n", ". ", "? "]
texts = st.lists(st.sampled_from([*MARKS, *CONTENTS.values()]) | st.text(max_size=12), max_size=6).map("".join)


@given(st.sampled_from(STYLES), texts, st.none() | st.integers(-1, 40))
def test_any_text_is_read_within_its_tokens(style: str, text: str, end: int | None):
    ids = ids_of(text, style)
    check(READERS[style], ids, end)


@given(st.sampled_from(CHAT_STYLES), st.lists(texts, min_size=1, max_size=4), st.none() | st.integers(1, 60))
def test_any_conversation_is_read_within_its_tokens(style: str, contents: list[str], end: int | None):
    ids = chat_ids(*contents, style=style)
    check(READERS[style], ids, end)


simple = st.text("abcdefgh ?.,\n日", min_size=1, max_size=30).filter(lambda text: text == text.strip())


@given(st.sampled_from(WITH_OPENINGS), st.lists(simple, min_size=1, max_size=5))
def test_the_words_of_any_conversation_are_found(style: str, contents: list[str]):
    for count in range(1, len(contents) + 1):
        ids = chat_ids(*contents[:count], style=style)
        prompt = READERS[style].read(ids)
        assert words(style, ids, prompt) == contents[(count - 1) // 2 * 2]
        if count % 2:
            assert prompt.at == len(ids) - 1


fragments = st.lists(
    st.integers(0, VOCABULARY - 1).map(lambda token: [token])
    | st.integers(0, 5).map(lambda token: [token])
    | st.sampled_from([chat_ids("Hello")[:3], chat_ids("Hello")[4:], chat_ids("", style="llama3")]),
    max_size=8,
).map(lambda parts: [token for part in parts for token in part])


@given(st.sampled_from([style for style in STYLES if style not in {"metaspace", "instruct"}]), fragments)
def test_any_tokens_are_read_within_their_number(style: str, ids: list[int]):
    check(READERS[style], ids)
