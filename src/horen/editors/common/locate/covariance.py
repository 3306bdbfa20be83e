"""C = E[k kᵀ] of the inputs of down projections over running text, measured once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel

from horen.editfiles.atomic import write_whole
from horen.errors import ModelError
from horen.model.batching import batches
from horen.model.devices import device_of
from horen.model.fingerprint import fingerprint
from horen.model.layout import Site
from horen.model.sources import Activations
from horen.model.zoo.cache import Report, cache_dir, is_disk_full

_LAYOUT = 1  # raised when what an older version measured must not be used any more
_NAME = "covariance"
_ROWS = 8


def exact(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, on its own device where that computes in float64, else on the CPU."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def covariances(
    model: PreTrainedModel, sites: Sequence[Site], rows: Sequence[Sequence[int]], *, progress: bool = False
) -> list[Tensor]:
    """Return C = E[k kᵀ], uncentred, at each site; read from the cache where it was measured before.

    What is kept belongs to these weights, layers and token ids and to no others. Layers that are missing are measured
    in one pass, in float64, and kept as a whole or not at all.

    Args:
        model: in evaluation mode, without edits.
        sites: inputs of down projections, in the order of the layers.
        rows: token ids of the text.
        progress: show a bar on stderr while it is measured.

    Returns:
        [d_k, d_k] float64 for each site, on the model's device if that has float64.

    Raises:
        ModelError: when the cache folder cannot be written.
    """
    said = {"layout": _LAYOUT, "model": fingerprint(model), "rows": [list(row) for row in rows]}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]
    places = [cache_dir() / "covariances" / f"{digest}-layer-{site.layer}.safetensors" for site in sites]
    found = [_read(place) for place in places]
    missing = [number for number, known in enumerate(found) if known is None]
    if missing:
        with Report(progress) as report:
            report.phase("Measuring covariances of keys (once)", sum(map(len, rows)))
            measured = second_moments(model, [sites[number] for number in missing], rows, report.at)
        for number, moment in zip(missing, measured, strict=True):
            _keep(places[number], moment)
            found[number] = moment
    device = exact(torch.zeros(0, device=device_of(model))).device
    return [moment.to(device) for moment in found if moment is not None]


def second_moments(
    model: PreTrainedModel,
    sites: Sequence[Site],
    rows: Sequence[Sequence[int]],
    tell: Callable[[int], None] = lambda _: None,
    size: int = _ROWS,
) -> list[Tensor]:
    """Return the mean of k kᵀ over all tokens at each site, [d_k, d_k] float64.

    Args:
        model: in evaluation mode.
        sites: inputs of modules, in the order in which a forward call comes by; nothing after the last is run.
        rows: token ids, each row on its own.
        tell: called with the number of tokens that were read so far.
        size: rows that are run together; it changes results by rounding only.
    """
    source = Activations(model, sites, 0.0)
    widths = source.sizes
    sums: list[Tensor] = []
    count = 0
    for keys in _keys(source, rows, size):
        parts = [exact(part) for part in keys.split_with_sizes(widths, dim=-1)]
        products = [part.T @ part for part in parts]
        sums = [total + product for total, product in zip(sums, products, strict=True)] if sums else products
        count += len(keys)
        tell(count)
    return [total / count for total in sums]


def _keys(source: Activations, rows: Sequence[Sequence[int]], size: int) -> Iterator[Tensor]:
    for batch in batches(rows, size):
        yield torch.cat(source.states([rows[i] for i in batch]))


def _read(place: Path) -> Tensor | None:
    try:
        # A copy begins where torch likes tensors to begin: solves of it then have the bits of what was measured.
        return safetensors.torch.load_file(place)[_NAME].clone()
    except (OSError, SafetensorError, KeyError):
        return None  # absent or damaged: it is measured anew


def _keep(place: Path, moment: Tensor) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, safetensors.torch.save({_NAME: moment.cpu().contiguous()}))
    except OSError as error:
        reason = "the disk is full" if is_disk_full(error) else error.strerror or str(error)
        raise ModelError(
            f"The covariance of {moment.nbytes / 1e9:.2f} GB cannot be kept in {place.parent} ({reason}): free some "
            "space there, or set HOREN_CACHE to a folder that you can write to."
        ) from error
