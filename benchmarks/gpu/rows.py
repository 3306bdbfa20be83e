"""The rows of docs/speed.md of a check on an accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from speed_rows import Found, Row, added, digits, duration, percent, prompts, share

_PLANS = {
    "default": "an edit",
    "typical": "an edit of at most as many steps as a trained model's take",
    "prompt alone": "an edit with `contexts=prompt`",
}


def rows(found: Found) -> Iterator[Row]:
    """Yield what each part found; of one that failed, that it did."""
    makers = {
        "correctness": correctness,
        "editing": editing,
        "kernel": kernel,
        "look-ups": look_ups,
        "prefill": prefill,
        "engine": engine,
    }
    for name, part in found["parts"].items():
        if part["found"]:
            yield from makers[name](part["found"])
        if part["outcome"] != "done":
            yield f"{name}", part["outcome"], part.get("skipped", part.get("error", "")).replace("|", "/")


def correctness(found: Found) -> Iterator[Row]:
    """Yield routes and answers against the processor's."""
    for dtype in dict.fromkeys(one["dtype"] for one in found["models"]):
        some = [one for one in found["models"] if one["dtype"] == dtype]
        least = {kind: min(one["answers_alike"][kind] for one in some) for kind in some[0]["answers_alike"]}
        answers = ", ".join(f"{share(part)} of {kind}" for kind, part in least.items())
        apart = max(one["greatest_difference_of_a_score"] for one in some)
        yield (
            f"{dtype}, {len(some)} models: prompts routed as on the processor",
            share(min(one["routed_alike"] for one in some)),
            f"the same answers to {answers}; scores at most {apart:.1g} apart (each the worst model's)",
        )


def editing(found: Found) -> Iterator[Row]:
    """Yield edits of a model of Llama-3-8B's shape."""
    if "prepare_s" in found:
        yield "measuring how a model of Llama-3-8B's shape reads, once", duration(found["prepare_s"]), ""
    published = found.get("published")
    for name, label in _PLANS.items():
        one = found.get(name)
        if one is not None and published is not None:
            yield (
                f"{label}, {one['edits']:,} in bulk",
                duration(one["seconds"]),
                (
                    f"{digits(one['times_as_fast'])} times as fast as the published procedure "
                    f"({duration(published['seconds'])}), a step {digits(one['times_as_fast_a_step'])} times; "
                    f"{digits(one['share_of_limit'])} of the limit; {digits(one['steps'])} steps, {one['converged']:,} "
                    "converged"
                ),
            )


def kernel(found: Found) -> Iterator[Row]:
    """Yield the kernel for CUDA against torch."""
    if "checked" in found:
        worst = max(max(one["readout"], one["scores"]) for one in found["checked"])
        yield "the kernel's greatest error against float64", f"{worst:.1g}", f"{len(found['checked'])} cases"
    for one in found.get("timed", []):
        yield (
            f"the kernel: a read-out of {prompts(one['batch'])} among {one['keys']:,} × {one['dimension']:,}",
            duration(one["kernel"]["ms"] / 1e3),
            f"{digits(one['times_as_fast'])} times as fast as torch",
        )


def look_ups(found: Found) -> Iterator[Row]:
    """Yield look-ups against the memory's speed."""
    reads = {(one["keys"], one["dimension"]): one for one in found.get("reads", [])}
    for one in found.get("look_ups", []):
        if one["steps"]:
            took: dict[str, Any] = one["waking"]
            read = duration(reads[one["keys"], one["dimension"]]["ms"] / 1e3)
            stated = digits(found["memory"]["stated_bytes_a_second"] / 1e12)
            against = (
                f"a read of all keys {read}; {share(took['share_of_copy'])} of a copy's speed, "
                f"{share(took['share_of_stated'])} of {stated} TB/s; with the step taken "
                f"{duration(one['retrieval']['ms'] / 1e3)}"
            )
            what = f"a look-up of {prompts(one['batch'])} among {one['keys']:,} of {one['dimension']:,} dimensions"
            yield what, duration(took["ms"] / 1e3), against


def prefill(found: Found) -> Iterator[Row]:
    """Yield answers of a model of Llama-3-8B's shape."""
    for one in found["answers"]:
        yield from added(one, f"{one['edits']:,} edits", one["tokens"])


def engine(found: Found) -> Iterator[Row]:
    """Yield what a worker of vLLM writes."""
    cases = found.get("written", [])
    wrong = sum(one["wrong rows"] for one in cases)
    yield f"rows that vLLM's workers write elsewhere than they should, in {len(cases)} cases", f"{wrong}", ""
    for one in found.get("timed", []):
        more = one["with"]["ms"] - one["without"]["ms"]
        yield f"a step of vLLM in which nothing is written, {one['size']:,} dimensions", duration(more / 1e3), "more"


def glance(found: Found) -> dict[str, str]:
    """Return what the first table of the page says of this machine."""
    parts = {name: part["found"] for name, part in found["parts"].items()}
    told = {}
    one = parts.get("editing", {}).get("default")
    if one is not None:
        told = {"edit": duration(one["seconds"]), "ratio": digits(one["times_as_fast"])}
    for answer in parts.get("prefill", {}).get("answers", []):
        if answer["batch"] == 1:
            told["woken" if answer["woken"] else "unwoken"] = percent(answer["first_token"]["added"])
    return told
