"""The text encoder of a scope: reads a prompt into a subject key and a relation key, and judges pairs of prompts."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from horen.editfiles.atomic import write_whole
from horen.edits import same_text
from horen.errors import ModelError, StoreError
from horen.scope.delta import packed, restored
from horen.scope.judging import Judge, Logistic
from horen.scope.networks import RELATION, SUBJECT, Heads, PairCheck, encoded
from horen.scope.wording import Words

DOCUMENT, TENSORS = "scope.json", "scope.safetensors"
_FORMAT = 2
_BATCH = 32
# A check costs more than all else. Of held-back rephrases 0.98 have their own edit among the three nearest keys alone.
_CHECKS = 3
# What the subject weighs in a joined key; the relation has the rest.
_SUBJECT_SHARE = 0.5


@dataclass(frozen=True)
class Judged:
    """What a judge says of one pair of prompts.

    Attributes:
        score: from 0 to 1, how surely both ask for one fact.
        subject: the chance that both are about one subject.
    """

    score: float
    subject: float


class Scope:
    """The networks of a scope and how their evidence is joined.

    Args:
        tokenizer: of the encoder.
        heads: who and what.
        check: both prompts read together.
        words: names and numbers.
        judge: the joined score.
    """

    def __init__(self, tokenizer: Any, heads: Heads, check: PairCheck, words: Words, judge: Judge) -> None:
        self._tokenizer = tokenizer
        self.heads, self.check = heads.eval(), check.eval()
        self.words, self.judge = words, judge
        # What a module list holds moves together and has one fingerprint.
        self.module: nn.Module = nn.ModuleList([self.heads, self.check]).requires_grad_(False)

    @property
    def size(self) -> int:
        """Length of a joined key."""
        return SUBJECT + RELATION

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.module.parameters()).device

    def keys(self, texts: Sequence[str]) -> Tensor:
        """Return [n, 384] float32 unit rows: a subject key, then a relation key, each of length √½."""
        found = torch.zeros(len(texts), self.size, device=self.device)
        for batch in _alike(texts):
            inputs = encoded(self._tokenizer, [texts[i] for i in batch])
            with torch.inference_mode():
                subject, relation = self.heads(**{name: rows.to(self.device) for name, rows in inputs.items()})
            joined = torch.cat([subject * _SUBJECT_SHARE**0.5, relation * (1 - _SUBJECT_SHARE) ** 0.5], dim=-1)
            found[batch] = joined.float()
        return found

    def judged(
        self,
        stored: Sequence[str],
        asked: Sequence[str],
        halves: Tensor,
        *,
        of: Sequence[int] | None = None,
        above: float | None = None,
    ) -> list[Judged]:
        """Return what is to be thought of pairs of a stored and an asked prompt.

        Args:
            stored: n prompts or rephrases of edits.
            asked: the n prompts that came near to them.
            halves: [n, 2], what subject and relation add to the cosine of their joined keys.
            of: n numbers, equal for the candidates of one prompt, of which the three likeliest are checked; None
                checks every pair that is likely.
            above: only a prompt's greatest score is asked for, and only where it exceeds this, which leaves most checks
                out: other scores may then be those of unlikely pairs. None asks for all scores.
        """
        if not stored:
            return []
        evidence = self._evidence(stored, asked, halves)
        first, subjects = self.judge.first(evidence), self.judge.subject(evidence)
        scores = first.clamp(max=self.judge.unlikely)
        # Whoever asks in an edit's very words means that edit, whatever the networks make of them.
        same = [i for i, pair in enumerate(zip(stored, asked, strict=True)) if _plain(pair[0]) == _plain(pair[1])]
        likely = first >= self.judge.unlikely
        likely[same] = False
        scores[same] = subjects[same] = 1.0
        of = range(len(stored)) if of is None else of
        near = _foremost(first, likely, of)
        for some in [near] if above is None else _deciding(near, self.judge.most(evidence), scores, of, above):
            checked = self.checked([stored[i] for i in some], [asked[i] for i in some])
            scores[some] = self.judge.whole(torch.cat([evidence[some], checked], dim=-1))
        return [Judged(*pair) for pair in zip(scores.tolist(), subjects.tolist(), strict=True)]

    def unchecked(self, stored: Sequence[str], asked: Sequence[str], halves: Tensor) -> list[Judged]:
        """Judge without the pair check, which costs more than all else: every pair counts as an unlikely one."""
        if not stored:
            return []
        evidence = self._evidence(stored, asked, halves)
        scores = self.judge.first(evidence).clamp(max=self.judge.unlikely)
        return [Judged(*pair) for pair in zip(scores.tolist(), self.judge.subject(evidence).tolist(), strict=True)]

    def _evidence(self, stored: Sequence[str], asked: Sequence[str], halves: Tensor) -> Tensor:
        """[n, e] what a first score is made of, for n ≥ 1 pairs."""
        shares = torch.tensor([_SUBJECT_SHARE, 1 - _SUBJECT_SHARE])
        wordings = torch.tensor([self.words.evidence(*pair) for pair in zip(stored, asked, strict=True)])
        return torch.cat([halves.float().cpu() / shares, wordings], dim=-1)

    def checked(self, stored: Sequence[str], asked: Sequence[str]) -> Tensor:
        """Return [n, 2] of the pair check: chance of own where it is own or about, and where it is own or other."""
        found = torch.zeros(len(stored), 2)
        for batch in _alike([f"{one} {two}" for one, two in zip(stored, asked, strict=True)]):
            inputs = encoded(self._tokenizer, [stored[i] for i in batch], [asked[i] for i in batch])
            with torch.inference_mode():
                logits = self.check(**{name: rows.to(self.device) for name, rows in inputs.items()}).float().cpu()
            found[batch] = (logits[:, :1] - logits[:, 1:]).sigmoid()
        return found

    def save(self, folder: Path, base: Any, report: dict[str, Any]) -> None:
        """Write what differs from the encoder into a folder.

        Args:
            folder: new, or of an earlier scope.
            base: the encoder as it is fetched.
            report: how it was made, as JSON takes it.

        Raises:
            StoreError: when the folder cannot be written.
        """
        before = {f"encoder.{name}": tensor for name, tensor in base.state_dict().items()}
        tensors: dict[str, Tensor] = {}
        for part, network in (("heads", self.heads), ("check", self.check)):
            stored = packed(before, network.state_dict())
            tensors |= {f"{part}.{name}": tensor.contiguous() for name, tensor in stored.items()}
        content = save(tensors)
        document = {
            "format": _FORMAT,
            "judge": asdict(self.judge),
            "words": dict(self.words.weights),
            "report": report,
            "tensors": {"sha256": hashlib.sha256(content).hexdigest()},
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / TENSORS, content)
            write_whole(folder / DOCUMENT, (json.dumps(document, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise StoreError(f"{folder} cannot be written ({error.strerror}): choose another folder.") from error

    @classmethod
    def load(cls, folder: Path, tokenizer: Any, base: Any) -> Scope:
        """Read what :meth:`save` wrote.

        Args:
            folder: where it is.
            tokenizer: of the encoder.
            base: the encoder as it is fetched; it is taken apart.

        Raises:
            ModelError: when the folder holds no scope, or one that is damaged or of another encoder.
        """
        try:
            document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
            content = (folder / TENSORS).read_bytes()
            if document["format"] != _FORMAT:
                raise ModelError(
                    f"{folder} holds a scope of format {document['format']}, this version reads {_FORMAT}: train it "
                    "again with `horen scope`, or use the version of horen that wrote it."
                )
            if hashlib.sha256(content).hexdigest() != document["tensors"]["sha256"]:
                raise ModelError(f"{folder / TENSORS} is truncated or was altered: install the package again.")
            stored = load(content)
            heads, check = Heads(base), PairCheck(_upper_copy(base))
            before = {f"encoder.{name}": tensor for name, tensor in base.state_dict().items()}
            # The heads stand on the encoder itself, so the check, which was copied of it, comes first.
            for part, network in (("check", check), ("heads", heads)):
                own = {name[len(part) + 1 :]: t for name, t in stored.items() if name.startswith(f"{part}.")}
                network.load_state_dict(restored(before, own, network.state_dict()), assign=True)
            told = document["judge"]
            first, whole, subject = (
                Logistic(tuple(told[name]["weights"]), told[name]["bias"]) for name in ("first", "whole", "subject")
            )
            judge = Judge(first, whole, subject, told["unlikely"])
            _lay_out(heads, check)
            return cls(tokenizer, heads, check, Words(document["words"]), judge)
        except ModelError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise ModelError(f"{folder} holds no usable scope ({error}): give a folder that training wrote.") from error


def _plain(text: str) -> str:
    """Return a text as it counts for being the same: without case, marks at the end and white space."""
    return same_text(text).casefold().rstrip(" .?!:")


def _foremost(first: Tensor, likely: Tensor, of: Sequence[int]) -> list[int]:
    """Numbers of the likely pairs [n], of each prompt those with the greatest first scores."""
    checks: Counter[int] = Counter()
    found = []
    for number in first.argsort(descending=True, stable=True).tolist():
        if likely[number] and checks[of[number]] < _CHECKS:
            checks[of[number]] += 1
            found.append(number)
    return sorted(found)


def _deciding(
    near: Sequence[int], most: Tensor, scores: Tensor, of: Sequence[int], above: float
) -> Iterator[list[int]]:
    """Yield numbers of the pairs to check next, while a check can still make one the first of its prompt.

    Args:
        near: of the pairs that may be checked.
        most: [n], what each may score.
        scores: [n], where those that were yielded have their own by the time the next are asked for.
        of: as :meth:`Scope.judged` has it.
        above: likewise.
    """
    left = sorted(near, key=lambda number: -float(most[number]))
    for last in (False, True):  # of each prompt the most promising one, which mostly settles it; then what is left
        best = dict.fromkeys(of, above)
        for number, prompt in enumerate(of):
            best[prompt] = max(best[prompt], float(scores[number]))
        left = [number for number in left if float(most[number]) >= best[of[number]]]
        first = left if last else list({of[number]: number for number in reversed(left)}.values())
        left = [number for number in left if number not in first]
        if first:
            yield sorted(first)


def _lay_out(*networks: nn.Module) -> None:
    """Lay weights of maps so in memory that a few rows, which one prompt has, are multiplied without packing them."""
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.weight = nn.Parameter(module.weight.detach().t().contiguous().t(), requires_grad=False)


def _upper_copy(base: Any) -> Any:
    """Return a copy of an encoder that shares its embeddings, which are half of it and stay as they are."""
    memo = {id(base.embeddings): base.embeddings}
    return copy.deepcopy(base, memo)


def _alike(texts: Sequence[str]) -> list[list[int]]:
    """Numbers of texts in batches of like length, so that little is padding."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    return [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
