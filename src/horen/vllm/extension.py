"""What vLLM makes every worker of an edited engine a kind of; it writes values only where the plugin was registered."""

from __future__ import annotations

from horen.vllm.plugin import register

# A worker that loads no plugins would else serve the model as it is, and say nothing.
register()


class Extension:
    """What can be asked of every worker by name, with ``LLM.collective_rpc``."""

    def horen_site(self) -> str | None:
        """Return the name of the module that this worker writes at; None where another one holds it."""
        writer = getattr(self, "horen_writer", None)
        return None if writer is None else writer.site
