"""Benchmarks of model editors: data sets, the stream of edits, scores and reports."""
