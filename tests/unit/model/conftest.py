"""Both sources of features: what holds of a wrapped model holds however it reads."""

from __future__ import annotations

import pytest

from support import editors
from support.encoders import text_settings
from support.tiny_models import FAMILIES

# What is read as text comes from no layer: of a family it meets the call alone, of which these have every kind.
READ_AS_TEXT = ("llama", "gemma3", "gpt2", "opt", "mixtral")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not _is_told_already(item)]


def _is_told_already(item: pytest.Item) -> bool:
    given = getattr(getattr(item, "callspec", None), "params", {})
    family = given.get("family")
    return given.get("reading") == "text" and family in FAMILIES and family not in READ_AS_TEXT


@pytest.fixture(params=["activations", "text"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the quick editors of a test read, unless the test says otherwise."""
    if request.param == "text":
        monkeypatch.setattr(editors, "QUICK", {**editors.QUICK, **text_settings()})
    return str(request.param)
