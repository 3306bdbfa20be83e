"""What it costs to name the package."""

from __future__ import annotations

import subprocess
import sys

SLOW = ("numpy", "torch", "transformers")


def imported(names: str) -> set[str]:
    """Modules that a fresh process has after it took names of the package."""
    program = f"import sys\nfrom horen import {names}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_names_come_without_torch_until_the_editor_does():
    assert not imported("Edit, HorenConfig, Receipt, HorenError, __version__") & set(SLOW)
    assert "torch" in imported("Editor")
