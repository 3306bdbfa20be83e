"""Writing edits: keys, reuse of values, and training the rest in batches.

Nothing changes in the codebook or the history before every edit of a list has its value, so a failure or an
interruption leaves both as they were.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from horen.config import HorenConfig
from horen.editing.known import KnownValues
from horen.editing.plan import Part, Plan
from horen.editing.reuse import find_sources
from horen.editing.training import Objective, Stored, Trained, packed, seeded, train_checked, train_values
from horen.edits import Edit, EditRecord, Progress, Receipt
from horen.errors import EditError
from horen.memory import Codebook
from horen.model.partial.precision import Arithmetic, Fast, fastest, for_reading
from horen.model.partial.prefix import Prefixes
from horen.model.partial.tail import Tail
from horen.model.partial.windows import cut
from horen.model.quiet import quiet
from horen.session import Session
from horen.store.operations import now

_log = logging.getLogger("horen")

# Keys and values of so many tokens are kept from one window of long targets to the next: as many as are read at once.
_TOKENS_KEPT = 2**13


def write(
    session: Session,
    name: str,
    plans: Sequence[Plan],
    progress: Progress | None = None,
    *,
    known: KnownValues | None = None,
) -> list[Receipt]:
    """Carry out plans as one operation of the history; one receipt each, in order.

    Args:
        session: whose codebook is written.
        name: of the operation.
        plans: what becomes of each edit.
        progress: called with (edits done, edits to write).
        known: values, and maybe keys, that need not be made.

    Raises:
        EditError: for an edit that cannot be encoded, or of which no finite number comes; nothing was changed.
    """
    fresh = [item for item in plans if item.written]
    trainer = _Trainer(session, known)
    trainer.encode(fresh)
    added: Sequence[EditRecord] = ()
    if fresh:
        codebook = session.codebook()
        with quiet(session.adapter):
            trainer.make_keys(fresh)
            find_sources(fresh, codebook, session.history, session.config.sharing_threshold)
            trainer.train(fresh, codebook, progress)
        _check_finite(fresh)
        added = _commit(session, name, fresh, codebook)
    written = iter(added)
    return [_receipt(next(written) if item.written else session.history.get(item.stored[0]), item) for item in plans]


def warn(edits: Sequence[Edit], receipts: Sequence[Receipt], *, resembling: bool) -> None:
    """Log which edits did not converge and, with ``resembling``, which look like stored ones."""
    for edit, receipt in zip(edits, receipts, strict=True):
        if not receipt.converged and receipt.action in {"added", "superseded"}:
            _log.warning("Edit %d (%r) did not converge: loss %.3f.", receipt.id, edit.prompt, receipt.loss)
        if resembling and receipt.resembles is not None:
            _log.warning(
                "Edit %d (%r) looks like edit %d in other words: remove that one if it is out of date.",
                *(receipt.id, edit.prompt, receipt.resembles),
            )


class _Trainer:
    """Makes keys and values for planned edits of one model."""

    def __init__(self, session: Session, known: KnownValues | None) -> None:
        self._session, self._adapter, self._config = session, session.adapter, session.config
        self._known = known
        self._first: Prefixes | None = None  # what comes before the first values of a list's edits
        self._plans: Sequence[Plan] = ()
        self._progress: Progress | None = None
        self._arithmetic = fastest(session.model, session.config, coarse=True)
        self._fast: Fast | None = None
        self._reading = for_reading(session.model, session.config)

    def encode(self, plans: Sequence[Plan]) -> None:
        """Turn every edit into token ids.

        Raises:
            EditError: for one that cannot be; nothing was run yet.
        """
        for item in plans:
            item.rows = self._session.contexts.wordings(item.edit)
            contexts = self._session.contexts
            samples = contexts.samples(item.edit, self._config)
            unasked = partial(contexts.unasked, item.edit, self._config)
            windows, item.left = cut(samples, unasked, self._config.value_tokens, contexts.ends.all)
            # A value starts at a place of its own, which its neighbours in a list have no part in.
            for number, found in enumerate(windows):
                item.parts.append(Part(found, item.edit.prompt + chr(0) * number, tuple(item.parts)))

    def make_keys(self, plans: Sequence[Plan]) -> None:
        """Read every wording of every plan whose keys are not known."""
        known = self._known
        if known is not None:
            for item in plans:
                item.keys = known.keys(item.edit, len(item.rows))
        unread = [item for item in plans if item.keys is None]
        rows = [row for item in unread for row in item.rows]
        if not rows:
            return
        keys = iter(self._config.of_keys().rounded(self._session.keys(rows)))
        for item in unread:
            item.keys = torch.stack([next(keys) for _ in item.rows])

    def train(self, plans: Sequence[Plan], codebook: Codebook, progress: Progress | None) -> None:
        """Give every plan its values: that of its source where it holds, else some of its own."""
        self._plans, self._progress = plans, progress
        waiting = [item for item in plans if item.source is not None]
        unknown = self._unknown([item for item in plans if item.source is None])
        self._first = self._read([item.parts[0] for item in plans if not item.trained])
        self._optimise(unknown)
        while waiting:
            ready = [i for i in waiting if not isinstance(i.source, Plan) or i.source.trained]
            owners = {id(item.parts[0]): item for item in ready}
            for batch in self._batches([item.parts[0] for item in ready]):
                found = [owners[id(part)] for part in batch]
                starts = torch.stack([_source_value(item, codebook) for item in found])
                for item, trained in zip(found, self._run(batch, starts, self._first), strict=True):
                    # Without early stopping (the published recipe) the nearest entry is taken at its word.
                    if trained.converged or self._config.stop_probability == 1:
                        item.parts[0].trained, item.reused = trained, True
                self._tell()
            self._optimise(self._unknown([item for item in ready if not item.reused]))
            waiting = [item for item in waiting if not item.trained]

    def _unknown(self, plans: list[Plan]) -> list[Part]:
        """Give values to plans whose edits have them elsewhere; the parts of the others, which must be trained."""
        known = self._known
        if known is not None:
            for item in plans:
                for part, trained in zip(item.parts, known.find(item.edit, item.left) or [], strict=False):
                    part.trained = trained
        return [part for item in plans if not item.trained for part in item.parts]

    def _optimise(self, parts: list[Part]) -> None:
        """Train values, those that stand first in their answers first: later ones are trained behind them."""
        self._fit([part for part in parts if not part.earlier], self._first)
        for some in _together([part for part in parts if part.earlier]):
            prefixes: Prefixes | None = None
            for place in sorted({len(part.earlier) for part in some}):
                here = [part for part in some if len(part.earlier) == place]
                prefixes = self._read(here, prefixes)
                self._fit(here, prefixes)

    def _fit(self, parts: list[Part], prefixes: Prefixes | None) -> None:
        for batch in self._batches(parts):
            for part, trained in zip(batch, self._run(batch, None, prefixes), strict=True):
                part.trained = trained
            self._tell()

    def _read(self, parts: list[Part], before: Prefixes | None = None) -> Prefixes | None:
        """Return what comes before the last token of the parts' prompts, with the values that stand there.

        ``before`` is what was read for the windows just before these.
        """
        written: dict[tuple[int, ...], list[tuple[int, Tensor]]] = {}
        for part in parts:
            values = [earlier.trained.value for earlier in part.earlier if earlier.trained is not None]
            for sample in part.samples:
                written[sample.prompt[:-1]] = list(zip(sample.written, values, strict=True))
        begun = before.kept if before is not None else {}
        site = self._adapter.write
        return (
            Prefixes(self._session.model, written, site, written, begun=begun, reading=self._reading)
            if written
            else None
        )

    def _tell(self) -> None:
        if self._progress is not None:
            parts = [part for item in self._plans for part in item.parts]
            done = sum(part.trained is not None for part in parts)
            self._progress(len(self._plans) * done // len(parts), len(self._plans))

    def _batches(self, parts: list[Part]) -> Iterator[list[Part]]:
        vocabulary = int(self._session.model.config.get_text_config(decoder=True).vocab_size)
        lengths = [[len(sample.target) for sample in part.samples] for part in parts]
        for batch in packed(lengths, self._config.batch_tokens, vocabulary):
            yield [parts[i] for i in batch]

    def _run(self, parts: list[Part], held: Tensor | None, prefixes: Prefixes | None) -> list[Trained]:
        """Train parts' values or, of [E, P] values that are held already, measure how they do here."""
        samples = [sample for part in parts for sample in part.samples]
        owner = [number for number, part in enumerate(parts) for _ in part.samples]
        adapter = self._adapter
        tail = Tail(adapter.model, adapter.layout, adapter.write, samples, prefixes)
        exact = self._stored(tail)
        if held is not None:
            trained = train_values(exact, owner, held, self._config, max_steps=0)
        elif self._arithmetic is not None:
            # Made once for a list, by its first batch.
            self._fast = tail.fast(self._arithmetic) if self._fast is None else self._fast
            fast = self._stored(tail.rough(self._fast))
            finer = self._finer(tail) if self._arithmetic is Arithmetic.INT8 else None
            trained = train_checked(fast, exact, owner, self._starts(parts, tail), self._config, finer=finer)
        else:
            trained = train_values(exact, owner, self._starts(parts, tail), self._config)
        rounded = self._config.storage().rounded
        return [replace(item, value=rounded(item.value[None])[0]) for item in trained]

    def _finer(self, tail: Tail) -> Callable[[], Objective]:
        """Return what makes an objective between bytes and the exact one."""
        arithmetic = fastest(self._session.model, self._config) or Arithmetic.MODEL
        return lambda: self._stored(tail.rough(tail.fast(arithmetic)))

    def _starts(self, parts: list[Part], tail: Tail) -> Tensor:
        size = self._adapter.layout.hidden_size
        starts = torch.stack([_start(part.seed, size, self._config) for part in parts])
        if not self._adapter.write.replaces:
            return starts
        # What is there without an edit, in the first context.
        firsts = torch.tensor([len(part.samples) for part in parts[:-1]]).cumsum(0)
        return starts.to(tail.outputs) + tail.outputs[[0, *firsts.tolist()]]

    def _stored(self, objective: Objective) -> Objective:
        """Return the objective of values as they will be read back."""
        storage = self._config.storage()
        return objective if storage.exact else Stored(objective, storage.rounded)


