"""Proof that a codebook served by vLLM answers as in transformers, and changes nothing else of the engine."""
