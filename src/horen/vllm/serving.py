"""What a server's answers tell of edits: each choice has a field ``horen``, null where no edit fired."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

_FIELD = "horen"
_DATA = "data: "


def completed(usual: Any) -> Any:
    """Tell it with completions that are sent whole."""

    def request_output_to_completion_response(self: Any, outputs: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        response = usual(self, outputs, *args, **kwargs)
        _tell(response, [output for output in outputs for _ in output.outputs])
        return response

    return request_output_to_completion_response


def conversed(usual: Any) -> Any:
    """Tell it with answers in a chat that are sent whole."""

    async def chat_completion_full_generator(self: Any, request: Any, outputs: Any, *args: Any, **kwargs: Any) -> Any:
        seen: dict[int, Any] = {}
        response = await usual(self, request, _noted(outputs, seen), *args, **kwargs)
        if seen and getattr(response, "choices", None):
            _tell(response, [seen[0]] * len(response.choices))
        return response

    return chat_completion_full_generator


def streamed(usual: Any) -> Any:
    """Tell it with the first piece of each choice that is streamed."""
    names = list(inspect.signature(usual).parameters)
    place = names.index("result_generator") - 2  # behind self and the request

    async def generator(self: Any, request: Any, *args: Any, **kwargs: Any) -> AsyncIterator[str]:
        seen: dict[int, Any] = {}
        given = [*args]
        given[place] = _noted(given[place], seen)
        each, told = request.n or 1, set[int]()
        async for piece in usual(self, request, *given, **kwargs):
            yield _told(piece, seen, each, told)

    return generator


async def _noted(outputs: AsyncIterator[Any], seen: dict[int, Any]) -> AsyncIterator[Any]:
    """Yield outputs, with the number of their prompt where there are several, and note the latest of each."""
    async for given in outputs:
        number, output = given if isinstance(given, tuple) else (0, given)
        seen[number] = output
        yield given


def _tell(response: Any, outputs: Sequence[Any]) -> None:
    """Give each choice what its output says; nothing in an engine without edits."""
    for choice, output in zip(response.choices, outputs, strict=True):
        if hasattr(output, _FIELD):
            setattr(choice, _FIELD, output.horen)


def _told(piece: str, seen: dict[int, Any], each: int, told: set[int]) -> str:
    """Return a piece of a stream, with what is told of choices that begin in it."""
    edited = any(hasattr(output, _FIELD) for output in seen.values())
    if not edited or not piece.startswith(_DATA + "{") or len(told) == each * len(seen):
        return piece
    content = json.loads(piece.removeprefix(_DATA))
    for choice in content.get("choices") or ():
        output: Any = seen.get(choice["index"] // each)
        if choice["index"] not in told and hasattr(output, _FIELD):
            told.add(choice["index"])
            choice[_FIELD] = output.horen
    return f"{_DATA}{json.dumps(content, ensure_ascii=False)}\n\n"
