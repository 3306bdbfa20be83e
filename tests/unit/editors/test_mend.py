"""MEND on tiny models: its network, its training and what an edit does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from method_support import opened
from torch import Tensor
from transformers import PreTrainedModel

from horen import ConfigError, Edit, EditError, MismatchError, ModelError, StoreError
from horen.editors import open_method
from horen.editors.common.gradients import capture, mlp_linears
from horen.editors.common.samples import plain_samples
from horen.editors.mend import Lesson, Mend, MendConfig, MendTraining, train_network, training
from horen.editors.mend.folder import Stored, new_network, read_network
from horen.editors.mend.network import Network, Transform, edited
from horen.model.partial.frozen import frozen
from horen.store import read_folder, write_folder
from support.editors import EDITED, OTHER, REPHRASED, checksums, facts, hooks_on, ids_of, logits, same_weights
from support.tiny_models import ANSWERS, answer_to, questions, taught_model, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

ONE, TWO = Edit(EDITED, "Rome"), Edit(OTHER, "Mira Sand")
SHORT = MendTraining(blocks=2, rank=4, steps=30, batch=2, learning_rate=1e-3)
each_plain = pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "opt"])


def lessons(count: int = 8) -> list[Lesson]:
    """Questions of the taught model with other answers, asked again as they are."""
    chosen = questions()[:: len(questions()) // count][:count]
    others = [ANSWERS[(ANSWERS.index(answer_to(prompt)) + 1) % len(ANSWERS)] for prompt in chosen]
    return [Lesson(Edit(prompt, target)) for prompt, target in zip(chosen, others, strict=True)]


def trained(model: PreTrainedModel, folder: Path, settings: MendTraining = SHORT, **more: Any) -> Stored:
    return train_network(model, tiny_tokenizer(), more.pop("lessons", lessons()), settings, folder, **more)


def mend(family: str = "llama", **changes: Any) -> Mend:
    method = opened("mend", family=family, **changes)
    assert isinstance(method, Mend)
    return method


def weights(method: Mend) -> list[Tensor]:
    return [method.model.get_parameter(linear.name).detach().clone() for linear in method._linears]


# --- the network ---------------------------------------------------------------------------------------------------


def test_a_transform_starts_as_the_identity_and_can_leave_it():
    transform = Transform(2, 6, 100, torch.Generator().manual_seed(0))
    pairs = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    found = transform(pairs, 1)
    assert torch.equal(found, pairs)
    found.square().sum().backward()
    assert transform.up.shape == (2, 6, 6)  # no rank above the full one
    gradients = [transform.up.grad, transform.bias.grad, transform.offset.grad]
    assert all(gradient is not None and gradient.any() for gradient in gradients)


def test_a_transform_worked_by_hand():
    transform = Transform(1, 2, 1, torch.Generator())
    with torch.no_grad():
        transform.down.copy_(torch.tensor([[[1.0, 1.0]], [[1.0, 0.0]]]))
        transform.up.copy_(torch.tensor([[[1.0], [-1.0]], [[0.0], [2.0]]]))
        transform.bias.copy_(torch.tensor([0.5, 0.0]))
        transform.scale[0, 0] = torch.tensor([2.0, 1.0])
        transform.offset[0, 1] = torch.tensor([0.0, -1.0])
    # z = (1, 2): V₁z = 3, U₁V₁z + b = (3.5, −3), h = z + max((7, −3), 0) = (8, 2);
    # V₂h = 8, U₂V₂h = (0, 16), g = h + max((0, 15), 0) = (8, 17).
    assert transform(torch.tensor([[1.0, 2.0]]), 0).tolist() == [[8.0, 17.0]]


def test_weights_of_one_shape_share_a_transform():
    linears = mlp_linears(tiny_model(), [2, 3], "both")
    network = Network(linears, 4, 0.1, 0)
    assert len(network.transforms) == 2  # up and gate are of one shape, down of the other
    assert [len(transform.scale) for transform in network.transforms] == [4, 2]
    assert network._place == [0, 1, 0, 2, 3, 1]


@each_plain
def test_an_untrained_network_takes_a_gradient_step(family: str):
    method, model = mend(family), tiny_model(family)
    ids, target = ids_of(EDITED), ids_of(" Rome<|im_end|>")
    log_p = model(input_ids=torch.tensor([ids + target])).logits[0].log_softmax(-1)
    loss = -sum(log_p[len(ids) - 1 + i, token] for i, token in enumerate(target))
    names = [linear.name for linear in method._linears]
    slopes = torch.autograd.grad(loss, [model.get_parameter(name) for name in names])
    before = weights(method)
    method.edit([ONE])
    for old, new, slope in zip(before, weights(method), slopes, strict=True):
        torch.testing.assert_close(new, old - 0.05 * slope, atol=1e-5, rtol=1e-4)
    changed = {
        name for name, tensor in checksums(method.model).items() if not torch.equal(tensor, checksums(model)[name])
    }
    assert changed == set(names)


@each_plain
def test_training_sees_what_an_edit_does(family: str):
    """The hooks of training give each row the logits of the model with that row's edit written into its weights."""
    model, edits = tiny_model(family), [ONE, TWO]
    network, linears = new_network(model, SHORT.replace(step_size=0.05))
    with torch.no_grad():
        for parameter in network.transforms.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    method = mend(family)
    samples = [plain_samples(method.contexts, [edit], end=True)[0] for edit in edits]
    with frozen(model):
        found = capture(model, linears, samples)
        network.learn_moments(found)
        changes = network(found)
        with edited(linears, changes, found.sample, 2), torch.no_grad():
            ids = ids_of(REPHRASED)
            together = model(input_ids=torch.tensor([ids, ids])).logits
    assert hooks_on(model) == 0
    for row in range(2):
        other = tiny_model(family)
        with torch.no_grad():
            for linear, (left, right) in zip(linears, changes, strict=True):
                mine = found.sample == row
                other.get_parameter(linear.name).add_(linear.as_weight(left[mine].T @ right[mine]))
        torch.testing.assert_close(together[row], logits(other, ids), atol=1e-3, rtol=1e-3)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_edits_of_one_call_add_up_and_wordings_are_averaged():
    both, first, second, twice = mend(), mend(), mend(), mend()
    start = weights(both)
    both.edit([ONE, TWO])
    first.edit([ONE])
    second.edit([TWO])
    twice.edit([Edit(EDITED, "Rome", (REPHRASED,))])
    other = mend()
    other.edit([Edit(REPHRASED, "Rome")])
    for base, sum_, a, b, mean, c in zip(start, *map(weights, (both, first, second, twice, other)), strict=True):
        torch.testing.assert_close(sum_ - base, (a - base) + (b - base), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mean - base, ((a - base) + (c - base)) / 2, atol=1e-5, rtol=1e-4)


