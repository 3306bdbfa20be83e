"""Reports of runs: one HTML page, or Markdown with drawings beside it; both show the same sections."""

from __future__ import annotations

from horen.bench.report.markdown import write_markdown
from horen.bench.report.page import write_page

__all__ = ["write_markdown", "write_page"]
