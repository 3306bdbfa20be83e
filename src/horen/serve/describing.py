"""The interface's description in OpenAPI, with what the framework says amiss put right."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

#: What routes are about, in the order in which they are told of.
TAGS = (
    ("OpenAI", "The model is asked as programs written for OpenAI's interface do."),
    ("edits", "What is published. A change is proposed as a draft."),
    ("drafts", "What is proposed, from training to the decision."),
    ("versions", "Every change of the store, and the way back."),
    ("sets", "Groups of edits, switched on and off together."),
    ("explain", "Why a text wakes an edit, or why it does not."),
    ("keys", "Who may do what."),
    ("audit", "Who did what, when and why."),
    ("service", "How the service is."),
)
_EVENTS = "text/event-stream"


def operation(route: APIRoute) -> str:
    """Return the name of an operation, as "get_edits_id"."""
    words = re.findall(r"[a-z0-9]+", route.path_format.lower())
    return "_".join((min(route.methods or {"get"}).lower(), *words))


def describe(app: FastAPI) -> None:
    """Let an application tell its description as it is."""
    usual = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            for methods in usual()["paths"].values():
                for told in methods.values():
                    _put_right(told["responses"])
        return usual()

    app.openapi = openapi  # type: ignore[method-assign]


def _put_right(responses: dict[str, Any]) -> None:
    """Put the responses of an operation right.

    Errors are JSON whatever the answer is; and what a stream's events are is told in words of OpenAPI 3.2 where 3.1 is
    named.
    """
    for status, told in responses.items():
        content = told.get("content", {})
        if not status.startswith("2") and content:
            told["content"] = {"application/json": next(iter(content.values()))}
        elif _EVENTS in content and "itemSchema" in content[_EVENTS]:
            content[_EVENTS] = {"schema": content[_EVENTS]["itemSchema"]}
