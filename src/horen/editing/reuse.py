"""Which value an edit may share: that of the nearest earlier edit, where both have the same target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from horen.editing.plan import Plan
from horen.edits import EditRecord, same_text
from horen.memory import Codebook
from horen.store.history import History

# Edits that look among all earlier ones in one go; each other they look at one by one.
_TOGETHER = 128


def find_sources(plans: Sequence[Plan], codebook: Codebook, history: History, threshold: float) -> None:
    """Note for each plan the nearest entry with the same target, if it is nearer than the threshold.

    Nearness is measured before refinement, and earlier plans of the list count as stored: so the outcome does not
    depend on how a list was split. Memory grows with the list, not with its square.

    Args:
        plans: with their keys; their sources are set.
        codebook: what is stored.
        history: of the edits whose entries those are.
        threshold: the cosine that must be exceeded.
    """
    # What would be stored if the list were written one by one; in the place of values it has the plans' numbers.
    listed = Codebook(codebook.keys.shape[1], 0, device=codebook.keys.device)
    for start in range(0, len(plans), _TOGETHER):
        block, first = plans[start : start + _TOGETHER], listed.entries
        queries = torch.stack([_keys(item)[0] for item in block])
        stored, earlier = codebook.nearest(queries), listed.nearest(queries)
        for row, item in enumerate(block):
            near: list[tuple[float, EditRecord | Plan]] = []
            if stored is not None:
                entry, similarity = stored[row]
                # What is not nearer than the threshold is nobody's source, and need not be read.
                record = history.owner(entry) if similarity > threshold else None
                near.extend([(similarity, record)] if record is not None else [])
            if earlier is not None:
                entry, similarity = earlier[row]
                near.append((similarity, plans[int(listed.value_of[entry])]))
            if row:
                entry, similarity = _nearest(queries[row], listed.keys[first:])
                near.append((similarity, plans[int(listed.value_of[first + entry])]))
            item.source = _source(item, near, threshold)
            listed.add_entries(_keys(item), start + row)


def _nearest(query: Tensor, keys: Tensor) -> tuple[int, float]:
    """Return what :meth:`horen.memory.Codebook.nearest` gives, to the bit: products are summed key by key."""
    similarities = (keys * query).sum(-1).clamp(max=1)
    entry = int(similarities.argmax())
    return entry, float(similarities[entry])


def _source(item: Plan, near: Sequence[tuple[float, EditRecord | Plan]], threshold: float) -> int | Plan | None:
    """Return the value of the nearest, the earlier one's among equals, if it may serve the edit."""
    similarity, found = max(near, key=lambda pair: pair[0]) if near else (threshold, None)
    if found is None or similarity <= threshold:
        return None
    if item.left or found.left:  # several values are trained for where they stand
        return None
    target = found.edit.target if isinstance(found, Plan) else found.target
    if same_text(target) != same_text(item.edit.target):
        return None
    return found if isinstance(found, Plan) else found.value


def _keys(item: Plan) -> Tensor:
    assert item.keys is not None  # noqa: S101 - they are made before
    return item.keys
