"""Where a model is read, as a setting says it in words."""

from __future__ import annotations

from horen.errors import ConfigError

SITES = ("auto", "mlp_input", "mlp_hidden", "mlp_output", "layer_output")
TEXT = "text"


def parse_sites(text: str) -> list[tuple[str, float]]:
    """Read sites and their layers from a text such as "mlp_hidden@0.1+layer_output@3".

    Raises:
        ConfigError: when it names none, one twice, or something else.
    """
    found: list[tuple[str, float]] = []
    for part in text.split("+"):
        name, _, layer = part.strip().partition("@")
        try:
            depth = float(layer)
        except ValueError:
            depth = -1.0
        somewhere = depth >= 0 and (depth < 1 or depth.is_integer())
        if name not in SITES or not somewhere or (name, depth) in found:
            raise ConfigError(
                f"read_sites={text!r} is not valid at {part!r}: expected different site@layer joined by +, the site "
                f"one of {', '.join(SITES)} and the layer a depth in [0, 1) or a whole number; or {TEXT} alone."
            )
        found.append((name, depth))
    return found


def resolve_layer(layer: float, count: int, name: str) -> int:
    """Return the number of the layer that a depth or number names in a model of ``count`` layers.

    Raises:
        ConfigError: when the model has no such layer.
    """
    # An integer ≥ 1 is a number even when a JSON file wrote it as 1.0; depth 1.0 would be one past the last layer.
    number = int(layer) if layer >= 1 else min(round(layer * count), count - 1)
    if number >= count:
        raise ConfigError(
            f"{name}={number} names no layer of this model, which has {count}: give 0 to {count - 1}, "
            "or a depth below 1 such as 0.7."
        )
    return number
