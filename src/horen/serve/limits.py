"""What keeps one client from holding up a service: limits on bodies, by size and by time, around any ASGI application.

The requests that they refuse never reach the application as whole ones: it is told that the client has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from horen.serve.refusals import RefusalError

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_GONE = "http.disconnect"


class BodySize:
    """Refuses a body that is larger than allowed, whatever its Content-Length says: status 413.

    Args:
        app: what is called.
        most: bytes of a body.
    """

    def __init__(self, app: App, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        if _length(scope) > self._most:
            await answer.refuse(self._refusal())
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            if answer.refused:
                return {"type": _GONE}
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                await answer.refuse(self._refusal())
                return {"type": _GONE}
            return message

        await self._app(scope, counted, answer.send)

    def _refusal(self) -> RefusalError:
        return RefusalError(
            413,
            f"The request's body is larger than {self._most} bytes, which is the limit here: send less at once.",
            code="request_too_large",
        )


class BodyTime:
    """Refuses a body that comes too slowly: status 408.

    A client that sends a byte now and then holds a connection, and what is read so far, for as long as it likes.

    Args:
        app: what is called.
        seconds: that any body may take.
        rate: bytes a second; a large body may take longer, by its size through this.
    """

    def __init__(self, app: App, seconds: float, rate: float = 16_384) -> None:
        self._app, self._seconds, self._rate = app, seconds, rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer, loop = _Answer(send), asyncio.get_running_loop()
        read, whole, end = 0, False, loop.time() + self._seconds

        async def timed() -> Message:
            nonlocal read, whole
            if whole:
                return await receive()
            if answer.refused:
                return {"type": _GONE}
            try:
                async with asyncio.timeout_at(end + read / self._rate):
                    message = await receive()
            except TimeoutError:
                await answer.refuse(self._refusal())
                return {"type": _GONE}
            read += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            return message

        await self._app(scope, timed, answer.send)

    def _refusal(self) -> RefusalError:
        return RefusalError(
            408,
            f"The request's body was not there after {self._seconds:g} seconds, or more for a large one: send it anew.",
            code="request_timeout",
        )


class ReadTime:
    """Gives up on a client that does not read its answer, as if it had gone.

    Args:
        app: what is called; what it sends next fails with an OSError, and it is told that the client has gone.
        seconds: that a part of an answer may wait to be taken.
    """

    def __init__(self, app: App, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stalled = asyncio.Event()

        async def timed(message: Message) -> None:
            if not stalled.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._seconds):
                        return await send(message)
                stalled.set()
            raise BrokenPipeError(f"The client did not read its answer for {self._seconds:g} seconds.")

        async def told() -> Message:
            message, waited = asyncio.ensure_future(receive()), asyncio.ensure_future(stalled.wait())
            try:
                await asyncio.wait({message, waited}, return_when=asyncio.FIRST_COMPLETED)
                return message.result() if message.done() else {"type": _GONE}
            finally:
                message.cancel()
                waited.cancel()

        try:
            await self._app(scope, told, timed)
        except Exception:
            if not stalled.is_set():
                raise


class _Answer:
    """What is sent: the application's answer, or the one refusal."""

    def __init__(self, send: Send) -> None:
        self._send, self._begun = send, False
        self.refused = False

    async def send(self, message: Message) -> None:
        """Send a part of the application's answer, unless the request was refused."""
        if not self.refused:
            self._begun = True
            await self._send(message)

    async def refuse(self, error: RefusalError) -> None:
        """Refuse the request; where an answer has begun, nothing more of it is sent."""
        self.refused = True
        if self._begun:
            return
        # Whoever still sends a body is not listened to, so the connection cannot be used again.
        headers = {"content-type": "application/json", "content-length": str(len(error.body)), "connection": "close"}
        pairs = [(name.encode(), value.encode()) for name, value in (headers | error.headers).items()]
        await self._send({"type": "http.response.start", "status": error.status, "headers": pairs})
        await self._send({"type": "http.response.body", "body": error.body})


def _length(scope: Scope) -> int:
    """Return a request's Content-Length; 0 where it has none, or none that is a number."""
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0
