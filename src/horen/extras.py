"""What is installed on request alone: the extras of the package, and the one way to reach their packages."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from horen.errors import MissingExtraError


@dataclass(frozen=True)
class Extra:
    """An extra of the package.

    Attributes:
        purpose: what it is for.
        packages: those that it installs itself, as the package index names them.
        extras: other extras that it installs too.
    """

    purpose: str
    packages: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()


#: The extras of ``pyproject.toml`` that are for users, by name.
EXTRAS: Mapping[str, Extra] = MappingProxyType(
    {
        "cli": Extra("the program `horen`; progress bars in Python", ("rich", "typer")),
        "models": Extra(
            "embedded models, the text encoder of the default settings, GGUF files, `device_map`",
            ("accelerate", "gguf", "pip", "platformdirs"),
        ),
        "calibration": Extra("`horen calibrate`", ("scipy",)),
        "bench": Extra("`horen bench`; drawings", ("matplotlib", "rouge-score", "sacrebleu", "scipy")),
        "baselines": Extra("the editor `lora`", ("peft",)),
        "fast": Extra("faster look-ups on a CPU", ("numba",)),
        "index": Extra("`index=approximate`", ("faiss-cpu",)),
        "all": Extra(
            "all of the above",
            extras=("baselines", "bench", "calibration", "cli", "fast", "index", "models"),
        ),
        "store": Extra("a store: edits in a database that engines follow", ("alembic", "sqlalchemy")),
        "postgres": Extra("a store in PostgreSQL", ("psycopg",), ("store",)),
        "serve": Extra(
            "the service: `horen serve`",
            (
                "fastapi",
                "httpx2",
                "jiter",
                "limits",
                "prometheus-client",
                "psutil",
                "pydantic",
                "starlette",
                "swagger-ui-py",
                "uvicorn",
            ),
            ("models", "store"),
        ),
        "mcp": Extra("the service's tools for assistants: `horen mcp`", ("mcp",), ("serve",)),
        "tracing": Extra(
            "traces of the service",
            ("opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk"),
            ("serve",),
        ),
        "encoder": Extra("text encoders of sentence-transformers", ("sentence-transformers",)),
        "datasets": Extra("benchmarks on a data set of a hub, by its id", ("datasets",), ("bench",)),
        "vllm": Extra("edits in vLLM", ("vllm",), ("models",)),
        "ray": Extra("`horen edit --ray`", ("ray",)),
        "lm-eval": Extra("edited models in EleutherAI's lm-evaluation-harness", ("lm-eval",), ("bench",)),
    }
)
#: Where a package is imported by another name than that by which it is installed.
_INSTALLED_AS = MappingProxyType(
    {
        "faiss": "faiss-cpu",
        "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry.sdk": "opentelemetry-sdk",
        "swagger_ui": "swagger-ui-py",
    }
)


def package_of(module: str) -> str:
    """Return the package that a module comes with, as the package index names it."""
    for name, package in _INSTALLED_AS.items():
        if f"{module}.".startswith(f"{name}."):
            return package
    return module.partition(".")[0].replace("_", "-")


def need(extra: str, module: str, what: str, instead: str = "") -> Any:
    """Import a module of an extra.

    Args:
        extra: that installs it.
        module: its full name.
        what: what it is needed for, and the verb: "Drawings need".
        instead: another way out, which follows the command that installs the extra: ", or …".

    Raises:
        MissingExtraError: when it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{what} the package {package_of(module)}, which cannot be imported ({error}): "
            f"pip install 'horen[{extra}]'{instead}."
        ) from error


def require(extra: str, what: str, packages: Sequence[str] = ()) -> None:
    """Raise MissingExtraError where a package of an extra is not installed; none is imported.

    Args:
        extra: whose packages are looked for.
        what: what they are needed for, and the verb: "Benchmarks need".
        packages: those of them that matter; all where none is named.
    """
    modules = {package: name for name, package in _INSTALLED_AS.items()}
    missing = [
        package
        for package in packages or EXTRAS[extra].packages
        if importlib.util.find_spec(modules.get(package, package.replace("-", "_"))) is None
    ]
    if missing:
        raise MissingExtraError(
            f"{what} packages that are not installed ({', '.join(missing)}): pip install 'horen[{extra}]'."
        )
