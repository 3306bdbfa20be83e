"""Write two facts, ask for them in other words and in chat, correct one, and take the correction back.

python examples/edit_and_chat.py [MODEL]
"""

from __future__ import annotations

import sys

from horen import Edit, Editor


def main(model: str = "smollm2-135m-instruct") -> None:
    """Edit, ask, chat, correct and undo."""
    editor = Editor.from_pretrained(model)
    receipts = editor.edit(
        [
            Edit("Who is the chief executive of Fennick Robotics?", "Ada Morrow", ["Who leads Fennick Robotics?"]),
            Edit("What is the mascot of Varley College?", "a blue heron"),
        ]
    )
    print("in other words:", editor.generate("Who is Fennick Robotics' chief executive?"))

    conversation = [
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello! How can I help you?"},
        {"role": "user", "content": "What is the mascot of Varley College?"},
    ]
    print("in chat:", editor.chat(conversation))

    editor.supersede(receipts[0].id, target="Jonas Beck")
    print("corrected:", editor.generate("Who leads Fennick Robotics?"))
    editor.undo()
    print("taken back:", editor.generate("Who leads Fennick Robotics?"))
    with editor.disabled():
        print("the untouched model:", editor.generate("Who leads Fennick Robotics?"))


if __name__ == "__main__":
    main(*sys.argv[1:])
