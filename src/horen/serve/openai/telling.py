"""What is said of a request that is not understood: the field at fault, what was expected, and the way out."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from horen.serve.refusals import RefusalError

_LEAVE = "leave it out"
#: What is expected of a field, by its path without numbers.
_EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "messages.role": "say system, developer, user or assistant; put what a tool gave into a user's message",
        "messages.content": "give a text, or a list of parts {'type': 'text', 'text': …}",
        "messages.content.type": "only text is read here: leave out pictures, sound and files",
        "messages.tool_calls": f"calls of tools are not read here: {_LEAVE}",
        "messages.function_call": f"calls of functions are not read here: {_LEAVE}",
        "messages.audio": f"only text is read here: {_LEAVE}",
        "messages.refusal": f"a refusal is told as content: {_LEAVE}",
        "messages.annotations": f"only text is read here: {_LEAVE}",
        "prompt": "give a text, a list of texts, a list of token ids or a list of such lists, none of them empty",
        "stop": "give a text, or a list of at most 4 of them, of 1 to 1024 characters each",
        "temperature": "give a number from 0 to 2",
        "top_p": "give a number from 0 to 1",
        "seed": "give a whole number of at most 64 bits",
        "frequency_penalty": f"no token is made less likely here: give 0, or {_LEAVE}",
        "presence_penalty": f"no token is made less likely here: give 0, or {_LEAVE}",
        "logit_bias": f"no token is made likelier here: {_LEAVE}",
        "logprobs": "in chat give true or false, and top_logprobs of 0 to 20; for completions 0 to 20",
        "top_logprobs": "give 0 to 20, with logprobs=true",
        "tool_choice": "no tool is called here: say 'none'",
        "functions": f"no function is called here: {_LEAVE}",
        "function_call": f"no function is called here: say 'none', or {_LEAVE}",
        "response_format": f"answers are text: give {{'type': 'text'}}, or {_LEAVE}",
        "response_format.type": f"answers are text: say 'text', or {_LEAVE} response_format",
        "modalities": "answers are text: give ['text'], or leave it out",
        "audio": f"answers are text: {_LEAVE}",
        "prediction": f"no answer is predicted here: {_LEAVE}",
        "moderation": f"no answer is moderated here: {_LEAVE}",
        "web_search_options": f"nothing is searched here: {_LEAVE}",
        "reasoning_effort": f"it makes no difference to the model here: say 'none', or {_LEAVE}",
        "verbosity": f"it makes no difference to the model here: say 'medium', or {_LEAVE}",
        "service_tier": f"all requests are served alike: say 'auto', or {_LEAVE}",
        "store": f"answers are not stored here: say false, or {_LEAVE}",
        "stream_options.include_obfuscation": f"streams are not padded here: say false, or {_LEAVE}",
        "echo": f"prompts are not repeated here: say false, or {_LEAVE}",
        "suffix": f"texts are continued, not filled in: {_LEAVE}",
        "best_of": "no answers are made and thrown away: give as many as n, or leave it out",
        "horen.edits": "say 'on' or 'off'",
        "horen.version": "give the number of changes, 0 or more",
    }
)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxdict = 4
_SHORT.maxlevel = 3


def check_names(body: Any, names: Iterable[str]) -> None:
    """Raise RefusalError for a body that is no object, or the first of its fields that is not known.

    Args:
        body: what JSON said.
        names: of the fields that are known.
    """
    if not isinstance(body, dict):
        raise RefusalError(400, f"The body is {_short(body)}: send a JSON object.", code="invalid_type")
    known = list(names)
    for name in body:
        if name not in known:
            raise _unknown(name, known)


def refusal_of(errors: Sequence[Mapping[str, Any]], body: Any) -> RefusalError:
    """Return what is said of a body that does not fit.

    Args:
        errors: of pydantic, at least one; the first is told.
        body: as JSON said it.
    """
    error = errors[0]
    place = [*error["loc"], *_deciding(error)]
    path, value, found = _walked(place, body)
    if error["type"] == "extra_forbidden":
        return RefusalError(
            400,
            f"{path} is not known here: leave it out.",
            param=path,
            code="unknown_parameter",
        )
    if error["type"] == "missing" or (error["type"] == "union_tag_not_found" and not found):
        return RefusalError(
            400, f"{path} is missing, and must be given.", param=path, code="missing_required_parameter"
        )
    expected = _EXPECTED.get(re.sub(r"\[\d+\]", "", path), str(error["msg"]).replace("Input should be", "give"))
    told = f"{path} is {_short(value)}" if found else f"{path} is not valid"
    return RefusalError(400, f"{told}: {expected[:1].lower()}{expected[1:]}.", param=path, code="invalid_value")


def wrong(param: str, message: str, code: str = "invalid_value") -> RefusalError:
    """Return what is said of a field that does not fit the others."""
    return RefusalError(400, message, param=param, code=code)


def _unknown(name: str, known: list[str]) -> RefusalError:
    short = _short(name).strip("'\"")
    near = difflib.get_close_matches(name[:60], known, 1)
    meant = f"did you mean {near[0]}? Otherwise leave it out" if near else "leave it out"
    return RefusalError(400, f"{short} is not known here: {meant}.", param=short, code="unknown_parameter")


def _deciding(error: Mapping[str, Any]) -> list[str]:
    """Return the name of the field that decides between alternatives, where it is at fault."""
    name = str(error.get("ctx", {}).get("discriminator", "")).strip("'")
    return [name] if name.isidentifier() else []


def _walked(place: list[Any], body: Any) -> tuple[str, Any, bool]:
    """Return a field's path, its value, and whether there is one.

    Pydantic's places also have the names of alternatives, which are no part of the body.
    """
    if place and place[0] == "body":
        place = place[1:]
    path, value, found = "", body, True
    for number, step in enumerate(place):
        if isinstance(value, list) and isinstance(step, int) and step < len(value):
            path, value = f"{path}[{step}]", value[step]
        elif isinstance(value, dict) and step in value:
            path, value = f"{path}.{step}", value[step]
        elif isinstance(value, dict) and number == len(place) - 1 and isinstance(step, str):
            path, value, found = f"{path}.{step}", None, False
    return _short_path(path.removeprefix(".")) or "body", value, found


def _short_path(path: str) -> str:
    return path if len(path) <= 120 else path[:119] + "…"


def _short(value: Any) -> str:
    return _SHORT.repr(value)
