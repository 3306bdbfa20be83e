"""Tools for assistants, by the Model Context Protocol: ask, explain, and draft an edit; none publishes anything."""

from horen.extras import require

require("mcp", "Tools for assistants need")
