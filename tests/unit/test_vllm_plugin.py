"""What of the plugin for vLLM needs no vLLM; the rest is tested inside of it (tests/engines)."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from horen.errors import ConfigError
from horen.front.writing import Write, Writing
from horen.vllm.asked import CARRIED
from horen.vllm.blocks import own_blocks
from horen.vllm.operator import Buffers, hook
from horen.vllm.settings import Settings, named

SIZE = 6


def writing(at: int = 5, number: float = 1.0) -> Writing:
    later = Write(at + 2, (7, 8), torch.full((SIZE,), 3.0))
    return Writing.of(4, 0.75, 9, [Write(at, (), torch.full((SIZE,), number)), later])


def test_what_is_carried_comes_back():
    given = writing()
    found = Writing.unpacked(given.packed())
    assert (found.edit, found.score, found.version, found.digest) == (4, 0.75, 9, given.digest)
    assert [(write.at, write.behind) for write in found.writes] == [(5, ()), (7, (7, 8))]
    assert all(torch.equal(one.value, two.value) for one, two in zip(found.writes, given.writes, strict=True))
    assert found.first == given.packed()["first"] == 5


def test_a_digest_is_of_values_and_places():
    digests = [writing().digest, writing(at=6).digest, writing(number=2.0).digest]
    assert len(set(digests)) == 3
    assert writing().digest == digests[0]


class Layer(nn.Module):
    """Hands on hidden states, alone or with a residual, as layers of vLLM's models do."""

    def __init__(self, *, pair: bool) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, states: Tensor) -> Any:
        return (states * 2, states + 1) if self.pair else states * 2


def total(output: Any) -> Tensor:
    return sum(output) if isinstance(output, tuple) else output


@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("replaces", [True, False])
def test_values_are_written_at_their_rows_alone(pair: bool, replaces: bool):
    layer, buffers = Layer(pair=pair), Buffers(8, SIZE, torch.zeros(0))
    layer.register_forward_hook(hook(buffers, replaces=replaces))
    states = torch.randn(5, SIZE)
    plain = total(layer(states))
    values = [torch.full((SIZE,), 1.0), torch.full((SIZE,), 2.0)]
    buffers.fill([3, 1], values)
    written = total(layer(states))
    expected = plain.clone()
    expected[[3, 1]] = torch.stack(values) + (0 if replaces else plain[[3, 1]])
    assert torch.allclose(written, expected)
    buffers.fill([], [])
    assert torch.equal(total(layer(states)), plain)


def test_a_block_is_an_edits_own_from_its_first_value_on():
    def usual(*_: Any) -> tuple[tuple[str, ...] | None, int]:
        return None, 3

    keys = own_blocks(usual)
    carrying = SimpleNamespace(sampling_params=SimpleNamespace(extra_args={CARRIED: writing(at=5).packed()}))
    found = [keys(carrying, start, start + 4, 0) for start in (0, 4, 8)]
    # What follows is its own by its hash, into which that of the block before goes.
    assert found == [(None, 3), ((("horen", writing(at=5).digest),), 3), (None, 3)]
    assert keys(SimpleNamespace(sampling_params=SimpleNamespace(extra_args=None)), 4, 8, 0) == (None, 3)
    assert keys(SimpleNamespace(sampling_params=None), 4, 8, 0) == (None, 3)


def config(given: Any) -> Any:
    return SimpleNamespace(additional_config=given)


def test_a_codebook_is_named_by_the_configuration_or_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert named(config({})) is None
    assert named(config({"horen": {"codebook": "facts"}})) == "facts"
    monkeypatch.setenv("HOREN_CODEBOOK", "others")
    assert named(config({})) == "others"
    assert named(config({"horen": {"codebook": "facts"}})) == "facts"
    monkeypatch.setenv("HOREN_DISABLED", "1")
    assert named(config({"horen": {"codebook": "facts"}})) is None


@pytest.mark.parametrize("section", ["facts", {"folder": "facts"}])
def test_a_section_that_is_not_understood_is_refused(section: Any):
    with pytest.raises(ConfigError, match="'codebook': FOLDER"):
        named(config({"horen": section}))


def test_what_workers_are_told_is_part_of_the_configuration():
    given = config({"other": 1})
    assert Settings.of(given) is None
    settings = Settings("facts", "model.layers.3", replaces=True)
    settings.note(given)
    assert Settings.of(given) == settings
    assert given.additional_config["other"] == 1


def test_the_plugin_can_be_imported_whatever_is_missing():
    # vLLM only logs a plugin that it cannot import, and serves the model as it is.
    code = "import sys; import horen.vllm.plugin; sys.exit(any(name in sys.modules for name in ('torch', 'vllm')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
