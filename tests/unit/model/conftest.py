"""Both sources of features: what holds of a wrapped model holds however it reads."""

from __future__ import annotations

import pytest

from support import editors
from support.encoders import text_settings


@pytest.fixture(params=["activations", "text"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the quick editors of a test read, unless the test says otherwise."""
    if request.param == "text":
        monkeypatch.setattr(editors, "QUICK", {**editors.QUICK, **text_settings()})
    return str(request.param)