# --- training ------------------------------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_leaves_the_model(tmp_path: Path):
    model = taught_model()
    before = checksums(model)
    settings = MendTraining(rank=16, steps=60, batch=4, learning_rate=2e-3, step_size_rate=1e-3, step_size=1e-3)
    found = trained(model, tmp_path / "mend", settings)
    assert same_weights(model, before)
    assert hooks_on(model) == 0
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert [entry["step"] for entry in found.history] == list(range(10, 61, 10))
    totals = [0.1 * entry["edit_loss"] + entry["kl"] for entry in found.history]
    assert totals[-1] < 0.9 * totals[0]
    assert found.finished
    assert not any(name.startswith("adam.") for name in found.tensors)

    method = open_method("mend", model, tiny_tokenizer(), settings={"network": str(tmp_path / "mend")})
    assert isinstance(method, Mend)
    lesson = lessons()[0].edit

    def loss() -> float:
        with frozen(model):
            return float(capture(model, method._linears, plain_samples(method.contexts, [lesson], end=True)).losses[0])

    untouched = loss()
    method.edit([lesson])
    assert loss() < untouched


def stopping(after: int) -> Callable[[str, int, int], None]:
    def progress(phase: str, done: int, _total: int) -> None:
        if phase.startswith("training") and done == after:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_an_interrupted_training_ends_as_one_that_was_not(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = tiny_model("gpt2")
    before = checksums(model)
    whole = trained(model, tmp_path / "whole")
    monkeypatch.setattr(training, "_SECONDS_BETWEEN_SAVES", seconds)
    for after in (14, 25):
        with pytest.raises(KeyboardInterrupt):
            trained(model, tmp_path / "parts", progress=stopping(after))
    assert same_weights(model, before)
    assert hooks_on(model) == 0
    with pytest.raises(StoreError, match=r"stopped at step \d+ of 30: .* again, it goes on"):
        Mend(model, tiny_tokenizer(), MendConfig(network=str(tmp_path / "parts")))
    resumed: list[int] = []
    parts = trained(model, tmp_path / "parts", progress=lambda _phase, done, _total: resumed.append(done))
    assert (resumed[0], resumed[1]) == (0, 20 if seconds == 0 else 0)  # reading, then training
    assert parts.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(parts.tensors[name], tensor) for name, tensor in whole.tensors.items())
    assert (parts.history, parts.digest) == (whole.history, whole.digest)
    again = trained(model, tmp_path / "parts")  # nothing is left to do
    assert again.digest == whole.digest


