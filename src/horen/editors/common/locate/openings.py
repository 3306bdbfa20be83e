"""Texts that stand before a prompt, and the text that covariances are measured on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from horen.data import load_bank
from horen.errors import ConfigError
from horen.model.contexts import Contexts

#: As many openings as there are bundled paragraphs.
MOST_OPENINGS = 24
# Published: half of the prefixes have five tokens and half have ten.
_WORDS = (5, 10)
_WINDOW = 256
_LINE = 1 << 16  # characters that are encoded at once, however long a file's lines are


def openings(count: int) -> list[str]:
    """Return the first five or ten words of ``count`` bundled paragraphs, by turns, with a full stop."""
    found = []
    for number, paragraph in enumerate(load_bank().paragraphs[:count]):
        words = paragraph.split()[: _WORDS[number % len(_WORDS)]]
        found.append(" ".join(words).rstrip(".,;:") + ".")
    return found


def text_rows(contexts: Contexts, text: str, tokens: int) -> list[list[int]]:
    """Return running text as rows of token ids, 256 and the model's context at most, ``tokens`` in all.

    Args:
        contexts: of the model.
        text: a file; empty for the package's own paragraphs and, after them, its prompts (some 90,000 tokens).
        tokens: most tokens in all; a shorter text is taken as a whole.

    Raises:
        ConfigError: for a file that cannot be read, or that holds no text.
    """
    width = min(_WINDOW, contexts.limit or _WINDOW)
    ids: list[int] = []
    try:
        for line in _lines(text, tokens):
            ids += contexts.plain(line)
            if len(ids) >= tokens:
                break
    except (OSError, ValueError, RuntimeError) as error:  # the last: a home folder of nobody
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"text={text!r} cannot be read ({reason}): name a file of plain text.") from error
    ids = ids[:tokens]
    if len(ids) < 2:
        raise ConfigError(f"text={text!r} holds {len(ids)} tokens: name a file with some paragraphs of plain text.")
    return [ids[start : start + width] for start in range(0, len(ids), width)]


def _lines(text: str, tokens: int) -> Iterator[str]:
    if text:
        with Path(text).expanduser().open(encoding="utf-8") as lines:
            while line := lines.readline(_LINE):
                if line.strip():
                    yield line
        return
    bank = load_bank()
    yield from (f"{paragraph}\n" for paragraph in bank.paragraphs)
    pairs = sum(len(bank.entities[relation.entities]) for relation in bank.relations)
    # Every prompt has a token at least, so more prompts than tokens are never needed.
    yield from (f"{prompt}\n" for prompt in bank.unrelated(min(tokens, pairs + len(bank.plain))))
