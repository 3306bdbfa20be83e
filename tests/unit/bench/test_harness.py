"""An edited model in lm-evaluation-harness, with a task defined here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bench_support import SETTINGS
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from horen import Edit
from horen.bench.harness import EditedModel
from horen.editors import open_method
from horen.editors.interface import Method
from support.tiny_models import taught_model
from support.tiny_tokenizers import tiny_tokenizer

PROMPT = "The capital of France is"
TASK = """
task: capitals
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
metric_list:
  - metric: acc
"""


@pytest.fixture
def method() -> Method:
    return open_method("horen", taught_model(), tiny_tokenizer(), settings=SETTINGS)


def request(kind: str, *arguments: object) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def test_a_task_sees_the_edit(method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"question": PROMPT, "choices": ["Mira Sand", "banana boats"], "label": 1}) + "\n")
    (tmp_path / "capitals.yaml").write_text(TASK.format(data=data))

    def accuracy() -> float:
        tasks = TaskManager(include_path=str(tmp_path), include_defaults=False)
        found = simple_evaluate(
            model=EditedModel(method), tasks=["capitals"], task_manager=tasks, bootstrap_iters=0, verbosity="ERROR"
        )
        return float(found["results"]["capitals"]["acc,none"])

    method.edit([Edit(PROMPT, "banana boats")])
    assert accuracy() == 1.0
    method.edit([Edit(PROMPT, "Mira Sand")])
    assert accuracy() == 0.0


def test_likelihoods_by_hand(method: Method):
    model, ids = EditedModel(method), method.tokenizer("Hello Rome and Paris")["input_ids"]
    with torch.no_grad():
        log_p = method.model(input_ids=torch.tensor([[model.prefix_token_id, *ids]])).logits[0].log_softmax(-1)
    by_hand = sum(float(log_p[i, token]) for i, token in enumerate(ids))
    found = model.loglikelihood_rolling([request("loglikelihood_rolling", "Hello Rome and Paris")])
    assert found == [pytest.approx(by_hand, abs=1e-4)]
    (pair,) = model.loglikelihood([request("loglikelihood", "", "Hello Rome and Paris")])
    assert pair[0] == pytest.approx(by_hand, abs=1e-4)


def test_answers_end_at_the_first_stop(method: Method):
    method.edit([Edit(PROMPT, "banana boats")])
    model = EditedModel(method)
    whole, cut = model.generate_until(
        [
            request("generate_until", PROMPT, {"until": [], "max_gen_toks": 8}),
            request("generate_until", PROMPT, {"until": ["boats", "zebra"], "max_gen_toks": 8}),
        ]
    )
    assert whole.strip() == "banana boats"
    assert cut.strip() == "banana"


def test_what_does_not_fit_is_cut_on_the_left(method: Method):
    model = EditedModel(method)
    ((likelihood, _),) = model.loglikelihood([request("loglikelihood", "Hello " * 3000, "Rome")])
    assert likelihood < 0