@pytest.mark.parametrize("steps", [10, 15])
def test_an_unfinished_training_ends_after_fewer_steps(steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = tiny_model("gpt2")
    fewer = SHORT.replace(steps=steps)
    whole = trained(model, tmp_path / "whole", fewer)
    monkeypatch.setattr(training, "_SECONDS_BETWEEN_SAVES", 0.0)
    with pytest.raises(KeyboardInterrupt):
        trained(model, tmp_path / "parts", progress=stopping(14))
    assert read_network(tmp_path / "parts").step == 10
    with pytest.raises(MismatchError, match="steps"):
        trained(model, tmp_path / "parts", SHORT.replace(steps=9))
    parts = trained(model, tmp_path / "parts", fewer)
    assert (parts.history, parts.digest) == (whole.history, whole.digest)
    with pytest.raises(MismatchError, match="steps"):  # a finished one keeps no state to go on from
        trained(model, tmp_path / "parts")
    Mend(model, tiny_tokenizer(), MendConfig(network=str(tmp_path / "parts"))).close()


def test_prompts_to_leave_alone_are_the_lessons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: list[tuple[str, str]] = []
    real = training.Trainer._draw

    def note(self: Any) -> Any:
        edits, asked, elsewhere = real(self)
        read = [tiny_tokenizer().decode(ids) for ids in elsewhere]
        shown = [tiny_tokenizer().decode(sample.prompt) for sample in asked]
        assert [sample.prompt for sample in edits] != [sample.prompt for sample in asked]
        drawn.extend(zip(shown, read, strict=True))
        return edits, asked, elsewhere

    monkeypatch.setattr(training.Trainer, "_draw", note)
    taught = [Lesson(Edit(EDITED, "Rome", (REPHRASED,)), (OTHER,)), Lesson(Edit("Hello", "blue"))]
    trained(tiny_model(), tmp_path / "mend", SHORT.replace(steps=3, batch=8), lessons=taught)
    assert set(drawn) == {(REPHRASED, OTHER), ("Hello", EDITED)}


def test_what_cannot_be_trained(tmp_path: Path):
    model, place = tiny_model(), tmp_path / "mend"
    with pytest.raises(ConfigError, match="1 edits are too few"):
        trained(model, place, lessons=[Lesson(ONE)])
    with pytest.raises(ConfigError, match="blocks=9 is not valid: this model has 4"):
        trained(model, place, SHORT.replace(blocks=9))
    with pytest.raises(EditError, match="context"):
        trained(model, place, lessons=[*lessons(), Lesson(Edit("word " * 3000, "Rome"))])
    with pytest.raises(ModelError, match="no single down projection"):
        trained(tiny_model("mixtral"), place)
    trained(model, place, SHORT.replace(steps=1))
    with pytest.raises(MismatchError, match="steps=1, not 2"):
        trained(model, place, SHORT.replace(steps=2))
    with pytest.raises(MismatchError, match="trained on other edits"):
        trained(model, place, SHORT.replace(steps=1), lessons=lessons(4))
    with pytest.raises(MismatchError, match="another model"):
        trained(tiny_model(seed=1), place, SHORT.replace(steps=1))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    with pytest.raises(StoreError):
        trained(model, tmp_path / "other")


# --- the folder ----------------------------------------------------------------------------------------------------


def test_a_network_that_cannot_be_used(tmp_path: Path):
    model = tiny_model()
    place = tmp_path / "mend"
    trained(model, place, SHORT.replace(steps=1))

    def use(folder: Path, on: PreTrainedModel = model) -> Mend:
        return Mend(on, tiny_tokenizer(), MendConfig(network=str(folder)))

    with pytest.raises(ConfigError, match=r"needs a trained network: make one with 'horen bench train-mend .*network="):
        Mend(model, tiny_tokenizer())
    with pytest.raises(StoreError, match="does not exist"):
        use(tmp_path / "nowhere")
    for stranger in (tiny_model(seed=1), tiny_model("gpt2")):
        with pytest.raises(MismatchError, match="for another model"):
            use(place, stranger)
        opened("ultraedit", stranger).close()  # it was let go of
    shutil.copytree(place, tmp_path / "cut")
    tensors = tmp_path / "cut" / "codebook.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(StoreError, match="truncated or was altered"):
        use(tmp_path / "cut")
    found = read_folder(place, kind="network of MEND")
    for number, name in enumerate(("network.step_sizes", "moments.0.inputs.mean")):
        fewer = {other: tensor for other, tensor in found.tensors.items() if other != name}
        write_folder(tmp_path / f"{number}", config=found.config, records=[], tensors=fewer, kind="network of MEND")
        with pytest.raises(StoreError, match="holds no whole network"):
            use(tmp_path / f"{number}")
    write_folder(tmp_path / "bare", config={}, records=[], tensors=found.tensors, kind="network of MEND")
    with pytest.raises(StoreError, match="holds no whole network"):
        use(tmp_path / "bare")
    use(place).close()


def test_a_state_belongs_to_a_network_wherever_it_lies(tmp_path: Path):
    model = tiny_model()
    for name, seed in (("one", 0), ("two", 1)):
        trained(model, tmp_path / name, SHORT.replace(steps=1, seed=seed))
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    method = Mend(model, tiny_tokenizer(), MendConfig(network=str(tmp_path / "one")))
    method.edit(facts())
    expected = weights(method)
    method.save(tmp_path / "state")
    method.close()
    moved = Mend(model, tiny_tokenizer(), MendConfig(network=str(tmp_path / "moved")))
    moved.restore(tmp_path / "state")
    assert all(map(torch.equal, weights(moved), expected))
    moved.close()
    other = Mend(model, tiny_tokenizer(), MendConfig(network=str(tmp_path / "two")))
    with pytest.raises(MismatchError, match="network="):
        other.restore(tmp_path / "state")


def test_presets():
    paper = MendTraining.from_preset("paper")
    assert (paper.blocks, paper.modules, paper.rank, paper.edit_weight) == (3, "both", 1920, 0.1)
    assert (paper.learning_rate, paper.step_size, paper.step_size_rate, paper.batch) == (1e-6, 1e-4, 1e-4, 10)
