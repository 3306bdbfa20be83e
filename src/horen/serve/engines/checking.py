"""What is asked of an engine, checked before the first piece of an answer."""

from __future__ import annotations

import math

from horen.errors import ConfigError
from horen.serve.engines.interface import Request, Sampling, Wanted

# What one request may ask for, so that a mistake does not keep an engine busy.
_MOST_ANSWERS = 128
_MOST_LIKELIEST = 20


def check(request: Request, *, context: int, vocabulary: int) -> None:
    """Raise ConfigError for a request that cannot be answered; the message names the field.

    Args:
        request: what is asked.
        context: how many tokens a prompt and its answer have together at most.
        vocabulary: how many token ids there are.
    """
    if not request.prompt:
        raise ConfigError("The prompt is empty: give at least one token.")
    odd = next((token for token in request.prompt if not _whole(token) or not 0 <= token < vocabulary), None)
    if odd is not None:
        raise ConfigError(f"The prompt has the token {odd!r}, and the model's are numbers from 0 to {vocabulary - 1}.")
    if len(request.prompt) >= context:
        raise ConfigError(
            f"The prompt has {len(request.prompt)} tokens, and with its answer it may have {context}: shorten it."
        )
    _check_sampling(request.sampling)
    most = request.sampling.max_tokens
    if most is not None and len(request.prompt) + most > context:
        raise ConfigError(
            f"max_tokens={most} and a prompt of {len(request.prompt)} tokens are more than the {context} that there "
            "is room for: ask for fewer, or leave max_tokens out."
        )
    _check_wanted(request.wanted)


def _check_sampling(given: Sampling) -> None:
    if given.max_tokens is not None and (not _whole(given.max_tokens) or given.max_tokens < 1):
        raise ConfigError(f"max_tokens={given.max_tokens!r} is not valid: ask for at least 1, or leave it out.")
    if not _number(given.temperature) or given.temperature < 0:
        raise ConfigError(f"temperature={given.temperature!r} is not valid: give 0 or more.")
    if not _number(given.top_p) or not 0 < given.top_p <= 1:
        raise ConfigError(f"top_p={given.top_p!r} is not valid: give a share above 0, and 1 at most.")
    if given.seed is not None and not _whole(given.seed):
        raise ConfigError(f"seed={given.seed!r} is not valid: give a whole number, or leave it out.")
    if not all(isinstance(text, str) and text for text in given.stop):
        raise ConfigError(f"stop={given.stop!r} is not valid: give texts, none of them empty.")
    if given.logprobs is not None and (not _whole(given.logprobs) or not 0 <= given.logprobs <= _MOST_LIKELIEST):
        raise ConfigError(f"logprobs={given.logprobs!r} is not valid: give 0 to {_MOST_LIKELIEST}, or leave it out.")
    if not _whole(given.n) or not 1 <= given.n <= _MOST_ANSWERS:
        raise ConfigError(f"n={given.n!r} is not valid: ask for 1 to {_MOST_ANSWERS} answers.")


def _check_wanted(given: Wanted) -> None:
    if given.version is not None and (not _whole(given.version) or given.version < 0):
        raise ConfigError(f"version={given.version!r} is no version: give the number of operations, 0 or more.")


def _whole(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)


def _number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
