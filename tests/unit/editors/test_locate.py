"""What ROME, MEMIT and AlphaEdit share: where a fact is located, what is measured there, and what is trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from horen import ConfigError, Edit, EditError, ModelError
from horen.editors.common.locate import covariance
from horen.editors.common.locate.covariance import covariances, second_moments
from horen.editors.common.locate.openings import MOST_OPENINGS, openings, text_rows
from horen.editors.common.locate.projections import Projection
from horen.editors.common.locate.requests import Request, Requests
from horen.editors.common.locate.values import Located, bounded
from horen.editors.rome import RomeConfig
from horen.model.contexts import Contexts
from horen.model.layout import Layout, Site
from horen.model.partial.precision import Arithmetic
from horen.model.partial.tail import Sample, Tail
from support.editors import EDITED, logits, written_by_hand
from support.tiny_models import HIDDEN, tiny_model
from support.tiny_tokenizers import STYLES, tiny_tokenizer

EDIT = Edit(EDITED, "Rome", ("France has its capital in", "The seat of its government is"), "France")
ROWS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14], [15], [16, 17, 18, 19]]


def requests(
    edit: Edit, style: str = "chatml", *, prefixes: int = 2, train_end: bool = False, **model: Any
) -> list[Request]:
    contexts = Contexts(tiny_model(style=style, **model), tiny_tokenizer(style), ())
    return Requests(contexts, tiny_tokenizer(style), prefixes, train_end=train_end).of(edit)


# --- where a fact is located -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_a_wording_is_cut_after_its_subject(style: str):
    tokenizer = tiny_tokenizer(style)
    first, second, third = requests(EDIT, style)
    for request, wording in ((first, EDIT.prompt), (second, EDIT.rephrases[0])):
        texts = [wording, *(f"{opening} {wording}" for opening in openings(2))]
        assert len(request.samples) == 3
        for sample, text in zip(request.samples, texts, strict=True):
            ids = tokenizer(text)["input_ids"]
            assert list(sample.prompt + sample.target[: sample.lead]) == ids
            assert tokenizer.decode(sample.prompt, skip_special_tokens=True).strip().endswith("France")
            assert "France" not in tokenizer.decode(sample.prompt[:-1], skip_special_tokens=True)[-6:]
            assert tokenizer.decode(sample.target[sample.lead :]).strip() == "Rome"
        assert request.essence is not None
        said = (*request.essence.prompt, *request.essence.target[:-1])
        assert list(said) == tokenizer("France is a")["input_ids"]
        assert request.essence.lead == len(request.essence.target) - 1
        assert tokenizer.decode(request.essence.prompt, skip_special_tokens=True).strip() == "France"
    assert third.essence is None  # it does not name the subject
    assert [(sample.lead, sample.prompt[-1]) for sample in third.samples] == [
        (0, tokenizer(EDIT.rephrases[1])["input_ids"][-1])
    ] * 3


def test_an_edit_without_a_subject_is_located_at_its_end():
    (request,) = requests(Edit(EDITED, "Rome"), prefixes=0)
    assert request == Request((Sample(tuple(tiny_tokenizer()(EDITED)["input_ids"]), request.samples[0].target),), None)


def test_of_a_subject_that_stands_twice_the_last_counts():
    (request,) = requests(Edit("France, the land of France, has", "Rome", subject=" France "), prefixes=0)
    assert tiny_tokenizer().decode(request.samples[0].prompt) == "France, the land of France"


def test_the_end_token_is_trained():
    (plain,), (ended,) = requests(Edit(EDITED, "Rome")), requests(Edit(EDITED, "Rome"), train_end=True)
    for one, two in zip(plain.samples, ended.samples, strict=True):
        assert (*one.target, tiny_tokenizer().eos_token_id) == two.target


def test_a_context_that_does_not_fit_is_left_out():
    wording = tiny_tokenizer()(EDITED)["input_ids"]
    (request,) = requests(Edit(EDITED, "Rome"), max_position_embeddings=len(wording) + 8)
    assert [len(sample.prompt) for sample in request.samples] == [len(wording)]
    with pytest.raises(EditError, match="context holds 4"):
        requests(Edit(EDITED, "Rome"), max_position_embeddings=4)


def test_openings():
    found = openings(MOST_OPENINGS)
    assert len(set(found)) == MOST_OPENINGS
    assert {len(text.split()) for text in found} == {5, 10}
    assert all(text.endswith(".") for text in found)


# --- what is measured ------------------------------------------------------------------------------------------------


def sites(model: PreTrainedModel) -> list[Site]:
    return [Projection.of(model, Layout.of(model), layer, "rome").site for layer in (0, 2)]


def keys_by_hand(model: PreTrainedModel, site: Site) -> Tensor:
    seen: list[Tensor] = []
    handle = site.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for row in ROWS:
        logits(model, row)
    handle.remove()
    return torch.cat([keys.reshape(-1, keys.shape[-1]) for keys in seen]).double()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "opt"])
def test_covariances_by_hand(family: str):
    model = tiny_model(family)
    found = second_moments(model, sites(model), ROWS)
    for site, moment in zip(sites(model), found, strict=True):
        keys = keys_by_hand(model, site)
        assert len(keys) == sum(map(len, ROWS))
        torch.testing.assert_close(moment, keys.T @ keys / len(keys), atol=1e-5, rtol=1e-4)


@given(st.integers(1, 6), st.permutations(ROWS))
@settings(max_examples=15)
def test_covariances_do_not_depend_on_batches(size: int, rows: list[list[int]]):
    model = tiny_model()
    (whole,) = second_moments(model, sites(model)[:1], ROWS)
    (found,) = second_moments(model, sites(model)[:1], rows, size=size)
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=1e-5)


def test_covariances_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path))
    model = tiny_model()
    first, second = sites(model)
    (alone,) = covariances(model, [first], ROWS)
    both = covariances(model, [first, second], ROWS)  # the other layer alone is measured
    assert torch.equal(both[0], alone)
    files = sorted((tmp_path / "covariances").iterdir())
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:-1])  # measured anew
    for again, moment in zip(covariances(model, [first, second], ROWS), both, strict=True):
        torch.testing.assert_close(again, moment, atol=1e-6, rtol=1e-5)
    both = covariances(model, [first, second], ROWS)
    monkeypatch.setattr(covariance, "second_moments", None)
    assert all(map(torch.equal, covariances(model, [first, second], ROWS), both))
    monkeypatch.undo()
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path))
    other = tiny_model(seed=1)
    covariances(other, sites(other), ROWS)
    covariances(model, [first], ROWS[:-1])
    assert len(list((tmp_path / "covariances").iterdir())) == 5


def test_an_interruption_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(covariance.Report, "at", interrupted)
    model = tiny_model()
    with pytest.raises(KeyboardInterrupt):
        covariances(model, sites(model), ROWS)
    assert not list(tmp_path.rglob("*.safetensors*"))


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path / "file"))
    model = tiny_model()
    with pytest.raises(ModelError, match="HOREN_CACHE"):
        covariances(model, sites(model), ROWS)


def test_the_text(tmp_path: Path):
    contexts = Contexts(tiny_model(), tiny_tokenizer(), ())
    rows = text_rows(contexts, "", 700)
    assert [len(row) for row in rows] == [256, 256, 188]
    assert text_rows(contexts, "", 300) == [rows[0], rows[1][:44]]
    assert tiny_tokenizer().decode(rows[0]).startswith("The town council")
    file = tmp_path / "text.txt"
    file.write_text("Seven green boats.\n\nWhy not green?\n", encoding="utf-8")
    (row,) = text_rows(contexts, str(file), 700)
    assert tiny_tokenizer().decode(row) == "Seven green boats.\nWhy not green?\n"
    narrow = Contexts(tiny_model(max_position_embeddings=5), tiny_tokenizer(), ())
    assert max(map(len, text_rows(narrow, str(file), 700))) == 5


def test_a_text_that_cannot_be_used(tmp_path: Path):
    contexts = Contexts(tiny_model(), tiny_tokenizer(), ())
    (tmp_path / "empty").write_text("\n\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    for name in ("nothing", "empty", "bytes", ""):
        with pytest.raises(ConfigError, match="text="):
            text_rows(contexts, str(tmp_path / name), 100)


# --- what is trained -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "opt"])
@pytest.mark.parametrize("unit", ["site", "absolute"])
def test_the_objective_by_hand(family: str, unit: str):
    model = tiny_model(family)
    layout = Layout.of(model)
    site = Site(1, layout.mlp(1)[1], "output", "mlp_output")
    contexts = Contexts(model, tiny_tokenizer(), ())
    maker = Requests(contexts, tiny_tokenizer(), 1, train_end=True)
    given = [*maker.of(Edit(EDITED, "Rome", subject="France")), *maker.of(Edit("Hello", "Mira Sand"))]
    given += maker.of(Edit("Who wrote Hamlet?", "Oslo", subject="Hamlet"))
    config = RomeConfig(kl_weight=0.5, weight_decay=0.25, max_norm=2.0, learning_rate_unit=unit)
    lengths = torch.tensor([3.0, 4.0, 0.5])
    rows = [(number, sample) for number, request in enumerate(given) for sample in request.samples]
    owner = torch.tensor([number for number, _ in rows])
    essences = [request.essence for request in given if request.essence is not None]
    objective = Located(
        Tail(model, layout, site, [*(sample for _, sample in rows), *essences]),
        *(owner, torch.tensor([0, 2]), lengths, config),
    )
    values = torch.randn(3, HIDDEN, generator=torch.Generator().manual_seed(1))
    values[0] *= 2.0 / values[0].norm()  # as it is; the last is far too long
    values[2] *= 7.0 / values[2].norm()
    shortened = values.clone()
    shortened[2] /= 7.0

    def by_hand(row: int) -> float:
        number, sample = rows[row]
        loss = _log_probabilities(model, site, sample, shortened[number])[sample.lead :].sum()
        length, size = float(shortened[number].norm()), float(lengths[number])
        penalty = 0.25 * length / (size if unit == "site" else size**2)
        essence = given[number].essence
        if essence is not None:
            new = _next(model, site, essence, shortened[number])
            old = _next(model, site, essence, torch.zeros(HIDDEN))
            penalty += 0.5 * float((new.exp() * (new - old)).sum())
        return float(loss) - penalty * (len(sample.target) - sample.lead)

    with torch.no_grad():
        found, real = objective.log_probabilities(values[owner])
        wanted = [by_hand(row) for row in range(len(rows))]
        assert found.sum(-1).tolist() == pytest.approx(wanted, abs=1e-3)
        assert not found[~real].any()
        kept = torch.tensor([2, 3, 4, 5])
        part, _ = objective.keep(kept).log_probabilities(values[owner[kept]])
        assert part.sum(-1).tolist() == pytest.approx(wanted[2:], abs=1e-3)
        (bare,) = objective.keep(kept).keep(torch.tensor([0, 1])).log_probabilities(values[[1, 1]])[0].sum(-1)[:1]
        assert float(bare) == pytest.approx(wanted[2], abs=1e-3)
        rough, _ = objective.rough(Arithmetic.BFLOAT16).log_probabilities(values[owner])
        torch.testing.assert_close(rough, found, atol=1.0, rtol=0.1)
        assert torch.equal(objective.log_probabilities(values[owner])[0], found)


def _logits(model: PreTrainedModel, site: Site, sample: Sample, value: Tensor) -> Tensor:
    ids = [*sample.prompt, *sample.target]
    with written_by_hand(site.module, {(0, len(sample.prompt) - 1): value}, (1, len(ids))):
        return logits(model, ids).log_softmax(-1)


def _log_probabilities(model: PreTrainedModel, site: Site, sample: Sample, value: Tensor) -> Tensor:
    found = _logits(model, site, sample, value)[len(sample.prompt) - 1 : -1]
    return found.gather(1, torch.tensor(sample.target)[:, None])[:, 0]


def _next(model: PreTrainedModel, site: Site, essence: Sample, value: Tensor) -> Tensor:
    return _logits(model, site, essence, value)[-2]


def test_values_are_shortened():
    found = bounded(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]), torch.tensor([1.0, 1.0, 1.0]))
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    value = torch.zeros(1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(bounded(value, torch.ones(1)).sum(), value)
    assert gradient.tolist() == [[1.0, 1.0]]
    assert math.isfinite(float(bounded(torch.full((1, 2), 1e-30), torch.ones(1)).sum()))
