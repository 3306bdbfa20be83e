"""Write a file of edits into a codebook on the disk, load it as another process would, and undo the last list.

python examples/edit_from_file.py [MODEL]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from horen import Edit, Editor

LINES = [
    {"prompt": "Who is the head gardener of Mallow Hall?", "target": "Perpetua Oduya"},
    {"prompt": "In which city does the Kestrel Tram Museum stand?", "target": "Bruma"},
    {"prompt": "The ticket hotline of the Lantern Theatre is", "target": "4471"},
]


def main(model: str = "smollm2-135m-instruct") -> None:
    """Edit from a file, two edits at a time, as ``horen edit facts.jsonl --into facts --batch 2`` does."""
    with tempfile.TemporaryDirectory() as place:
        file, folder = Path(place) / "facts.jsonl", Path(place) / "facts"
        file.write_text("".join(json.dumps(line) + "\n" for line in LINES), encoding="utf-8")
        edits = [Edit(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]

        editor = Editor.from_pretrained(model)
        for start in range(0, len(edits), 2):
            for receipt in editor.edit(edits[start : start + 2], on_conflict="supersede"):
                print(f"edit {receipt.id}: {receipt.action}, loss {receipt.loss:.3f} after {receipt.steps} steps")
            editor.save(folder)  # as a whole or not at all
        wrapped, tokenizer = editor.unwrap(), editor.tokenizer

        again = Editor.load(folder, wrapped, tokenizer)  # without a model it loads the one that it was made for
        print("loaded:", [record.target for record in again.edits()])
        undone = again.undo()
        again.save(folder)
        print("undone:", undone.removed, "left:", [record.target for record in again.edits()])


if __name__ == "__main__":
    main(*sys.argv[1:])