def _together(parts: Sequence[Part]) -> list[list[Part]]:
    """Put further values' parts in groups, which are trained one group after another; an edit's are in one.

    What stands before a window is known by its tokens, so a group has two windows behind the same ones only if they are
    the same edit's; and it is kept for the next window, so a group is no larger than what may be kept.
    """
    edits: dict[int, list[Part]] = {}
    for part in parts:
        edits.setdefault(id(part.earlier[0]), []).append(part)
    groups: list[list[Part]] = []
    taken: set[tuple[int, ...]] = set()
    held = 0
    for own in edits.values():
        rows = {sample.prompt[:-1] for part in own for sample in part.samples}
        size = sum(len(sample.prompt) for sample in own[-1].samples)
        if not groups or held + size > _TOKENS_KEPT or not taken.isdisjoint(rows):
            groups.append([])
            taken, held = set(), 0
        groups[-1] += own
        taken |= rows
        held += size
    return groups


def _check_finite(plans: Sequence[Plan]) -> None:
    """Raise EditError for an edit of which no finite number came: it could never fire, nor be saved."""
    for item in plans:
        results = _results(item)
        if item.keys is not None and not item.keys.isfinite().all():
            what = "what the model makes of its prompt or of a rephrase"
        elif not all(math.isfinite(one.loss) for one in results):
            what = f"the loss of its target {item.edit.target!r}"
        elif not all(bool(one.value.isfinite().all()) for one in results):
            what = "its value"
        else:
            continue
        raise EditError(
            f"The edit of {item.edit.prompt!r} cannot be made: {what} is not finite, so nothing was changed. Load the "
            "model with another dtype, such as float32, or leave this edit out."
        )


