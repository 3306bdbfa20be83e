"""The rows of docs/speed.md: what each file of results says that a user pays, and against what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from horen import HorenConfig

Row = tuple[str, str, str]
Found = dict[str, Any]

# Least seconds that are told in seconds, and in milliseconds.
_SECOND, _MILLI = 0.1, 1e-3
_KINDS = {"default": "an edit", "prompt alone": "an edit with `contexts=prompt`"}
_COMMANDS = {
    "list, a page": "`horen list --limit`",
    "list": "`horen list`",
    "show": "`horen show`",
    "history": "`horen history`",
    "ask": "`horen ask`",
    "ask, beyond the bare script": "`horen ask`, beyond a script without edits",
    "Editor.load beside a loaded model": "`Editor.load` beside a loaded model",
}
_SAVES = {
    "an edit more": "saving one edit more",
    "an edit less": "`horen remove` of one edit",
}


def digits(number: float) -> str:
    """Return a number with three significant digits, and commas between thousands."""
    if abs(number) >= 100:
        return f"{number:,.0f}"
    text = f"{number:.3g}"
    return f"{float(text):.6f}".rstrip("0").rstrip(".") if "e" in text else text


def duration(seconds: float) -> str:
    """Return seconds in the unit that reads best."""
    for least, factor, unit in ((_SECOND, 1.0, "s"), (_MILLI, 1e-3, "ms")):
        if seconds >= least:
            return f"{digits(seconds / factor)} {unit}"
    return f"{digits(seconds / 1e-6)} µs"


def size(count: float) -> str:
    """Return bytes in the unit that reads best."""
    for least, factor, unit in ((1e9, 1e9, "GB"), (1e6, 1e6, "MB"), (1e4, 1e3, "kB")):
        if count >= least:
            return f"{digits(count / factor)} {unit}"
    return f"{count:,.0f} bytes"


def share(part: float) -> str:
    """Return a share of 1 with three decimals."""
    return f"{part:.3f}"


def percent(part: float) -> str:
    """Return a share with its sign."""
    return f"{100 * part:+.1f} %".replace("-", "−")


def prompts(count: int) -> str:
    """Return how many prompts there are, in words."""
    return "one prompt" if count == 1 else f"{count} prompts"


def editing(found: Found) -> Iterator[Row]:
    """Yield edits, against the published procedure and what the taken steps need at least."""
    published = found.get("published")
    for name, one in found.get("ours", {}).items():
        label = _KINDS.get(name, f"an edit, {name}")
        yield (
            label,
            duration(one["seconds"]),
            (
                f"{digits(one['ratio'])} times as fast as the published procedure ({duration(published['seconds'])}); "
                f"{digits(one['share_of_limit'])} of the limit; {digits(one['steps'])} steps, {one['converged']:,} of "
                f"{one['edits']:,} converged"
            ),
        )
    for count, one in found.get("stored", {}).items():
        if count.isdigit() and "ratio" in one:
            yield (
                f"an edit beside {int(count):,} stored ones",
                f"{digits(one['ratio'])} times",
                f"one into an empty codebook; a turn {digits(min(one['ratios']))} to {digits(max(one['ratios']))}",
            )


def retrieval(found: Found) -> Iterator[Row]:
    """Yield look-ups, against a plain read of the keys."""
    pairs: dict[tuple[int, int], dict[int, Found]] = {}
    for one in found["results"]:
        pairs.setdefault((one["keys"], one["batch"]), {})[one["steps"]] = one
    for (keys, batch), by_steps in pairs.items():
        stepped = by_steps.get(1, {})
        asked = stepped.get("waking_ms", stepped.get("retrieval_ms"))
        if asked is None:
            continue
        told = [f"a read of all keys {duration(stepped['read_keys_ms'] / 1e3)}"]
        if "waking_ms" in stepped:
            told.append(f"with the step taken {duration(stepped['retrieval_ms'] / 1e3)}")
        if 0 in by_steps:
            told.append(f"without a step {duration(by_steps[0]['retrieval_ms'] / 1e3)}")
        yield f"a look-up of {prompts(batch)} among {keys:,}", duration(asked / 1e3), "; ".join(told)


def approximate(found: Found) -> Iterator[Row]:
    """Yield look-ups by an index that may miss something, against exact ones; with as many candidates as by default."""
    some = [one for one in found["results"] if one["candidates"] == HorenConfig().index_candidates]
    for one in some or found["results"]:
        for batch in (1, 16):
            took = one.get(f"batch_{batch}")
            if took is not None:
                queries = f"{prompts(batch)} among {one['keys']:,} of {one['dimension']} dimensions"
                yield (
                    f"`index=approximate`, {one['candidates']} candidates: {queries}",
                    duration(took["approximate_ms"] / 1e3),
                    f"exactly, without a step {duration(took['exact_ms'] / 1e3)}; recall {share(one['recall'])}",
                )


def million(found: Found) -> Iterator[Row]:
    """Yield what is done to very many entries."""
    told = found["results"]
    count = f"{told['entries']:,} entries"
    yield f"inserting one of {count}", duration(told["insert_microseconds"]["mean"] / 1e6), ""
    looked = duration(told["look_up_16_ms"] / 1e3)
    yield f"a look-up of one prompt among {count}", duration(told["look_up_ms"] / 1e3), f"16 prompts {looked}"
    yield f"removing 16 of {count}", duration(told["remove_16_ms"] / 1e3), ""
    yield f"saving {count}", duration(told["save_s"]), f"{size(told['bytes_an_entry'])} an entry on disk"
    yield f"loading {count}", duration(told["load_s"]), ""
    most = f"{digits(told['peak_gibibytes'])} GiB"
    yield f"memory with {count}, at most", most, "the model and torch included"


def inference(found: Found) -> Iterator[Row]:
    """Yield answers, against those of the untouched model."""
    edits = found["arguments"]["edits"]
    for one in found["results"]:
        yield from added(one, f"{edits:,} edits", found["arguments"]["tokens"])


def added(one: Found, what: str, tokens: int) -> Iterator[Row]:
    """Yield what a codebook adds to the first token of a batch, and to further ones."""
    fires = "each fires one" if one["woken"] else "none fires"
    for name, word in (("first_token", f"the first token after {tokens} tokens"), ("further_token", "a further token")):
        took = one[name]
        low, _, high = took["added_quartiles"]
        yield (
            f"{word}: {prompts(one['batch'])}, {what}, {fires}",
            percent(took["added"]),
            f"{duration(took['untouched_ms'] / 1e3)} without an edit; quartiles {percent(low)} to {percent(high)}",
        )


def saving(found: Found) -> Iterator[Row]:
    """Yield saves of a change, against all files anew."""
    for name, label in _SAVES.items():
        known, anew = found[f"{name}, known"], found[f"{name}, all anew"]
        yield (
            f"{label}, {found['entries']:,} stored",
            f"{duration(known['seconds'])}, {size(known['bytes'])}",
            f"all files anew {duration(anew['seconds'])}, {size(anew['bytes'])}",
        )


def start(found: Found) -> Iterator[Row]:
    """Yield a start with stored edits."""
    told = found["results"]
    yield (
        f"`Editor.load` with {told['edits']:,} edits",
        duration(told["load_s"]),
        f"beside a loaded model; {size(told['bytes_an_edit'])} an edit on disk, saved in {duration(told['save_s'])}",
    )


def starting(found: Found) -> Iterator[Row]:
    """Yield what a command costs that does one thing and ends, against an older build where it was measured too."""
    told = found["results"]
    edits = f"{found['arguments']['edits']:,} edits"
    for name, label in _COMMANDS.items():
        this, older = told.get(f"this: {name}"), told.get(f"older: {name}")
        if this is not None:
            before = "" if older is None else f"; {_both(older)} before"
            yield (
                f"{label} with {edits}",
                duration(this["seconds"]),
                f"{duration(this['processor_s'])} of processor time{before}",
            )


def _both(took: Found) -> str:
    return f"{duration(took['seconds'])}, {duration(took['processor_s'])} of processor time"


def sizes(found: Found) -> Iterator[Row]:
    """Yield the bytes of an edit."""
    for where in ("on disk", "in memory"):
        before = found.get("before")
        against = f"{size(before[where]['all'])} before" if before else ""
        parts = {name: count for name, count in found["now"][where].items() if name in {"keys", "values", "history"}}
        told = [against, *(f"{name} {size(count)}" for name, count in parts.items())]
        yield (
            f"an edit {where}, {found['edits']:,} stored",
            size(found["now"][where]["all"]),
            "; ".join(text for text in told if text),
        )


def compaction(found: Found) -> Iterator[Row]:
    """Yield the compaction of a codebook of which a part is asleep."""
    before, after = (found["bytes"][name] for name in ("before", "after"))
    yield (
        f"`horen compact`, {found['dropped']:,} of {found['entries']:,} entries asleep",
        f"{duration(found['compact_s'])} of processor time",
        (
            f"{size(before)} on disk before, {size(after)} after; a look-up takes "
            f"{digits(found['look_up_of_1_ms']['after'] / found['look_up_of_1_ms']['before'])} of its time"
        ),
    )


#: What makes rows of a file, by the beginning of its name; the order is the table's.
ROWS: dict[str, Callable[[Found], Iterator[Row]]] = {
    "editing": editing,
    "stored": editing,
    "retrieval": retrieval,
    "approximate": approximate,
    "inference": inference,
    "start": start,
    "starting": starting,
    "saving": saving,
    "size": sizes,
    "compaction": compaction,
    "million": million,
}
