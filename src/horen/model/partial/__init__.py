"""The part of a forward pass that a value can change."""
