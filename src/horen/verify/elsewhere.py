"""The other process: it loads a saved codebook, answers, and writes down what it found.

It is told everything by a file, so that neither prompts nor places are to be seen among the machine's processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from horen.editor import Editor
from horen.errors import StoreError
from horen.model.logits import next_logits
from horen.model.zoo.loading import ModelOptions, load_model

_JOB, _LOGITS, _ANSWERS = "job.json", "logits.safetensors", "answers.json"
# Loading a large model from a slow disk takes long; a process that hangs shall not hang this one for ever.
_SECONDS = 1800


@dataclass(frozen=True)
class Job:
    """What the other process is to do.

    Attributes:
        codebook: a folder.
        encoder: the text encoder of its keys where that is not the package's own.
        model: the name that the model was loaded by.
        options: what else its loading is told.
        dtype: of its weights.
        device: where it runs.
        threads: as many as here, since sums of floats depend on how they are shared out.
        prompts: of which the next token's logits are wanted.
        asked: prompts of which the answers are wanted, each asked by itself.
        budget: most tokens of an answer.
    """

    codebook: str
    encoder: str | None
    model: str
    options: ModelOptions | None
    dtype: str
    device: str | None
    threads: int
    prompts: list[str]
    asked: list[str]
    budget: int


def run_elsewhere(job: Job, place: Path) -> tuple[list[Tensor], list[str]]:
    """Return the logits [V] of each prompt and the answers, as another process finds them.

    Args:
        job: what it is to do.
        place: an empty folder for what is exchanged.

    Raises:
        StoreError: when it fails, with the last line that it wrote.
    """
    (place / _JOB).write_text(json.dumps(asdict(job)), encoding="utf-8")
    command = [sys.executable, "-m", "horen.verify.elsewhere", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)  # noqa: S603
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise StoreError(f"The codebook could not be asked in another process: {said[-1]}")
    logits = load_file(place / _LOGITS)
    answers: list[str] = json.loads((place / _ANSWERS).read_text(encoding="utf-8"))
    return [logits[str(i)] for i in range(len(job.prompts))], answers


def main(place: Path) -> None:
    """Do what the file in ``place`` says."""
    job = Job(**json.loads((place / _JOB).read_text(encoding="utf-8")))
    torch.set_num_threads(job.threads)
    loaded = load_model(job.model, dtype=job.dtype, device=job.device, options=job.options)
    editor = Editor.load(job.codebook, *loaded, encoder=job.encoder)
    rows = [list(editor.tokenizer(text)["input_ids"]) for text in job.prompts]
    found = next_logits(editor.model, rows, 1)
    answers = [editor.generate(text, job.budget, recall="off") for text in job.asked]
    save_file({str(i): logits.contiguous() for i, logits in enumerate(found)}, place / _LOGITS)
    (place / _ANSWERS).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
