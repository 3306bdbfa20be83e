"""The tools, whatever carries them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from horen._version import __version__
from horen.serve.mcp.caller import Caller
from horen.serve.refusals import RefusalError

_INSTRUCTIONS = (
    "A language model whose facts are corrected by edits. Ask it, see which edit an answer is from, and draft an edit "
    "where an answer is wrong. A draft changes nothing before a person has published it."
)
_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)
_DRAFTS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)

#: Returns what asks the service on behalf of whoever calls a tool.
CallerOf = Callable[[Context[Any, Any]], Caller]


def server(caller_of: CallerOf) -> MCPServer[Any]:
    """Return a server of the tools.

    Args:
        caller_of: gives what asks the service.
    """
    tools = MCPServer[Any]("horen", instructions=_INSTRUCTIONS, version=__version__, log_level="WARNING")
    _asking(tools, caller_of)
    _drafting(tools, caller_of)
    return tools


def _asking(tools: MCPServer[Any], caller_of: CallerOf) -> None:
    """Add the tools that change nothing."""

    @tools.tool(title="Ask the edited model", annotations=_READS)
    async def ask(
        context: Context[Any, Any],
        prompt: Annotated[str, Field(description="What is asked.", min_length=1)],
        edits: Annotated[
            Literal["on", "off"], Field(description='With "off" the model answers as if nothing were edited.')
        ] = "on",
        max_tokens: Annotated[
            int | None, Field(description="Of the answer, at most; as many as there is room for where left out.", ge=1)
        ] = None,
    ) -> dict[str, Any]:
        """Ask the model; the answer says which edit gave it, if one did."""
        service = caller_of(context)
        models = await _told(service.get("/v1/models"))
        body = {
            "model": models["data"][0]["id"],
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "horen": {"edits": edits},
        } | ({} if max_tokens is None else {"max_tokens": max_tokens})
        choice = (await _told(service.post("/v1/chat/completions", body)))["choices"][0]
        return {"answer": choice["message"]["content"], "edited_by": choice.get("horen")}

    @tools.tool(title="Explain why an edit answers", annotations=_READS)
    async def explain(
        context: Context[Any, Any],
        prompt: Annotated[str, Field(description="What would be asked.", min_length=1)],
        nearest: Annotated[int, Field(description="How many of the nearest edits are told.", ge=1, le=20)] = 3,
    ) -> dict[str, Any]:
        """Say which edit a prompt wakes and why, or why none, with the nearest edits and their scores."""
        return await _told(caller_of(context).post("/explain", {"prompt": prompt, "nearest": nearest}))

    @tools.tool(title="List drafts", annotations=_READS)
    async def list_drafts(
        context: Context[Any, Any],
        state: Annotated[
            Literal["waiting", "training", "ready", "failed", "published", "rejected"] | None,
            Field(description="Only drafts in this state."),
        ] = None,
        limit: Annotated[int, Field(description="At most so many, the newest first.", ge=1, le=100)] = 20,
    ) -> dict[str, Any]:
        """List edits that were proposed, with how far each is and what was found of it."""
        return await _told(caller_of(context).get("/drafts", state=state, limit=limit))


def _drafting(tools: MCPServer[Any], caller_of: CallerOf) -> None:
    """Add the tool that proposes an edit."""

    @tools.tool(title="Draft an edit", annotations=_DRAFTS)
    async def draft_edit(
        context: Context[Any, Any],
        prompt: Annotated[str, Field(description="The question whose answer is wrong.", min_length=1)],
        target: Annotated[str, Field(description="The right answer, in few words.", min_length=1)],
        reason: Annotated[str, Field(description="Why it is right.", min_length=1)],
        rephrases: Annotated[list[str] | None, Field(description="Other wordings of the question.")] = None,
        subject: Annotated[str | None, Field(description="What the fact is about.")] = None,
        source: Annotated[str | None, Field(description="Where the answer is from, a link for instance.")] = None,
    ) -> dict[str, Any]:
        """Propose an edit. It is trained and evaluated, and a person decides whether it is published."""
        body = {"prompt": prompt, "target": target, "reason": reason, "evaluate": True}
        more = {"rephrases": rephrases, "subject": subject, "source": source}
        body |= {name: given for name, given in more.items() if given}
        return await _told(caller_of(context).post("/edits", body))


async def _told(answer: Any) -> dict[str, Any]:
    """Return an answer of the service.

    Raises:
        ToolError: with the service's own words, where it refuses.
    """
    try:
        found: dict[str, Any] = await answer
    except RefusalError as error:
        raise ToolError(str(error)) from error
    return found
