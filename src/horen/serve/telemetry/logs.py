"""The log: a line of JSON for each thing that happens."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

from horen.serve.telemetry.noted import request_id

#: The name below which the service's loggers are.
ROOT = "horen.serve"
requests = logging.getLogger(f"{ROOT}.requests")
_MOST_FRAMES = 20


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON.

    Of an exception it has the kind and the places in the code, not the message: that may repeat a prompt.

    Args:
        private: whether messages of exceptions are written too.
    """

    def __init__(self, private: bool = False) -> None:
        super().__init__()
        self._private = private

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request := request_id()) is not None:
            told["request"] = request
        told |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            told["exception"] = described(record.exc_info[1], self._private)
        return json.dumps(told, ensure_ascii=True, default=str)


def described(error: BaseException, private: bool) -> dict[str, Any]:
    """Return what the log has of an exception.

    Args:
        error: that was raised.
        private: whether its message is told.
    """
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    told: dict[str, Any] = {
        "type": type(error).__name__,
        "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if private:
        told["message"] = str(error)
    return told


def write_logs(stream: TextIO | None = None, level: int = logging.INFO, *, private: bool = False) -> None:
    """Write the service's log, and that of the server that it runs on.

    Args:
        stream: to write to; standard error where none is given.
        level: of what is written at least.
        private: whether messages of exceptions are written, which may repeat a prompt.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(private))
    for name in ("horen", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "uvicorn.error" else []
        logger.setLevel(level)
        logger.propagate = name == "uvicorn.error"
    # Its lines have whole paths with their queries; a request is in our own log already.
    logging.getLogger("uvicorn.access").disabled = True
