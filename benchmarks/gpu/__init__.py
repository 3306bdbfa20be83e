"""The parts of the check on an accelerator: ``benchmarks/gpu_check.py`` runs them."""
