"""What tests in vLLM share: the real model, a codebook that changes while it is served, and an engine of few blocks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

# Before vLLM is imported: an engine in this process, which tests can look into.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

from horen import Editor
from horen.model.zoo.embedded import fetch
from support.asking_engines import BLOCK


@pytest.fixture(scope="session")
def model() -> str:
    return str(fetch("smollm2-135m-instruct"))


@pytest.fixture(scope="module")
def served(codebook: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that changes while it is served."""
    return Path(shutil.copytree(codebook, tmp_path_factory.mktemp("served") / "codebook"))


@pytest.fixture(scope="module")
def engine(model: str, served: Path) -> Any:
    vllm = pytest.importorskip("vllm")
    return vllm.LLM(
        model=model,
        additional_config={"horen": {"codebook": str(served)}},
        enforce_eager=True,
        dtype="float32",
        max_model_len=1024,
        block_size=BLOCK,
        disable_log_stats=False,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        enable_chunked_prefill=True,
        num_gpu_blocks_override=40,
    )


@pytest.fixture(scope="module")
def editor(codebook: Path) -> Editor:
    return Editor.load(codebook)
