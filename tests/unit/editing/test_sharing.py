"""Which earlier edit may lend its value, on keys that were made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from horen import Edit
from horen.editing import reuse as sharing
from horen.editing.plan import Plan
from horen.editing.reuse import find_sources
from horen.edits import EditRecord
from horen.memory import Codebook
from horen.store.history import History

SIZE, THRESHOLD = 24, 0.9
# Few points, so that keys tie, and for each of them some that are about as near as the threshold.
POINTS = torch.randn(3, 1, SIZE, generator=torch.Generator().manual_seed(0))
KEYS = normalize(POINTS + 0.4 * torch.randn(3, 4, SIZE, generator=torch.Generator().manual_seed(1)), dim=-1)
KEYS = KEYS.reshape(-1, SIZE)

# An edit: the keys of its wordings, the prompt's first, and its target.
Given = tuple[list[int], str]
lists = st.lists(
    st.tuples(st.lists(st.integers(0, len(KEYS) - 1), min_size=1, max_size=3), st.sampled_from(["a", "b", "a "])),
    max_size=12,
)


def plans_of(edits: Sequence[Given]) -> list[Plan]:
    return [
        Plan(Edit(f"prompt {number}", target), keys=KEYS[wordings]) for number, (wordings, target) in enumerate(edits)
    ]


class Store:
    """A codebook with a history; every edit has a value of its own, numbered as the edit is."""

    def __init__(self) -> None:
        self.codebook, self.history = Codebook(SIZE, 1), History()

    def find(self, plans: Sequence[Plan]) -> None:
        find_sources(plans, self.codebook, self.history, THRESHOLD)

    def write(self, plans: Sequence[Plan]) -> None:
        for item in plans:
            assert item.keys is not None
            value = self.codebook.add_value(torch.zeros(1))
            entries = tuple(self.codebook.add_entries(item.keys, value))
            found = (item.edit.prompt, item.edit.target, (), entries, value, 0.0, 1, True, False, "")
            self.history.record("edit", [EditRecord(value + 1, *found)])


def sources(edits: Sequence[Given], together: int, stored: int = 0) -> list[int | None]:
    """Numbers of the edits whose values are taken, of the edits after the first so many, which are stored before."""
    plans, store = plans_of(edits), Store()
    store.write(plans[:stored])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "_TOGETHER", together)
        store.find(plans[stored:])
    numbers = {id(item): number for number, item in enumerate(plans)}
    return [numbers[id(p.source)] if isinstance(p.source, Plan) else p.source for p in plans[stored:]]


def expected(edits: Sequence[Given]) -> list[int | None]:
    """By a look at every earlier wording, one edit after another."""
    found: list[int | None] = []
    for number, (wordings, target) in enumerate(edits):
        best, source = THRESHOLD, None
        for earlier, (others, _) in enumerate(edits[:number]):
            similarity = float(cosines(KEYS[wordings[0]], KEYS[others]).max())
            if similarity > best:
                best, source = similarity, earlier
        same = source is not None and edits[source][1].strip() == target.strip()
        found.append(source if same else None)
    return found


def cosines(query: Tensor, keys: Tensor) -> Tensor:
    return (query * keys).sum(-1).clamp(max=1)


def test_the_keys_are_on_both_sides_of_the_threshold():
    near = torch.stack([cosines(key, KEYS) for key in KEYS])
    assert ((near > 0.8) & (near < THRESHOLD)).any()
    assert ((near > THRESHOLD) & (near < 0.99)).any()


@given(lists, st.integers(1, 5))
def test_the_nearest_earlier_edit_lends_its_value_whatever_is_looked_for_together(edits: list[Given], together: int):
    assert sources(edits, together) == sources(edits, 1000) == expected(edits)


@given(lists, st.integers(0, 12), st.integers(1, 5))
def test_it_is_the_same_edit_when_the_first_of_the_list_are_stored(edits: list[Given], stored: int, together: int):
    assert sources(edits, together, stored) == expected(edits)[stored:]


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor had that was made within the block."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.numbers = max(self.numbers, *(x.numel() for x in tree_leaves(made) if isinstance(x, Tensor)), 0)
        return made


def test_there_is_no_table_of_all_by_all():
    count = 2_000
    keys = normalize(torch.randn(count // 2, SIZE, generator=torch.Generator().manual_seed(2)), dim=-1).repeat(2, 1)
    plans = [Plan(Edit(str(number), "a"), keys=key[None]) for number, key in enumerate(keys)]
    with Largest() as largest:
        Store().find(plans)
    assert all(item.source is plans[number] for number, item in enumerate(plans[count // 2 :]))
    assert largest.numbers < count**2 / 8
