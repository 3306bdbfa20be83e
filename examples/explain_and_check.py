"""See why a prompt wakes an edit or does not, check a codebook for edits that misroute, and move the threshold.

python examples/explain_and_check.py [MODEL]
"""

from __future__ import annotations

import sys

from horen import Edit, Editor

ASKED = [
    "What is the mascot of Varley College?",
    "Which mascot does Varley College have?",
    "Where is Varley College?",
    "What is the mascot of Farley College?",
    "how do i boil an egg",
]


def main(model: str = "smollm2-135m-instruct") -> None:
    """Explain, check, and ask more of a prompt before it wakes an edit."""
    editor = Editor.from_pretrained(model)
    editor.edit(Edit("What is the mascot of Varley College?", "a blue heron"))
    for found in editor.explain(ASKED, nearest=1):
        # What a prompt asks: what the edit answers ("own"), another thing about the subject ("about"), or "other".
        print(f"{found.text:<42}{found.score:6.3f}  {found.asks:<6}{'fires' if found.fired else ''}")

    print("healthy:", editor.doctor().healthy)  # every stored wording comes to its own edit, in plain text and in chat

    editor.rekey(
        editor.config.replace(threshold=0.9)
    )  # stricter, without training; horen calibrate measures what to choose
    print("at 0.9 these fire:", [found.text for found in editor.explain(ASKED) if found.fired])


if __name__ == "__main__":
    main(*sys.argv[1:])
