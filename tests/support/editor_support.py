"""An editor with a history, to be saved and loaded."""

from __future__ import annotations

from typing import Any

from horen import Edit, Editor
from support.editors import EDITED, OTHER, REPHRASED, quick_editor

EDITS = [Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris"), Edit("Hello", "Oslo")]


def busy_editor(**settings: Any) -> Editor:
    """An editor with a history: edits, one superseded, one removed, one undone."""
    editor = quick_editor(edits=EDITS, **settings)
    editor.supersede(1, "Mira Sand")
    editor.remove(2)
    editor.edit(Edit("It is blue", "Rome"))
    editor.undo()
    return editor
