"""Where a run takes trained values from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from horen.bench.plan import MANIFEST
from horen.errors import StoreError
from horen.store.content import CONFIG


@dataclass(frozen=True)
class Origin:
    """Another run, or a codebook, which other processes may still be writing.

    Attributes:
        place: its folder.
        facts: what the manifest of a run says of it.
    """

    place: Path
    facts: dict[str, Any]

    @staticmethod
    def of(place: Path) -> Origin:
        """Return what a folder holds.

        Raises:
            StoreError: when it holds neither.
        """
        if (place / CONFIG).exists():
            return Origin(place, {"values_of": {"codebook": place.name}})
        try:
            other = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
            return Origin(place, {"values_of": {"method": other["plan"]["method"], "code": other["code"]}})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{place} holds no run to take values from, nor a codebook ({error!r}): give the folder of one."
            ) from error

    def codebook(self, seed: int) -> Path:
        """Return the codebook for a seed's run."""
        return self.place if "codebook" in self.facts["values_of"] else self.place / f"seed-{seed}" / "state"
