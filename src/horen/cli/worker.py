"""A process that writes a share of a file for ``horen edit --workers``, which starts it with the pipe to its input.

It notes in a file how many edits it has done, and takes the end of its input for Ctrl-C: so it stops, and saves, when
the process that started it says so or is gone.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from pathlib import Path

from horen.cli import terminal
from horen.cli.app import main


def run() -> None:
    """Run the program ``horen`` with the arguments after the first one, which names the file for progress."""
    # A job that was started in the background would ignore the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    terminal.note_progress(Path(sys.argv.pop(1)))
    threading.Thread(target=_stop_with_input, daemon=True).start()
    main()


def _stop_with_input() -> None:
    # Not through sys.stdin, whose lock this thread would hold when the interpreter ends.
    while os.read(0, 1024):
        pass
    _thread.interrupt_main()


if __name__ == "__main__":
    run()
