"""Where the values of an edit are written: at the prompt's last token, and before each further window of its text.

A further value is written while what was answered so far is the edit's own text: a window is trained with all earlier
ones given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from horen.model.partial.prefix import shared_start
from horen.model.routed import Routed


@dataclass(frozen=True)
class Sequel:
    """The text of an edit and its further values.

    Attributes:
        values: the further values' numbers in the codebook; none where one carries the whole text.
        left: for each of them how many tokens of the target are to come when it is written; falling.
        renderings: the target's token ids in each form that an answer may have, without an end token.
    """

    values: tuple[int, ...]
    left: tuple[int, ...]
    renderings: tuple[tuple[int, ...], ...]

    def places(self, routed: Routed) -> list[Routed]:
        """Return where values go for a prompt that woke the edit, the first of them last.

        The prompt's row may hold some of the answer. An answer that was begun belongs to the prompt; but where it is
        the edit's own, it goes on where it was asked.
        """
        place = routed.place
        asked, at = place.prompt.asked, place.prompt.at
        if asked is not None and asked < at and any(_begins(t, place.ids[asked + 1 : at + 1]) for t in self.renderings):
            place = replace(place, prompt=replace(place.prompt, at=asked))
            routed = replace(routed, place=place)
        answer = place.ids[place.prompt.at + 1 :]
        own = max(self.renderings, key=lambda target: shared_start(target, answer))
        said = shared_start(own, answer)
        further = [
            replace(
                routed,
                place=replace(place, prompt=replace(place.prompt, at=place.prompt.at + len(own) - left)),
                match=replace(routed.match, value=value),
            )
            for value, left in zip(self.values, self.left, strict=True)
            if len(own) - left <= said
        ]
        return [*further, routed]


def _begins(text: tuple[int, ...], answer: tuple[int, ...]) -> bool:
    return text[: len(answer)] == answer