def _commit(session: Session, name: str, plans: list[Plan], codebook: Codebook) -> Sequence[EditRecord]:
    history = session.history
    entries, values = codebook.entries, len(codebook.values)
    gone = dict.fromkeys(number for item in plans for number in item.stored)
    replaced = [history.get(number) for number in gone]
    numbers: dict[int, int] = {}
    added = []
    with codebook.together():
        try:
            for offset, item in enumerate(plans):
                if not item.trained or item.keys is None:
                    raise RuntimeError(f"The edit of {item.edit.prompt!r} was not trained.")
                if item.reused:
                    value = numbers[id(item.source)] if isinstance(item.source, Plan) else int(item.source or 0)
                else:
                    value = len(codebook.values)
                    for part in _results(item):
                        codebook.add_value(part.value)
                numbers[id(item)] = value
                rows = codebook.add_entries(item.keys, value)
                added.append(_record(history.next_id + offset, item, value, rows))
            codebook.set_awake((entry for record in replaced for entry in record.entries), False)
            return history.record(name, added, gone).added
        except BaseException:
            if not (added and history.is_active(added[-1].id)):
                codebook.truncate(entries=entries, values=values)
                codebook.set_awake((entry for record in replaced for entry in record.entries), True)
            raise


def _record(number: int, item: Plan, value: int, rows: range) -> EditRecord:
    results = _results(item)
    tokens = [sum(len(sample.target) for sample in part.samples) for part in item.parts]
    return EditRecord(
        id=number,
        prompt=item.edit.prompt,
        target=item.edit.target,
        rephrases=tuple(item.edit.rephrases),
        entries=tuple(rows),
        value=value,
        loss=sum(one.loss * count for one, count in zip(results, tokens, strict=True)) / sum(tokens),
        steps=max(one.steps for one in results),
        converged=all(one.converged for one in results),
        reused=item.reused,
        created=now(),
        replaces=item.stored,
        left=item.left,
    )


def _receipt(record: EditRecord, item: Plan) -> Receipt:
    replaced = item.stored if item.written else ()
    return Receipt(
        record.id, record.loss, record.steps, record.converged, record.reused, item.action, replaced, item.resembles
    )


def _start(seed: str, size: int, config: HorenConfig) -> Tensor:
    generator = seeded(seed)
    if config.value == "lora":
        # A random and B zero, as low-rank adapters start: the map is nothing yet, and its gradient is not.
        start = torch.zeros(config.lora_rank, 2, size)
        start[:, 0] = torch.randn(config.lora_rank, size, generator=generator) / size**0.5
        return start.flatten()
    return torch.rand(size, generator=generator) if config.start == "uniform" else torch.zeros(size)


def _source_value(item: Plan, codebook: Codebook) -> Tensor:
    if isinstance(item.source, Plan):
        return _results(item.source)[0].value
    return codebook.read_values([item.source or 0])[0]


def _results(item: Plan) -> list[Trained]:
    """Return what became of each value of a plan; all are trained."""
    return [part.trained for part in item.parts if part.trained is not None]
