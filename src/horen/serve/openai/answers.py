"""What an answer says."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from horen.serve.engines.interface import Fired, Token

#: The least log-probability that is told: JSON has no infinity.
LEAST = -9999.0
Finish = Literal["stop", "length"]


class ErrorDetail(BaseModel):
    """Why a request was not answered."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """A request was not answered."""

    error: ErrorDetail


class Edited(BaseModel):
    """The edit that answers."""

    edit: int
    score: float
    version: int

    @classmethod
    def of(cls, fired: Fired | None) -> Edited | None:
        """Return what is told of an edit; None where none fired."""
        return None if fired is None else cls(edit=fired.edit, score=fired.score, version=fired.version)


class Usage(BaseModel):
    """How many tokens a request had."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, prompt: int, completion: int) -> Usage:
        """Return both counts and their sum."""
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class Likely(BaseModel):
    """A token that might have come."""

    token: str
    logprob: float
    bytes: list[int] | None

    @classmethod
    def of(cls, text: str, logprob: float) -> Likely:
        """Return what is told of a token; the bytes of a part of a character are not known."""
        known = None if "\ufffd" in text else list(text.encode())
        return cls(token=text, logprob=max(logprob, LEAST), bytes=known)


class Said(Likely):
    """A token that came, and those that might have."""

    top_logprobs: list[Likely]


class ChatLogprobs(BaseModel):
    """Log-probabilities of an answer's tokens, in chat."""

    content: list[Said]
    refusal: None = None

    @classmethod
    def of(cls, tokens: tuple[Token, ...], most: int) -> ChatLogprobs:
        """Return those of tokens, with at most so many alternatives each."""
        content = []
        for token in tokens:
            likely = [Likely.of(*one) for one in token.likeliest[:most]]
            content.append(Said(**Likely.of(token.text, token.logprob).model_dump(), top_logprobs=likely))
        return cls(content=content)


class TextLogprobs(BaseModel):
    """Log-probabilities of an answer's tokens, where a text is continued."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]

    @classmethod
    def of(cls, tokens: tuple[Token, ...], most: int, offset: int = 0) -> TextLogprobs:
        """Return those of tokens, the first of which begins at an offset of the answer."""
        offsets, tops = [], []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.text)
            top: dict[str, float] = {}
            for text, logprob in token.likeliest[:most]:
                top.setdefault(text, max(logprob, LEAST))
            tops.append({**top, token.text: max(token.logprob, LEAST)})
        return cls(
            tokens=[token.text for token in tokens],
            token_logprobs=[max(token.logprob, LEAST) for token in tokens],
            top_logprobs=tops if most else None,
            text_offset=offsets,
        )


class Message(BaseModel):
    """An answer in a chat."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer to a conversation."""

    index: int
    message: Message
    logprobs: ChatLogprobs | None
    finish_reason: Finish
    horen: Edited | None


class ChatCompletion(BaseModel):
    """The answers to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str


class Delta(BaseModel):
    """What is new of an answer in a chat."""

    role: Literal["assistant"] = "assistant"
    content: str = ""


class ChatChunkChoice(BaseModel):
    """A part of one answer; the first one tells the edit."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: Finish | None = None
    horen: Edited | None = None


class ChatChunk(BaseModel):
    """A part of the answers to a conversation."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None


class TextChoice(BaseModel):
    """One continuation, or in a stream a part of one, whose first part tells the edit."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: Finish | None = None
    horen: Edited | None = None


class Completion(BaseModel):
    """Continuations of texts, or in a stream a part of one."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage | None = None


class ModelEntry(BaseModel):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "horen"
    max_model_len: int


class ModelList(BaseModel):
    """The models that can be asked."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]
