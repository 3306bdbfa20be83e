"""Reading a calibration's texts once, at every candidate site, into shards that an interruption leaves whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from horen.config import TEXT
from horen.editfiles.atomic import write_whole
from horen.errors import StoreError
from horen.model.batching import read_in_batches
from horen.model.fingerprint import fingerprint
from horen.model.pooling import Pooling
from horen.model.quiet import quiet
from horen.model.sources import Activations, Span
from horen.session import Session

Progress = Callable[[str, int, int], None]

_SHARD = 512
_BATCH = 32
WEIGHTINGS = ("rare", "equal")


class Features:
    """Features of n texts at several sites, float16 on disk, one block in memory at a time.

    Activations are kept in both weightings; a text encoder knows none, so its one site is "text" and "equal".

    Args:
        session: of the model, with every candidate site in ``read_sites``, which nothing was edited with.
        folder: where shards are kept; what an earlier call for the same texts left there is used.

    Attributes:
        sites: name of each site as settings write it, in the order of the network.
        sizes: length of a feature at each.
        weightings: names of those that were read.
        made_for: fingerprint of the model.
    """

    def __init__(self, session: Session, folder: Path) -> None:
        self._session, self._folder = session, folder
        self._place: dict[str, int] = {}
        self._shards: list[Path] = []
        self.made_for = fingerprint(session.model)
        source = session.adapter.reads
        self.sizes = source.sizes
        if isinstance(source, Activations):
            # A whole number of at least 1 names a layer; the first is the depth 0.
            self.sites = [f"{site.name}@{site.layer}" for site in source.sites]
            self.weightings: tuple[str, ...] = WEIGHTINGS
        else:
            self.sites, self.weightings = [TEXT], WEIGHTINGS[1:]

    def read(self, texts: Sequence[str], progress: Progress) -> None:
        """Read every text: every second one as a user's message in chat, where the model has a template for it.

        Raises:
            StoreError: when shards cannot be written.
        """
        session = self._session
        identity = [self.made_for, session.config.encoder, self.sites, self.sizes]
        digest = hashlib.sha256(json.dumps([identity, list(texts)]).encode()).hexdigest()[:16]
        self._shards = [
            self._folder / f"features-{digest}-{start}.safetensors" for start in range(0, len(texts), _SHARD)
        ]
        self._place = {text: number for number, text in enumerate(texts)}
        self._folder.mkdir(parents=True, exist_ok=True)
        rows = [
            session.contexts.chat([{"role": "user", "content": text}])
            if number % 2 and session.contexts.has_chat
            else session.contexts.plain(text)
            for number, text in enumerate(texts)
        ]
        for number, shard in enumerate(self._shards):
            progress("reading", min(number * _SHARD, len(rows)), len(rows))
            if not _is_whole(shard):
                with quiet(session.adapter):
                    self._write(shard, rows[number * _SHARD : (number + 1) * _SHARD])
        progress("reading", len(rows), len(rows))

    def block(self, site: str, weighting: str) -> Tensor:
        """Return [n, d] float32 features at one site, in the order of the texts."""
        number, together = self.sites.index(site), sum(self.sizes)
        start = sum(self.sizes[:number]) + self.weightings.index(weighting) * together
        parts = []
        for shard in self._shards:
            with safe_open(shard, framework="pt") as file:
                parts.append(file.get_slice("features")[:, start : start + self.sizes[number]].float())
        return torch.cat(parts)

    def places(self, texts: Sequence[str]) -> Tensor:
        """Return the row of each text in a block, [len(texts)]."""
        return torch.tensor([self._place[text] for text in texts])

    def _write(self, shard: Path, rows: Sequence[Sequence[int]]) -> None:
        reader = self._session.reader
        spans = [reader.read(row, len(row)).spans[0] for row in rows]
        found = read_in_batches(
            rows, _BATCH, lambda batch: self._features([rows[i] for i in batch], [spans[i] for i in batch]).cpu()
        )
        # float16 holds what bfloat16 activations hold but for a few coordinates that are beyond its range.
        kept = found.clamp(-65504, 65504).half()
        try:
            write_whole(shard, save({"features": kept.contiguous()}))
        except OSError as error:
            raise StoreError(f"{shard.parent} cannot be written ({error.strerror}): choose another --out.") from error

    def _features(self, rows: Sequence[Sequence[int]], spans: Sequence[Span]) -> Tensor:
        source, share = self._session.adapter.reads, self._session.config.read_share
        if not isinstance(source, Activations):
            return source.of_rows(rows, [[span] for span in spans])
        weighed = {"rare": Pooling(share, self._session.rare_weights), "equal": Pooling(share)}
        return torch.stack(
            [
                torch.cat([weighed[name](states[start:stop], row[start:stop]) for name in self.weightings])
                for row, states, (start, stop) in zip(rows, source.states(rows), spans, strict=True)
            ]
        )


def discard(folder: Path) -> None:
    """Remove the shards that a finished calibration leaves, and the folder where nothing else is in it."""
    for shard in folder.glob("features-*.safetensors"):
        shard.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _is_whole(shard: Path) -> bool:
    try:
        with safe_open(shard, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False
