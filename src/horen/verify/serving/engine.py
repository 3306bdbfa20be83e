"""An engine of vLLM in a process of its own, and what it is asked and says.

What it prints goes into a file. It is in a session of its own: Ctrl-C is for this process, which ends that one and all
that it has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Self

from horen.errors import ModelError

_LOG = "engine.log"
# Loading a large model takes long; an engine that hangs shall not hang this process for ever.
_SECONDS = 1800
_SECONDS_TO_END = 120
_SECONDS_TO_STOP = 10


@dataclass(frozen=True)
class Setting:
    """How an engine is started.

    Attributes:
        model: a folder or hub id.
        revision: of a model of the hub; None for the newest.
        dtype: of its weights and states.
        length: most tokens of a request with its answer.
        compiled: whether graphs are compiled and captured, as vLLM does unless it is told otherwise.
        codebook: that is served; None for stock vLLM, into which the plugin is not even loaded.
    """

    model: str
    revision: str | None
    dtype: str
    length: int
    compiled: bool
    codebook: str | None


@dataclass(frozen=True)
class Request:
    """What an engine is asked.

    Attributes:
        prompt: a text, or token ids.
        tokens: most of its answer.
        chat: whether the text is a user's message.
        off: whether edits are switched off for it.
        through: whether it is answered to so many tokens, also behind an end.
    """

    prompt: str | Sequence[int]
    tokens: int
    chat: bool = False
    off: bool = False
    through: bool = False


@dataclass(frozen=True)
class Said:
    """What an engine says to a request.

    Attributes:
        text: without blanks around it.
        prompt: token ids of the whole prompt.
        tokens: those of the answer.
        logprobs: by place of the answer the log-probabilities of its token and of the likeliest ones, by token id.
        edit: id of the edit that fired; None where none did.
        revision: number of the codebook's last operation then.
        cached: tokens of the prompt that were not computed anew.
        seconds: from asking to the end of the answer, or of all that were asked together.
    """

    text: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[dict[int, float], ...]
    edit: int | None
    revision: int | None
    cached: int
    seconds: float

    @classmethod
    def of(cls, told: dict[str, Any]) -> Said:
        """Return what came as JSON, which has token ids as words."""
        logprobs = tuple({int(token): value for token, value in place.items()} for place in told.pop("logprobs"))
        prompt, tokens = tuple(told.pop("prompt")), tuple(told.pop("tokens"))
        return cls(prompt=prompt, tokens=tokens, logprobs=logprobs, **told)

    def same(self, other: Said) -> bool:
        """Return whether two have the same tokens and log-probabilities, bit for bit."""
        return self.tokens == other.tokens and self.logprobs == other.logprobs

    def apart(self, other: Said) -> float:
        """Return the greatest difference of a log-probability up to where the tokens part."""
        most = 0.0
        for one, two, mine, theirs in zip(self.logprobs, other.logprobs, self.tokens, other.tokens, strict=False):
            most = max([most, *(abs(one[token] - two[token]) for token in one.keys() & two.keys())])
            if mine != theirs:
                break
        return most


class Engine:
    """A running engine; as a context it ends with the block, whatever happens there.

    Args:
        setting: how it is started.
        place: a folder for what it prints.

    Attributes:
        facts: of the engine, by name: vllm (its release), device, block (tokens of a cached block) and sites (the
            module that each worker writes at; None where it holds none).

    Raises:
        ModelError: when it does not start, with the reason.
    """

    def __init__(self, setting: Setting, place: Path) -> None:
        self._log = place / _LOG
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "horen.verify.serving.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(os.environ, stock=setting.codebook is None),
                start_new_session=True,
            )
        try:
            self.facts: dict[str, Any] = self._asked(asdict(setting))
        except BaseException:
            self.end(at_once=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, raised: object, *_: object) -> None:
        self.end(at_once=raised is not None)

    def alone(self, requests: Sequence[Request], *, warm: bool = False) -> list[Said]:
        """Return what is said to requests, each asked by itself.

        Args:
            requests: what is asked.
            warm: whether the prefix cache is kept as it is; else it is emptied before each.
        """
        return self._said("alone", requests, warm=warm)

    def together(self, requests: Sequence[Request], *, warm: bool = False) -> list[Said]:
        """Return what is said to requests that begin in one step.

        What was held goes on with them, and comes first. ``warm`` is as for :meth:`alone`.
        """
        return self._said("together", requests, warm=warm)

    def poured(self, requests: Sequence[Request]) -> list[Said]:
        """Return what is said to requests that come one after another while others run, as users' do."""
        return self._said("poured", requests, warm=False)

    def hold(self, request: Request) -> None:
        """Begin with a request, and let it wait for :meth:`together` after its first tokens."""
        self._asked({"do": "hold", "requests": [asdict(request)], "warm": False})

    def end(self, *, at_once: bool) -> None:
        """End the process and all that it has started; at once where it may be busy with what is wanted no more."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()  # which tells it to end by itself
        if not at_once:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_SECONDS_TO_END)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # What is killed leaves its shared memory behind.
            os.killpg(self._process.pid, signal.SIGTERM)
            until = time.monotonic() + _SECONDS_TO_STOP
            while time.monotonic() < until:
                self._process.poll()  # a process that has ended counts until it is asked
                os.killpg(self._process.pid, 0)
                time.sleep(0.05)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _said(self, do: str, requests: Sequence[Request], *, warm: bool) -> list[Said]:
        told = self._asked({"do": do, "requests": [asdict(request) for request in requests], "warm": warm})
        return [Said.of(one) for one in told]

    def _asked(self, told: dict[str, Any]) -> Any:
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is told below
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            self._process.stdin.flush()
        self._wait(self._process.stdout)
        line = self._process.stdout.readline()
        if not line:
            raise ModelError(f"The engine has ended: {self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ModelError(f"The engine could not do it: {self._why(reply['error'])}")
        return reply["found"]

    def _wait(self, pipe: Any) -> None:
        """Wait for a line; where a process that it has started holds the pipe, its end would never come."""
        until = time.monotonic() + _SECONDS
        while not select.select([pipe], [], [], 1.0)[0]:
            if self._process.poll() is not None:
                raise ModelError(f"The engine has ended: {self._last_words()}")
            if time.monotonic() > until:
                raise ModelError(f"The engine has said nothing for {_SECONDS} s: {self._last_words()}")

    def _why(self, error: str) -> str:
        """Return an error; of one in a process that the engine started vLLM names no cause, but prints it."""
        if "root cause" not in error:
            return error
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        causes = [line.split("] ")[-1].strip() for line in lines if "Error: " in line and "root cause" not in line]
        return causes[0] if causes else error

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else f"exit status {self._process.poll()}"


def environment(given: Any, *, stock: bool) -> dict[str, str]:
    """Return the environment of an engine's process: one for stock vLLM loads every plugin but this package's.

    What the caller's environment says of codebooks does not reach an engine.
    """
    found = {name: value for name, value in given.items() if name not in ("HOREN_CODEBOOK", "HOREN_DISABLED")}
    if stock:
        named = given.get("VLLM_PLUGINS")
        groups = entry_points()
        known = (one.name for group in groups.groups if group.startswith("vllm.") for one in groups.select(group=group))
        plugins = known if named is None else named.split(",")
        found |= {"HOREN_DISABLED": "1", "VLLM_PLUGINS": ",".join(dict.fromkeys(p for p in plugins if p != "horen"))}
    return found
