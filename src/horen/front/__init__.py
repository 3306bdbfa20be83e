"""Where prompts go before an engine sees them, and what it is told to write; knows no engine."""
