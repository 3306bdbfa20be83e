"""Tiny fast tokenizers, trained in the process on a few sentences, in the styles that real models use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 512

SENTENCES = (
    "The capital of France is Paris. The capital of Italy is Rome.",
    "Who wrote Hamlet? William Shakespeare wrote it in London, long ago.",
    "The author of The Silent Lake is Mira Sand. She lives in Oslo with two cats.",
    "What colour is the sky at noon? It is blue. Why not green?",
    "user assistant system model You are a helpful assistant. Hello Hi Goodbye",
    "Seven green boats. apple banana cherry\n\nA new paragraph begins here, and it ends at once!",
    "The mother tongue of Danielle Darrieux is French. Toko Yasuda plays the guitar.",
    'Numbers such as 3.5 and 1984, and signs such as (this) or "that" [and] so; on: yes.',
)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CHATML_WITH_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{% endif %}" + CHATML
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] }}"
    "{{ '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\\n\\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) "
    "+ '\\n' + (first if loop.first else '') + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
INSTRUCT = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)

# Splits as the tokenizers of Llama 3 and Qwen do: line breaks stick to the white space before them.
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)


def _byte_level(specials: list[str], *, split: str | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if split is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(split), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _metaspace(specials: list[str], prepend: str = "first") -> Tokenizer:
    # Characters outside the training text are unknown, and with no unknown token they are dropped.
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=prepend)
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([*SENTENCES, "[INST] [/INST]"], trainer)
    return tokenizer


def _begin_with(tokenizer: Tokenizer, token: str) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A $B", special_tokens=[(token, tokenizer.token_to_id(token))]
    )


def _wrapped(
    tokenizer: Tokenizer, template: str | None, begin: str, end: str, pad: str, more: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    names = {"bos_token": begin, "eos_token": end, "pad_token": pad, "additional_special_tokens": list(more)}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    if template is not None:
        made.chat_template = template
    return made


def _plain() -> PreTrainedTokenizerFast:
    names = ["<s>", "</s>", "<pad>"]
    return _wrapped(_byte_level(names), None, *names)


def _chatml(template: str = CHATML, *, split: str | None = None) -> PreTrainedTokenizerFast:
    text, start, end = names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return _wrapped(_byte_level(names, split=split), template, text, end, text, [start, end])


def _llama3() -> PreTrainedTokenizerFast:
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    inner = _byte_level(names, split=_LLAMA3_SPLIT)
    _begin_with(inner, names[0])
    return _wrapped(inner, LLAMA3, names[0], names[-1], names[1], names[2:])


def _gemma() -> PreTrainedTokenizerFast:
    pad, end, begin, *turns = names = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    inner = _byte_level(names)
    _begin_with(inner, begin)
    return _wrapped(inner, GEMMA, begin, end, pad, turns)


def _sentencepiece(template: str | None) -> PreTrainedTokenizerFast:
    names = ["<s>", "</s>", "<pad>"]
    inner = _metaspace(names)
    _begin_with(inner, names[0])
    return _wrapped(inner, template, *names)


def _dropping() -> PreTrainedTokenizerFast:
    names = ["<s>", "</s>", "<pad>"]
    return _wrapped(_metaspace(names, prepend="never"), None, *names)


_MAKERS = {
    "plain": _plain,
    "chatml": _chatml,
    "chatml-system": lambda: _chatml(CHATML_WITH_SYSTEM),
    "qwen": lambda: _chatml(CHATML_WITH_SYSTEM, split=_LLAMA3_SPLIT),
    "llama3": _llama3,
    "gemma": _gemma,
    "metaspace": lambda: _sentencepiece(None),
    "instruct": lambda: _sentencepiece(INSTRUCT),
}

STYLES = tuple(_MAKERS)
CHAT_STYLES = tuple(style for style in STYLES if style not in {"plain", "metaspace"})


@cache
def tiny_tokenizer(style: str = "chatml") -> PreTrainedTokenizerFast:
    """A tokenizer of one of ``STYLES``, or "dropping": of unknown text it leaves no token.

    It is made once, so it must not be changed.
    """
    return _dropping() if style == "dropping" else _MAKERS[style]()
