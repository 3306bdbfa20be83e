"""Benchmarks of model editors: data sets, the stream of edits, scores and reports. They need the extra ``bench``."""

from horen.extras import require

require("bench", "Benchmarks need")
