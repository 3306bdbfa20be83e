"""Earlier keys and values in a model's call, whichever name its release of transformers gives them.

transformers 5.24 renamed the argument and the output ``past_key_values`` to ``cache``. Earlier releases, and a model's
own code written for them, know the first name alone; callers may say either to the later ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

NAMES = ("cache", "past_key_values")


def past_argument(module: nn.Module) -> str:
    """Return the name that ``module`` takes its earlier keys and values under."""
    taken = inspect.signature(module.forward).parameters
    return next((name for name in NAMES if name in taken), NAMES[-1])


def past_of(given: Mapping[str, Any]) -> Any:
    """Return the earlier keys and values among a call's arguments by name, or in a model's output; None without any."""
    # A ModelOutput warns when it is asked for the old name, also by `get`.
    return next((value for name, value in given.items() if name in NAMES and value is not None), None)
