"""The part of the service that programs written for OpenAI's interface ask: chat, completions, models."""

from horen.extras import require

require("serve", "The OpenAI-compatible interface needs", ("fastapi", "jiter", "pydantic"))
