"""The process of an engine: it starts vLLM as a program of users would, and answers what it is asked, line by line.

Both ways a line is one JSON document. The first one that comes says how the engine is started.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from horen.extras import need

# Tokens that a request has been answered by when it is held.
_BEGUN = 2
_LOGPROBS = 5


class Serving:
    """An engine, and what it does when it is asked by name.

    Args:
        told: see :class:`horen.verify.serving.engine.Setting`.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        vllm = need("vllm", "vllm", "An engine needs")
        served = told["codebook"]
        options: dict[str, Any] = {"max_model_len": told["length"], "dtype": told["dtype"]}
        options |= {"enforce_eager": not told["compiled"]}
        options |= {"model": told["model"], "revision": told["revision"], "max_logprobs": _LOGPROBS}
        if served is not None:
            options["additional_config"] = {"horen": {"codebook": served}}
        self._vllm, self._engine = vllm, vllm.LLM(**options)
        self._held = 0
        config = self._engine.llm_engine.vllm_config
        self.facts = {
            "vllm": vllm.__version__,
            "device": str(vllm.platforms.current_platform.device_type),
            "block": config.cache_config.block_size,
            "sites": [] if served is None else self._sites(),
        }

    def do(self, told: dict[str, Any]) -> Any:
        """Do what is asked, and return what is found."""
        requests = told["requests"]
        does: dict[str, Callable[[Sequence[Any]], Any]] = {
            "alone": lambda some: [one for request in some for one in self._timed([request], warm=told["warm"])],
            "together": lambda some: self._together(some, warm=told["warm"]),
            "poured": lambda some: self._timed(some, warm=told["warm"]),
            "hold": self._hold,
        }
        return does[told["do"]](requests)

    def _sites(self) -> list[str | None]:
        try:
            found: list[str | None] = self._engine.collective_rpc("horen_site")
        except Exception as error:
            raise RuntimeError(
                "vLLM has not loaded the plugin horen, so edits would not be served: leave VLLM_PLUGINS out or name it "
                "there, and install horen in the environment of vLLM"
            ) from error
        return found

    def _timed(self, requests: Sequence[Any], *, warm: bool) -> list[dict[str, Any]]:
        if not warm:
            self._engine.reset_prefix_cache()
        started = time.perf_counter()
        self._enqueue(requests)
        return self._found(started)

    def _together(self, requests: Sequence[Any], *, warm: bool) -> list[dict[str, Any]]:
        if not warm:
            self._engine.reset_prefix_cache()
        started = time.perf_counter()
        if not self._held:
            self._engine.sleep(level=0, mode="keep")
        self._enqueue(requests)
        self._engine.wake_up(tags=["scheduling"])
        self._held = 0
        return self._found(started)

    def _hold(self, requests: Sequence[Any]) -> None:
        self._engine.reset_prefix_cache()
        self._enqueue(requests)
        for _ in range(_BEGUN):
            self._engine.llm_engine.step()
        self._engine.sleep(level=0, mode="keep")
        self._held = len(requests)

    def _enqueue(self, requests: Sequence[Any]) -> None:
        for request in requests:
            params = self._vllm.SamplingParams(
                temperature=0,
                max_tokens=request["tokens"],
                ignore_eos=request["through"],
                logprobs=_LOGPROBS,
                extra_args={"horen": "off"} if request["off"] else None,
            )
            prompt = request["prompt"]
            if request["chat"]:
                self._engine.enqueue_chat([{"role": "user", "content": prompt}], params, use_tqdm=False)
            elif isinstance(prompt, str):
                self._engine.enqueue([prompt], params, use_tqdm=False)
            else:
                self._engine.enqueue([{"prompt_token_ids": prompt}], params, use_tqdm=False)

    def _found(self, started: float) -> list[dict[str, Any]]:
        outputs = self._engine.wait_for_completion(use_tqdm=False)
        seconds = time.perf_counter() - started
        return [_told(output) | {"seconds": seconds} for output in outputs]


def _told(output: Any) -> dict[str, Any]:
    """Return what an answer is, as JSON takes it."""
    answer, fired = output.outputs[0], getattr(output, "horen", None) or {}
    return {
        "text": answer.text.strip(),
        "prompt": list(output.prompt_token_ids),
        "tokens": list(answer.token_ids),
        "logprobs": [{token: one.logprob for token, one in place.items()} for place in answer.logprobs],
        "edit": fired.get("edit"),
        "revision": fired.get("revision"),
        "cached": output.num_cached_tokens or 0,
    }


def main() -> None:
    """Answer until no more lines come."""
    # What vLLM and the processes that it starts print shall not come between the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        serving: Serving | None = None
        for line in sys.stdin:
            told = json.loads(line)
            try:
                if serving is None:
                    serving = Serving(told)
                    found: Any = serving.facts
                else:
                    found = serving.do(told)
                reply = {"found": found}
            except Exception as error:
                reply = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
            print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
