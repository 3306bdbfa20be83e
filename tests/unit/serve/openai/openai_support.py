"""A tiny edited model behind the interface, and ways to ask it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import openai
from fastapi import FastAPI

from horen import Editor
from horen.serve.limits import BodySize, BodyTime, ReadTime
from horen.serve.openai.hooks import Answered
from horen.serve.openai.places import Limits
from horen.serve.openai.prompts import Served
from horen.serve.openai.routes import openai_router
from support.editors import FACTS, facts, taught_editor
from support.generating import Generating

#: A text that an edit answers, and one that it answers in chat too.
(PROMPT, TARGET), (CHAT, CHAT_TARGET) = list(FACTS.items())[:2]
#: What no edit answers, and what the model says to it.
OTHER = "The capital of Italy is"
MOST = 200_000
SECONDS = 1.0
PLACES = 16


@dataclass
class Service:
    """What is asked, and what came of it."""

    app: Any
    engine: Generating
    slow: Generating
    events: list[Answered] = field(default_factory=list)
    url: str = ""

    def client(self, retries: int = 0) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=retries)

    def chat(self, prompt: str = CHAT, **more: Any) -> Any:
        given = {"model": "tiny", "temperature": 0, "messages": [{"role": "user", "content": prompt}], **more}
        return self.client().chat.completions.create(**given)

    def complete(self, prompt: Any = PROMPT, **more: Any) -> Any:
        return self.client().completions.create(**{"model": "tiny", "temperature": 0, "prompt": prompt, **more})


def edited() -> Editor:
    editor = taught_editor(contexts="several", threshold=0.9)
    editor.edit(facts()[:2])
    return editor


def service_of(editor: Editor, limits: Limits | None = None, most: int = 2_000_000) -> Service:
    engine, slow = Generating(editor), Generating(editor, "slow", pause=0.05)
    app, events = FastAPI(), list[Answered]()
    models = [Served(engine, editor.tokenizer), Served(slow, editor.tokenizer)]
    app.include_router(openai_router(models, answered=events.append, limits=limits))
    limited = BodySize(BodyTime(ReadTime(app, SECONDS), SECONDS), most)
    return Service(limited, engine, slow, events)
