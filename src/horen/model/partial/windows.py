"""Cutting a target that one value cannot carry into windows, each of which is trained with all earlier ones given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from horen.model.partial.prefix import shared_start
from horen.model.partial.tail import Sample


def cut(
    samples: Sequence[Sample], unasked: Callable[[], Sample | None], most: int, ends: Collection[int]
) -> tuple[list[list[Sample]], tuple[int, ...]]:
    """Return the samples of each value of an edit, and :attr:`horen.edits.EditRecord.left` of the further ones.

    Windows are of like length, and end at the same place of the text in every context: there the tokens that are left
    are the same. All contexts train the first value. What is behind a window's worth of the answer depends less on what
    was asked, so the first, the last and the unasked one do for the others.

    Args:
        samples: training contexts of the whole target.
        unasked: makes one more, for a target of several values alone: a long text leaves its words at the first place
            where another wording of the prompt makes another word likelier.
        most: tokens that one value carries; 0 for any number.
        ends: token ids that end an answer.
    """
    alone = [list(samples)], ()
    bodies = [_body(sample, ends) for sample in samples]
    longest = max(len(body) for body in bodies)
    if not most or longest <= most:
        return alone
    few = list(dict.fromkeys((0, len(samples) - 1)))
    more = unasked()
    if more is not None:
        few.append(len(samples))
        samples, bodies = [*samples, more], [*bodies, _body(more, ends)]
    alike = min(shared_start(bodies[0][::-1], body[::-1]) for body in bodies)
    count = -(-longest // most)
    lengths = (longest - -(-longest * number // count) for number in range(1, count))
    left = tuple(length for length in lengths if length <= alike)
    if not left:
        return alone
    windows = [_windows(sample, body, left) for sample, body in zip(samples, bodies, strict=True)]
    return [[own[0] for own in windows], *([windows[i][n] for i in few] for n in range(1, len(left) + 1))], left


def _body(sample: Sample, ends: Collection[int]) -> tuple[int, ...]:
    return sample.target[: len(sample.target) - (sample.target[-1] in ends)]


def _windows(sample: Sample, body: tuple[int, ...], left: tuple[int, ...]) -> list[Sample]:
    """Return one context's windows; the last one ends as the sample does."""
    starts = [0, *(len(body) - length for length in left)]
    stops = [*starts[1:], len(sample.target)]
    places = [len(sample.prompt) + start - 1 for start in starts]
    return [
        Sample((*sample.prompt, *body[:start]), sample.target[start:stop], written=tuple(places[:number]))
        for number, (start, stop) in enumerate(zip(starts, stops, strict=True))
    ]
