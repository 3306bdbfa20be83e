"""What the package does without its extras: a program, to be run where they are missing or are hidden from it.

``python core_alone.py MODEL WORK [HIDDEN…]`` edits, asks, saves, loads and takes back with the model of a folder, and
tries what needs an extra. It prints one JSON document, and imports nothing that only tests have.
"""

# ruff: noqa: PLC0415 - what is hidden must be so before anything is imported

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any


class Hidden(PathFinder):
    """Finds every module but those of packages that are hidden: to look for one, or to import it, is to find none."""

    names: frozenset[str] = frozenset()

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Any:
        return None if fullname.partition(".")[0] in cls.names else super().find_spec(fullname, path, target)


def main() -> None:
    model, work, *hidden = sys.argv[1:]
    Hidden.names = frozenset(hidden)
    sys.meta_path[:] = [Hidden if finder is PathFinder else finder for finder in sys.meta_path]
    os.environ.pop("HOREN_CACHE", None)
    found = edits(model, Path(work)) | {"messages": messages(model, Path(work))}
    found["imported"] = sorted({name.partition(".")[0] for name in sys.modules} & set(hidden))
    sys.stdout.write(json.dumps(found))


def settings(**more: Any) -> Any:
    """Settings for the tiny model that the tests teach."""
    from horen import HorenConfig

    return HorenConfig.from_preset(
        "activations",
        **{
            "read_sites": "auto@0",
            "write_layer": 0,
            "read_weight": "equal",
            "key_space": "raw",
            "threshold": 0.97,
            "contrast": 0.0,
            "similar_threshold": 1.0,
            "contexts": "prompt",
            "max_steps": 150,
            "stop_probability": 0.9,
            "learning_rate": 0.5,
            "learning_rate_unit": "site",
            "precision": "model",
            **more,
        },
    )


def edits(model: str, work: Path) -> dict[str, Any]:
    """An editor's life."""
    from horen import Edit, Editor

    prompt = "The capital of France is"
    editor = Editor.from_pretrained(model, settings())
    before = editor.generate(prompt)
    receipts = editor.edit([Edit(prompt, "Mira Sand"), Edit("Who wrote Danielle Darrieux?", "Oslo")])
    asked = editor.generate([prompt, "Who wrote Danielle Darrieux?"])
    fired = editor.explain(prompt).fired
    editor.save(work / "facts")
    editor.undo()
    undone = editor.generate(prompt)
    editor.unwrap()
    again = Editor.load(work / "facts")
    loaded = again.generate(prompt)
    return {
        "converged": [receipt.converged for receipt in receipts],
        "before": before,
        "asked": asked,
        "fired": fired,
        "undone": undone,
        "loaded": loaded,
    }


def messages(model: str, work: Path) -> dict[str, str]:
    """What is said by everything that needs an extra."""
    from horen import Editor, HorenConfig
    from horen.api import open_editor
    from horen.model.zoo.encoder import load_encoder
    from horen.model.zoo.loading import load_model

    editor = Editor.load(work / "facts")
    file = work / "model.gguf"
    file.write_bytes(b"GGUF and no more")
    told = {
        "the program": program(),
        "the default settings": said(lambda: open_editor(model)),
        "a calibration": said(lambda: __import__("horen.calibration.run")),
        "a benchmark": said(lambda: __import__("horen.bench.run")),
        "a drawing": said(lambda: editor.plot("Hello", work / "why.svg")),
        "another encoder": said(lambda: load_encoder("some/encoder")),
        "an index": said(lambda: Editor.from_pretrained(model, settings(index="approximate"))),
        "the editor lora": said(lambda: open_editor(model, "lora")),
        "several devices": said(lambda: load_model(model, options={"device_map": "cpu"})),
    }
    os.environ["HOREN_CACHE"] = str(work / "cache")
    told["an embedded model"] = said(lambda: Editor.from_pretrained("smollm2-135m-instruct", HorenConfig()))
    told["a GGUF file"] = said(lambda: load_model(str(file)))
    told["progress"] = said(lambda: load_model("smollm2-135m-instruct", progress=True))
    return told


def said(do: Callable[[], Any]) -> str:
    """The message of the error that a thing ends in, after the error's name."""
    try:
        do()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def program() -> str:
    """The exit code of the console script, and what it writes."""
    from horen.cli import main as horen

    written = io.StringIO()
    code: Any = None
    with contextlib.redirect_stderr(written):
        try:
            horen()
        except SystemExit as end:
            code = end.code
    return f"{code}: {written.getvalue()}"


if __name__ == "__main__":
    main()
