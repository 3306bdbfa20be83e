"""What a request may say: precise, so that whatever else it says is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

_INT64 = 2**63
#: A temperature below this is taken as 0: it divides logits, and what is left of chance is nothing.
COLD = 1e-4

Strict = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
# What every JSON reader keeps whole.
Number = Annotated[int, Field(ge=0, lt=2**53)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Stop = Annotated[str, Field(min_length=1, max_length=1024)]
Text = Annotated[str, Tag("text")]
# One wrong item is told, however many there are.
Ids = Annotated[list[Annotated[int, Field(ge=1, lt=2**53)]], Field(fail_fast=True)]
Names = Annotated[list[Annotated[str, Field(min_length=1)]], Field(fail_fast=True)]
#: The neutral value of what is not done here.
Zero = Annotated[float, Field(ge=0, le=0)]
Nothing = Annotated[list[Any], Field(max_length=0)]


class Body(BaseModel):
    """What is read of a request: no field that is not told, no value of another type."""

    model_config = Strict


class WantedBody(Body):
    """Which edits may answer; the field `horen` of a request."""

    edits: Literal["on", "off"] = Field(default="on", description="`off`: no edit answers.")
    version: Number | None = Field(
        default=None, description="Of the edits, after so many changes; null for what they are now."
    )
    tags: Names | None = Field(default=None, description="Only edits that have one of these tags may answer.")
    without_tags: Names = Field(default=[], description="Edits that have one of these tags may not.")
    only: Ids | None = Field(default=None, description="Only edits with these ids may answer.")
    without: Ids = Field(default=[], description="Edits with these ids may not.")
    without_sets: Names = Field(default=[], description="Edits of these sets may not.")


class StreamOptions(Body):
    """How an answer is streamed."""

    include_usage: bool | None = Field(
        default=None, description="Send a last chunk, without choices, that tells the tokens."
    )
    include_obfuscation: Literal[False] | None = None


class TextFormat(Body):
    """The form of an answer: text."""

    type: Literal["text"]


class TextPart(Body):
    """A part of a message's content: text."""

    type: Literal["text"]
    text: str


def _written(content: Any) -> str:
    return "parts" if isinstance(content, list) else "text"


Parts = Annotated[list[TextPart], Field(min_length=1, fail_fast=True), Tag("parts")]
Content = Annotated[Text | Parts, Discriminator(_written)]


class _Message(Body):
    content: Content
    name: str | None = None

    @property
    def text(self) -> str:
        """The content in one: parts are paragraphs of their own."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class SystemMessage(_Message):
    """What the model is told of its task."""

    role: Literal["system"]


class DeveloperMessage(_Message):
    """What the model is told of its task, by another name."""

    role: Literal["developer"]


class UserMessage(_Message):
    """What a user says."""

    role: Literal["user"]


class AssistantMessage(_Message):
    """What the model has said; fields of an answer that say nothing may stay."""

    role: Literal["assistant"]
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: Nothing | None = None
    annotations: Nothing | None = None


AnyMessage: TypeAlias = Annotated[
    SystemMessage | DeveloperMessage | UserMessage | AssistantMessage, Field(discriminator="role")
]


class _Asked(Body):
    """What chat and completions have in common."""

    model: str = Field(description="One of those that `GET /v1/models` lists.")
    n: Count | None = Field(default=None, description="How many answers; null for 1.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        default=None, description=f"0 takes the likeliest token, and so does anything below {COLD}; null for 1."
    )
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(default=None, description="Null for 1.")
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = Field(
        default=None, description="Of this request alone."
    )
    stop: (
        Annotated[
            Annotated[Stop, Tag("text")] | Annotated[list[Stop], Field(max_length=4, fail_fast=True), Tag("parts")],
            Discriminator(_written),
        ]
        | None
    ) = Field(default=None, description="Texts before which an answer ends, at most four.")
    max_tokens: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    horen: WantedBody | None = Field(default=None, description="Which edits may answer.")
    user: str | None = Field(default=None, description="Makes no difference here.")
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None

    @property
    def streams(self) -> bool:
        """Whether the answer is to come in parts."""
        return bool(self.stream)

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with what was used."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def answers(self) -> int:
        """How many answers each prompt gets."""
        return self.n or 1

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts before which an answer ends."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def chance(self) -> tuple[float, float]:
        """Temperature and top_p; a top_p of 0 leaves the likeliest token, as a temperature of 0 does."""
        temperature = 1.0 if self.temperature is None else self.temperature
        top_p = 1.0 if self.top_p is None else self.top_p
        return (0.0, 1.0) if temperature < COLD or top_p == 0 else (float(temperature), float(top_p))


class ChatBody(_Asked):
    """A conversation that is to be answered."""

    messages: Annotated[list[AnyMessage], Field(min_length=1, fail_fast=True)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = Field(
        default=None, description="Calls of tools are not made here: with tools, `tool_choice` must be `none`."
    )
    tool_choice: Literal["none", "auto"] | None = None
    functions: Nothing | None = None
    function_call: Literal["none", "auto"] | None = None
    response_format: TextFormat | None = None
    modalities: list[Literal["text"]] | None = None
    audio: None = None
    prediction: None = None
    moderation: None = None
    web_search_options: None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: Literal["medium"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = Field(default=None, description="Not kept here.")
    parallel_tool_calls: bool | None = Field(default=None, description="Makes no difference here.")
    prompt_cache_key: str | None = Field(default=None, description="Makes no difference here.")
    prompt_cache_retention: str | None = Field(default=None, description="Makes no difference here.")
    prompt_cache_options: dict[str, Any] | None = Field(default=None, description="Makes no difference here.")
    safety_identifier: str | None = Field(default=None, description="Makes no difference here.")

    @property
    def most(self) -> int | None:
        """How many tokens an answer may have; None for as many as the context holds."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def told(self) -> int | None:
        """How many alternatives are told with each token; None where no log-probabilities are."""
        return (self.top_logprobs or 0) if self.logprobs else None


def _prompt(given: Any) -> str | None:
    if isinstance(given, str):
        return "text"
    if not isinstance(given, list) or not given:
        return None
    first = given[0]
    if isinstance(first, str):
        return "texts"
    return "rows" if isinstance(first, list) else "ids"


Row = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
AnyPrompt: TypeAlias = Annotated[
    Text
    | Annotated[list[str], Field(min_length=1, fail_fast=True), Tag("texts")]
    | Annotated[Row, Tag("ids")]
    | Annotated[list[Row], Field(min_length=1, fail_fast=True), Tag("rows")],
    Discriminator(_prompt),
]


class CompletionBody(_Asked):
    """Texts that are to be continued."""

    prompt: AnyPrompt = Field(description="A text, a list of texts, a list of token ids or a list of such lists.")
    max_tokens: Count | None = Field(default=None, description="Null for 16.")
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None
    best_of: Count | None = Field(default=None, description="The same as `n`.")

    @property
    def most(self) -> int | None:
        """How many tokens an answer may have."""
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def told(self) -> int | None:
        """How many alternatives are told with each token; None where no log-probabilities are."""
        return self.logprobs
