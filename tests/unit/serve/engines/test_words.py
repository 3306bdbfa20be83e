"""Text as it comes: whole characters, spelled as behind the prompt, and nothing of a text that ends it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen.serve.engines.continuous.words import Words, spelled
from support.tiny_tokenizers import tiny_tokenizer

TOKENIZER = tiny_tokenizer("chatml")
TEXT = "Seven green boats: Grüße, 世界 😀 ½ — done.\n\nWhy not?"


def ids_of(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def pieces(text: str, prompt: str = "Hello", stops: tuple[str, ...] = ()) -> tuple[list[str], Words]:
    words, found = Words(TOKENIZER, ids_of(prompt), stops), []
    for token in ids_of(text):
        found.append(words.add(token))
        if words.stopped:
            return found, words
    return found, words


@given(st.text(max_size=40), st.sampled_from(["Hello", "", "It is blue ", "世"]))
def test_pieces_are_the_text(text: str, prompt: str):
    found, words = pieces(text, prompt)
    whole = TOKENIZER.decode(ids_of(text), skip_special_tokens=True)
    assert "".join(found) + words.end() == whole
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(found)


def test_no_piece_has_half_a_character():
    found, _ = pieces(TEXT)
    assert "".join(found) == TEXT
    assert "" in found  # bytes of characters that take several tokens
    words = Words(TOKENIZER, [])
    assert words.add(ids_of("😀")[0]) == words.end() == ""


def test_bytes_that_are_no_characters_harm_nothing():
    words = Words(TOKENIZER, ids_of("Hello"))
    part = ids_of("😀")[0]
    found = "".join(words.add(token) for token in [part, part, *ids_of(" green boats")])
    assert found.endswith(" green boats")


@given(st.integers(0, len(TEXT) - 1), st.integers(1, 6))
def test_nothing_of_a_stop_text_is_given(first: int, length: int):
    stop = TEXT[first : first + length]
    found, words = pieces(TEXT, stops=("nowhere", stop, TEXT + "!"))
    assert words.stopped
    assert "".join(found) == TEXT[: TEXT.index(stop)]


def test_the_first_of_several_stop_texts_counts():
    assert "".join(pieces("a b c d", stops=("d", "c d", "b"))[0]) == "a "


def test_what_only_began_as_a_stop_text_comes_late():
    found, words = pieces("green boats", stops=("boats sail",))
    assert "".join(found) == "green "
    assert not words.stopped
    assert (words.end(), words.end()) == ("boats", "")
    found, words = pieces("aaab", stops=("aab",))
    assert "".join(found) == "a"


@pytest.mark.parametrize("token", ["<|im_end|>", " Paris", "Rome"])
def test_what_a_token_says(token: str):
    (number,) = TOKENIZER(token, add_special_tokens=False)["input_ids"][:1]
    assert token.startswith(spelled(TOKENIZER, number))
    assert spelled(TOKENIZER, number)


def test_special_tokens_say_nothing():
    words = Words(TOKENIZER, ids_of("Hello"))
    assert words.add(TOKENIZER.eos_token_id) == ""
    assert words.add(ids_of("Rome")[0]) != ""
