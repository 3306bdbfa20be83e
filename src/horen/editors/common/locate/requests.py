"""What locate-then-edit methods make of an edit: its wordings in several contexts, each up to its subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from horen.config import HorenConfig
from horen.editors.common.locate.openings import openings
from horen.edits import Edit
from horen.model.contexts import Contexts
from horen.model.partial.tail import Sample


@dataclass(frozen=True)
class Request:
    """One wording of an edit.

    Attributes:
        samples: its training contexts, the bare wording first. ``Sample.prompt`` ends with the subject's last token,
            where the key is read and the value written; the wording's rest leads the target.
        essence: "{subject} is a" up to the subject's last token, its rest leading one token that stands for any; None
            where the wording does not name its subject.
    """

    samples: tuple[Sample, ...]
    essence: Sample | None


class Requests:
    """Makes requests of edits.

    Args:
        contexts: of the model.
        tokenizer: of the same model, a fast one.
        prefixes: number of texts that are put before a wording.
        train_end: whether the end token is trained after the target.
    """

    def __init__(
        self, contexts: Contexts, tokenizer: PreTrainedTokenizerBase, prefixes: int, *, train_end: bool
    ) -> None:
        self._contexts, self._tokenizer = contexts, tokenizer
        self._openings = openings(prefixes)
        self._config = HorenConfig(contexts="prompt", train_end=train_end)

    def of(self, edit: Edit) -> list[Request]:
        """Return a request for the prompt and for each rephrase.

        The subject is where it stands last in a wording. A wording without it is located at its last token. A context
        that the model cannot hold is left out.

        Raises:
            EditError: for a wording or target that encodes to nothing, or is longer than the model's context.
        """
        return [self._request(wording, edit) for wording in dict.fromkeys((edit.prompt, *edit.rephrases))]

    def _request(self, wording: str, edit: Edit) -> Request:
        alone = Edit(wording, edit.target)
        (ids,) = self._contexts.wordings(alone)
        (whole,) = self._contexts.samples(alone, self._config)
        subject = (edit.subject or "").strip()
        start = wording.rfind(subject) if subject else -1
        # Counted from the end, so that it holds with any text before the wording.
        behind = len(wording) - start - len(subject) if start >= 0 else None
        samples = [self._cut(wording, ids, whole.target, behind)]
        for opening in self._openings:
            text = f"{opening} {wording}"
            longer = self._contexts.plain(text)
            if self._contexts.limit is None or len(longer) + len(whole.target) <= self._contexts.limit:
                samples.append(self._cut(text, longer, whole.target, behind))
        if behind is None:
            return Request(tuple(samples), None)
        essence = f"{subject} is a"
        return Request(
            tuple(samples), self._cut(essence, self._contexts.plain(essence), (0,), len(essence) - len(subject))
        )

    def _cut(self, text: str, ids: Sequence[int], target: Sequence[int], behind: int | None) -> Sample:
        """Return the sample of a text whose subject has so many characters behind it; cut at its end if none."""
        at = len(ids) - 1 if behind is None else self._token_of(text, len(text) - behind)
        return Sample(tuple(ids[: at + 1]), (*ids[at + 1 :], *target), len(ids) - at - 1)

    def _token_of(self, text: str, end: int) -> int:
        """Place of the last token that holds a character before ``end``."""
        spans = self._tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        return max((i for i, (low, high) in enumerate(spans) if low < min(end, high)), default=len(spans) - 1)
