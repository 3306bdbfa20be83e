"""A server of vLLM's elsewhere, asked over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from horen.errors import ConfigError, ModelError
from horen.extras import need
from horen.serve.engines import vllm_words
from horen.serve.engines.interface import Fired, Health, Piece, Request, Token

_DATA = b"data:"


class RemoteVllm:
    """A server of vLLM's, asked with token ids: :class:`horen.serve.engines.interface.Engine`.

    A server that is gone is asked anew with the next request, so nothing needs to be done when it is back.

    Args:
        url: of the server, without ``/v1``.
        model: the name under which the server has it.
        context: how many tokens a prompt and its answer have together at most.
        key: that the server asks for.
        patience: seconds after which a server that sends nothing is given up.

    Raises:
        MissingExtraError: when httpx2 is not installed.
        ConfigError: for a URL that is none.
    """

    def __init__(self, url: str, model: str, context: int, *, key: str | None = None, patience: float = 600) -> None:
        self.model, self.context = model, context
        self._url = url
        self._http: Any = need("serve", "httpx2", "A server of vLLM's needs")
        self._client = _client(url, key, patience)
        self._asked_of: set[str] = set()
        self._version: int | None = None
        self._closed = False

    @classmethod
    async def open(
        cls, url: str, model: str | None = None, *, key: str | None = None, patience: float = 600
    ) -> RemoteVllm:
        """Return a server, after asking it which model it has.

        Args:
            url: of the server, without ``/v1``.
            model: that is asked for; the first of the server's unless given.
            key: that the server asks for.
            patience: seconds after which a server that sends nothing is given up.

        Raises:
            MissingExtraError: when httpx2 is not installed.
            ModelError: when it cannot be reached.
            ConfigError: when it has no such model, or the URL is none.
        """
        http: Any = need("serve", "httpx2", "A server of vLLM's needs")
        async with _client(url, key, patience) as client:
            try:
                answer = await client.get("/v1/models")
                _check(answer.status_code, answer.content, url)
                contexts = {str(one["id"]): int(one["max_model_len"]) for one in answer.json()["data"]}
            except http.HTTPError as error:
                raise ModelError(f"{url} cannot be reached: {_why(error)}. Start it, or name another.") from error
            except (ValueError, KeyError, TypeError) as error:
                raise ModelError(f"{url} does not list models as vLLM does: name a server of vLLM's.") from error
        name = next(iter(contexts), "") if model is None else model
        if name not in contexts:
            raise ConfigError(f"{url} has no model {name!r}: name one of {', '.join(contexts)}.")
        return cls(url, name, contexts[name], key=key, patience=patience)

    def ask(self, request: Request) -> AsyncIterator[Piece]:
        """Yield the parts of the answers as they come; whoever stops iterating ends the request.

        Raises:
            ConfigError: for what the server does not take, or a version that is not there; before the first piece.
            ModelError: when the server fails or is gone.
        """
        return vllm_words.copied(self._asked(request), request.sampling)

    async def health(self) -> Health:
        """Return how the server is; its version is that of the last answer that an edit gave."""
        running = len(self._asked_of)
        if self._closed:
            return Health(False, running, 0, self._version, "it was closed")
        try:
            answer = await self._client.get("/health", timeout=5)
        except self._http.HTTPError as error:
            return Health(False, running, 0, self._version, f"{self._url} cannot be reached: {_why(error)}")
        if answer.status_code != 200:
            return Health(False, running, 0, self._version, f"{self._url} says {answer.status_code}")
        return Health(True, running, 0, self._version)

    async def close(self) -> None:
        """Let go of the server, and of what is asked of it."""
        self._closed = True
        await self._client.aclose()

    async def _asked(self, request: Request) -> AsyncGenerator[Piece, None]:
        self._check_open()
        self._asked_of.add(request.id)
        answers = [_Answer() for _ in range(request.sampling.n)]
        try:
            async with self._client.stream("POST", "/v1/completions", json=self._body(request)) as response:
                if response.status_code != 200:
                    _check(response.status_code, await response.aread(), self._url)
                async for event in _events(response.aiter_bytes()):
                    if "error" in event:
                        _check(int(event["error"].get("code") or 500), json.dumps(event).encode(), self._url)
                    for choice in event["choices"]:
                        yield self._piece(choice, answers[choice["index"]], request)
        except (self._http.HTTPError, self._http.StreamError) as error:
            self._check_open()
            raise ModelError(f"{self._url} cannot be reached: {_why(error)}. Ask again when it is back.") from error
        except (ValueError, KeyError, TypeError, IndexError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ModelError(f"{self._url} answers otherwise than vLLM does: {_why(error)}.") from error
        finally:
            self._asked_of.discard(request.id)

    def _check_open(self) -> None:
        if self._closed:
            raise ModelError(f"{self._url} is asked through an engine that was closed: open another.")

    def _body(self, request: Request) -> dict[str, Any]:
        sampling = vllm_words.each(request.sampling)
        most = self.context - len(request.prompt) if sampling.max_tokens is None else sampling.max_tokens
        return {
            "model": self.model,
            "prompt": list(request.prompt),
            "stream": True,
            "return_token_ids": True,  # which alone tell how many tokens a piece has
            "n": sampling.n,
            "max_tokens": most,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "stop": list(sampling.stop),
            "logprobs": sampling.logprobs,
            # What the server may have read beside the model's weights is not wanted.
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "vllm_xargs": vllm_words.words(request.wanted) or None,
        }

    def _piece(self, choice: Mapping[str, Any], answer: _Answer, request: Request) -> Piece:
        if not answer.begun:
            answer.begun = True
            vllm_words.check(request.wanted.version, "horen" in choice, self._url)
            answer.fired = vllm_words.fired(choice.get("horen"), request.wanted)
            if answer.fired is not None and request.wanted.version is None:
                self._version = answer.fired.version
        answer.count += len(choice.get("token_ids") or ())
        tokens = _tokens(choice.get("logprobs"), request.sampling.logprobs)
        finish = vllm_words.finish(choice.get("finish_reason"))
        return Piece(choice["index"], choice["text"], answer.count, tokens, finish, answer.fired)


class _Answer:
    """An answer as far as it is there."""

    def __init__(self) -> None:
        self.begun, self.count = False, 0
        self.fired: Fired | None = None


def _client(url: str, key: str | None, patience: float) -> Any:
    http: Any = need("serve", "httpx2", "A server of vLLM's needs")
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    # As many connections as requests: what waits, waits where it can be counted.
    limits = http.Limits(max_connections=None, max_keepalive_connections=32)
    timeout = http.Timeout(patience, connect=5)
    try:
        return http.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=timeout, trust_env=False)
    except (http.InvalidURL, UnicodeError) as error:
        raise ConfigError(f"{url!r} is no address of a server ({error}): give one such as http://host:8000.") from error


def _check(status: int, body: bytes, url: str) -> None:
    """Raise the error that a server's status is for."""
    if status < 300:
        return
    try:
        told = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        told = body[:200].decode(errors="replace")
    if status in (400, 422):
        raise ConfigError(told)
    raise ModelError(f"{url} says {status}: {told}")


async def _events(parts: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    """Yield what the events of a stream say, up to the last one.

    Lines end at a line feed alone: text may have other characters that end lines elsewhere.

    Raises:
        ModelError: for a stream that has no end.
    """
    rest = b""
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if not line.startswith(_DATA):
                continue
            told = line.removeprefix(_DATA).strip()
            if told == b"[DONE]":
                return
            yield json.loads(told)
    raise ModelError("The server of vLLM's broke an answer off: ask again.")


def _tokens(told: Mapping[str, Any] | None, most: int | None) -> tuple[Token, ...]:
    if most is None or told is None:
        return ()
    tops = told["top_logprobs"] or [{}] * len(told["tokens"])
    found = []
    for text, logprob, top in zip(told["tokens"], told["token_logprobs"], tops, strict=True):
        ranked = sorted((top or {}).items(), key=lambda one: -one[1])[:most]
        found.append(Token(text, float(logprob), tuple((one, float(value)) for one, value in ranked)))
    return tuple(found)


def _why(error: Exception) -> str:
    return f"{type(error).__name__}{f' ({error})' if str(error) else ''}"
