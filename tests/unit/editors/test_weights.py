"""What every method that changes weights does with them, shown by one that adds a number to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from horen import Edit, EditError, MismatchError, ModelError, StoreError
from horen.config.settings import Settings
from horen.editors.common.weights import WeightMethod
from horen.store import read_folder, write_folder
from support.editors import EDITED, OTHER, checksums, ids_of, logits, same_weights
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

NAMES = ("model.layers.1.mlp.down_proj.weight", "model.layers.2.mlp.down_proj.weight")
ONE, TWO = Edit(EDITED, "Rome"), Edit(OTHER, "Oslo", ("Another way to ask",), "Toko Yasuda")


class Adding(WeightMethod):
    """Adds 1 for each edit, and counts them."""

    name = "adding"

    def __init__(self, names: Sequence[str] = NAMES, dtype: torch.dtype = torch.float32, broken: bool = False) -> None:
        self.count = torch.zeros(1)
        self.broken = broken
        super().__init__(tiny_model().to(dtype), tiny_tokenizer(), Settings(), names)

    def _write(self, edits: Sequence[Edit]) -> None:
        assert not self.model.training
        assert not any(parameter.requires_grad for parameter in self.model.parameters())
        self._add({name: torch.full_like(self._altered[name].data, len(edits)) for name in self._altered})
        self.count += len(edits)
        if self.broken:
            raise KeyboardInterrupt

    def _statistics(self) -> dict[str, Tensor]:
        return {"count": self.count}

    def _take_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        self.count = statistics["count"]


def weights(method: Adding) -> list[Tensor]:
    return [method.model.get_parameter(name).detach().clone() for name in NAMES]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_closing_gives_the_model_back_bit_for_bit(dtype: torch.dtype):
    method = Adding(dtype=dtype)
    before, logits_before = checksums(method.model), logits(method.model, ids_of(EDITED))
    method.edit([ONE, TWO])
    assert not same_weights(method.model, before)
    with method.disabled(), method.disabled():
        assert same_weights(method.model, before)
        assert torch.equal(logits(method.model, ids_of(EDITED)), logits_before)
    assert not same_weights(method.model, before)
    method.close()
    method.close()
    assert same_weights(method.model, before)
    for action in (lambda: method.edit([ONE]), method.undo, lambda: method.disabled().__enter__()):
        with pytest.raises(ModelError, match="closed"):
            action()


def test_the_last_call_can_be_taken_back():
    method = Adding()
    with pytest.raises(ModelError, match="no edit to take back"):
        method.undo()
    method.edit([ONE])
    once = weights(method)
    method.edit([TWO])
    method.edit([TWO])  # nothing new
    method.undo()
    assert all(map(torch.equal, weights(method), once))
    assert int(method.count) == 1
    with pytest.raises(ModelError, match="no edit to take back"):
        method.undo()
    method.edit([TWO])  # it is no longer known
    assert int(method.count) == 2


def test_an_interruption_leaves_everything_as_it_was():
    method = Adding()
    method.edit([ONE])
    before = weights(method)
    method.broken = True
    with pytest.raises(KeyboardInterrupt):
        method.edit([TWO])
    with pytest.raises(EditError, match="contradict"):
        method.edit([Edit("One", "Rome"), Edit("Two", "Oslo", ("One",))])
    assert all(map(torch.equal, weights(method), before))
    assert int(method.count) == 1
    method.broken = False
    method.undo()
    assert int(method.count) == 0


def test_a_state_is_taken_up_again(tmp_path: Path):
    method = Adding()
    assert method.stored_bytes() == 0
    method.edit([ONE, TWO])
    assert method.stored_bytes() == sum(weight.nbytes for weight in weights(method)) + 4
    method.save(tmp_path / "state")
    again = Adding()
    again.edit([Edit("Hello", "Paris")])
    again.restore(tmp_path / "state")
    assert all(map(torch.equal, weights(again), weights(method)))
    assert int(again.count) == 2
    again.edit([ONE, TWO])  # both are known
    assert int(again.count) == 2
    with pytest.raises(ModelError, match="no edit to take back"):
        again.undo()
    again.close()
    assert same_weights(again.model, checksums(tiny_model()))


def test_a_damaged_or_foreign_state_changes_nothing(tmp_path: Path):
    method = Adding()
    method.edit([ONE])
    before = weights(method)
    method.save(tmp_path / "state")
    found = read_folder(tmp_path / "state", kind="state of the method adding")
    tensors = dict(found.tensors)
    for name in ("statistics.count", f"weights.{NAMES[0]}"):
        fewer = {other: tensor for other, tensor in tensors.items() if other != name}
        write_folder(
            tmp_path / name,
            config=found.config,
            records=found.records,
            tensors=fewer,
            kind="state of the method adding",
        )
        with pytest.raises(StoreError, match="restore the folder from a copy"):
            method.restore(tmp_path / name)
    with pytest.raises(StoreError):
        method.restore(tmp_path / "nowhere")
    other = Adding(dtype=torch.bfloat16)
    with pytest.raises((MismatchError, StoreError)):
        other.restore(tmp_path / "state")
    assert all(map(torch.equal, weights(method), before))
    assert int(method.count) == 1


def test_one_method_at_a_time():
    method = Adding()
    with pytest.raises(ModelError, match="Another method holds"):
        WeightMethod.__init__(method, method.model, tiny_tokenizer(), Settings(), NAMES)
    with pytest.raises(ModelError, match="no parameter 'nothing'"):
        Adding(["nothing"])
