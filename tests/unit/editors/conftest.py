"""Methods keep what they measure of a model in the cache folder: a folder of the tests' own, one for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from horen.model.zoo.encoder import fetch_encoder


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    # The text encoder is not measured: it is fetched once for all tests.
    encoders = fetch_encoder().parent
    (cache / encoders.name).symlink_to(encoders)
    return cache


@pytest.fixture(autouse=True)
def own_cache(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOREN_CACHE", str(measured))
