"""Proof, on a user's own model and machine, that edits do what they should and nothing else happens.

What is checked is known here, and how edits work is not: models are asked as users ask them.
"""

from horen.verify.outcome import Check, Verification
from horen.verify.run import verify
from horen.verify.serving.run import verify_serving

__all__ = ["Check", "Verification", "verify", "verify_serving"]
