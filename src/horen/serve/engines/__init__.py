"""Engines: what answers prompts, behind one interface (:mod:`horen.serve.engines.interface`)."""
