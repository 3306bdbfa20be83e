"""In which arithmetic values are trained."""

from __future__ import annotations

import pytest
import torch

from horen import HorenConfig
from horen.model.partial import rates, shortlist
from horen.model.partial.precision import Arithmetic, bfloat16_is_fast, fastest, for_reading
from support.arithmetics import fastest_in
from support.tiny_models import tiny_model

AUTO = HorenConfig()


@pytest.mark.parametrize(
    ("machine", "dtype", "steps", "reading"),
    [
        ("model", torch.float32, None, Arithmetic.MODEL),
        ("bfloat16", torch.float32, Arithmetic.BFLOAT16, Arithmetic.BFLOAT16),
        ("int8", torch.float32, Arithmetic.INT8, Arithmetic.MODEL),
        ("model", torch.bfloat16, Arithmetic.INT8, Arithmetic.FLOAT32),
        ("bfloat16", torch.bfloat16, None, Arithmetic.MODEL),
        ("int8", torch.float16, Arithmetic.INT8, Arithmetic.MODEL),
        ("int8", torch.float64, None, Arithmetic.MODEL),
    ],
)
def test_it_is_what_the_machine_is_fastest_at(
    machine: str, dtype: torch.dtype, steps: Arithmetic | None, reading: Arithmetic, monkeypatch: pytest.MonkeyPatch
):
    fastest_in(machine, monkeypatch)
    model = tiny_model().to(dtype)
    assert (fastest(model, AUTO, coarse=True), for_reading(model, AUTO)) == (steps, reading)
    own = AUTO.replace(precision="model")
    assert (fastest(model, own, coarse=True), for_reading(model, own)) == (None, Arithmetic.MODEL)


def test_with_many_words_the_models_own_is_made_faster(monkeypatch: pytest.MonkeyPatch):
    fastest_in("model", monkeypatch)
    monkeypatch.setattr(shortlist, "_LEAST_VOCABULARY", 1)
    assert fastest(tiny_model(), AUTO, coarse=True) is Arithmetic.MODEL


def test_bytes_have_to_beat_bfloat16_where_that_is_fast(monkeypatch: pytest.MonkeyPatch):
    taken = {"float32": 1.0, "bfloat16": 0.3, "int8": 0.2}
    monkeypatch.setattr(rates, "seconds", lambda: taken)
    model = tiny_model()
    assert bfloat16_is_fast(model)
    assert fastest(model, AUTO, coarse=True) is Arithmetic.BFLOAT16
    taken["int8"] = 0.1
    assert fastest(model, AUTO, coarse=True) is Arithmetic.INT8


def test_what_cannot_do_with_bytes_is_given_the_next(monkeypatch: pytest.MonkeyPatch):
    fastest_in("int8", monkeypatch)
    assert fastest(tiny_model(), AUTO) is None
    monkeypatch.setattr(rates, "seconds", lambda: {"float32": 1.0, "bfloat16": 0.5, "int8": 0.1})
    assert fastest(tiny_model(), AUTO) is Arithmetic.BFLOAT16


def test_this_machine_is_measured_once():
    taken = rates.seconds()
    assert taken is rates.seconds()
    assert {"float32", "float16", "bfloat16"} <= set(taken)
    assert all(0 < seconds < 60 for seconds in taken.values())
