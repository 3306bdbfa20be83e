from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from horen.errors import StoreError
from horen.store.content import parse_records
from horen.store.tensors import map_tensors, tensors_to_bytes

PLACE = Path("folder")
TYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.uint16,
    torch.float8_e4m3fn,
]

shapes = st.lists(st.integers(0, 4), max_size=3)
named = st.dictionaries(st.text(min_size=1, max_size=5), st.tuples(st.sampled_from(TYPES), shapes), max_size=5)


def made(wanted: dict[str, tuple[torch.dtype, list[int]]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randint(0, 2, shape, generator=generator).to(dtype) for name, (dtype, shape) in wanted.items()}


def written(tensors: dict[str, Tensor]) -> bytes:
    return b"".join(bytes(chunk) for chunk in tensors_to_bytes(PLACE, tensors))


def mapped(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as handle:
        return map_tensors(PLACE, handle)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name].contiguous().flatten().view(torch.uint8), tensor.flatten().view(torch.uint8))


@given(named)
def test_the_format_is_that_of_safetensors(tmp_path_factory: pytest.TempPathFactory, wanted: dict):
    tensors = {name: tensor for name, tensor in made(wanted).items() if name != "__metadata__"}
    content = written(tensors)
    assert_equal(safetensors.torch.load(content), tensors)
    path = tmp_path_factory.mktemp("tensors") / "t"
    path.write_bytes(content)
    assert_equal(mapped(path), tensors)
    path.write_bytes(safetensors.torch.save(tensors, metadata={"made": "elsewhere"}))
    assert_equal(mapped(path), tensors)


def test_what_is_on_the_cpu_is_not_copied_to_be_written():
    keys = torch.randn(100, 8)
    _, chunk = tensors_to_bytes(PLACE, {"keys": keys[:50]})
    keys[3, 2] = 7
    assert bytes(chunk) == bytes(keys[:50].numpy().tobytes())


def test_transposed_and_shared_tensors_are_written_as_they_look():
    whole = torch.arange(12.0).view(3, 4)
    tensors = {"turned": whole.T, "part": whole[1:], "whole": whole}
    assert_equal(safetensors.torch.load(written(tensors)), {name: t.contiguous() for name, t in tensors.items()})


def test_a_mapped_tensor_is_its_reader_s_own_and_outlives_the_file(tmp_path: Path):
    path = tmp_path / "t"
    path.write_bytes(written({"a": torch.arange(4.0), "b": torch.arange(3)}))
    before, found = path.read_bytes(), mapped(path)
    found["a"][1] = 9
    assert path.read_bytes() == before
    assert mapped(path)["a"].tolist() == [0, 1, 2, 3]
    (tmp_path / "next").write_bytes(written({"a": torch.zeros(4)}))
    (tmp_path / "next").replace(path)
    assert found["a"].tolist() == [0, 9, 2, 3]
    assert found["b"].tolist() == [0, 1, 2]


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="says how much of a file was read on Linux alone")  # noqa: PTH110
def test_what_is_not_used_is_not_read(tmp_path: Path):
    path = tmp_path / "t"
    path.write_bytes(written({"values": torch.ones(8_000_000)}))
    found = mapped(path)
    resident = next(
        int(line.split()[1])
        for entry in Path("/proc/self/smaps").read_text().split(str(path))[1:]
        for line in entry.splitlines()
        if line.startswith("Rss:")
    )
    assert resident < 8000  # of 31,250 kB; the system reads ahead
    assert float(found["values"][-1]) == 1


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "F31"},
        {"shape": [3]},
        {"shape": [-2]},
        {"shape": "2"},
        {"data_offsets": [4, 12]},
        {"data_offsets": [-8, 0]},
        {"data_offsets": [0]},
        {"shape": [2**40], "data_offsets": [0, 2**42]},
    ],
    ids=str,
)
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, change: dict):
    path, text = tmp_path / "t", json.dumps({"a": ENTRY | change}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(StoreError, match="not a safetensors file"):
        mapped(path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"\xff" * 30, (5).to_bytes(8, "little") + b"[1,2]"], ids=str)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(StoreError, match="not a safetensors file"):
        mapped(tmp_path / "t")


@pytest.mark.parametrize("content", [b"{},{}\n", b'{"a": [\n]}\n', b"{}\n\n{}\n", b"[]\n", b"{}\n1\n"], ids=str)
def test_lines_that_only_together_are_a_list_are_refused(content: bytes):
    with pytest.raises(StoreError, match="line"):
        parse_records(PLACE, content)


def test_lines_are_read_with_and_without_an_end():
    assert parse_records(PLACE, b'{"a": 1}\n{}') == parse_records(PLACE, b'{"a": 1}\n{}\n') == [{"a": 1}, {}]
    assert parse_records(PLACE, b"") == []
