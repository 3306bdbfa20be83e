from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from folder_states import NAMES, STARTS, denied, listing, same, start, state
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from horen._version import __version__
from horen.errors import MismatchError, StoreError
from horen.store import lock_folder, read_folder, write_folder
from horen.store.content import FORMAT

# --- a plain round trip ----------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=4)
DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool
)  # fmt: skip


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    tensor = torch.arange(max(1, torch.Size(shape).numel()))[: torch.Size(shape).numel()].reshape(shape)
    tensor = tensor.to(draw(st.sampled_from(DTYPES)))
    return tensor.transpose(0, -1) if tensor.dim() > 1 and draw(st.booleans()) else tensor


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    config=OBJECTS,
    records=st.lists(OBJECTS, max_size=4),
    given_tensors=st.dictionaries(st.from_regex(r"\A[a-z][a-z.0-9]{0,8}\Z"), tensors(), max_size=4),
)
def test_round_trip(
    config: dict[str, object], records: list[dict[str, object]], given_tensors: dict[str, torch.Tensor]
):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a" / "b"
        write_folder(path, config=config, records=records, tensors=given_tensors)
        folder = read_folder(path)
        assert listing(path) == set(NAMES)
    assert folder.config == config
    assert folder.records == records
    assert folder.tensors.keys() == given_tensors.keys()
    for name, tensor in given_tensors.items():
        assert folder.tensors[name].dtype == tensor.dtype
        assert folder.tensors[name].shape == tensor.shape
        assert torch.equal(folder.tensors[name], tensor)


def test_tensors_that_share_memory_or_need_gradients(tmp_path: Path):
    buffer = torch.arange(12.0).reshape(4, 3)
    given_tensors = {
        "all": buffer,
        "head": buffer[:2],
        "turned": buffer.T,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "none": buffer[:0],
    }
    write_folder(tmp_path, config={}, records=[], tensors=given_tensors)
    loaded = read_folder(tmp_path).tensors
    for name, tensor in given_tensors.items():
        assert torch.equal(loaded[name], tensor)
        assert not loaded[name].requires_grad
    loaded["head"].fill_(7)
    assert loaded["all"][0, 0] == 0


def test_configuration_is_readable_by_people(tmp_path: Path):
    write_folder(tmp_path, **state(2))
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    document = json.loads(text)
    assert "Zürich" in text
    assert "\n  " in text
    assert document["horen_version"] == __version__
    assert (document["format"], document["kind"]) == (2, "codebook")
    for name in NAMES[1:]:
        content = (tmp_path / name).read_bytes()
        assert document["files"][name] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_replaces_the_state_and_leaves_other_files_alone(tmp_path: Path):
    (tmp_path / "README.md").write_text("mine")
    write_folder(tmp_path, **state(3))
    write_folder(tmp_path, **state(1))
    assert same(read_folder(tmp_path), state(1))
    assert listing(tmp_path) == {*NAMES, "README.md"}
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config": {"a": float("nan")}}, "configuration is not JSON"),
        ({"config": {"a": object()}}, "configuration is not JSON"),
        ({"config": {"a": "\ud800"}}, "configuration is not JSON"),
        ({"records": [{}, {"a": {1, 2}}]}, "record 2"),
        ({"records": [{"a": "\ud800"}]}, "record 1"),
        ({"tensors": {"a": [1]}}, "tensors"),
        ({"tensors": {1: torch.ones(1)}}, "tensors"),
        ({"tensors": {"__metadata__": torch.ones(1)}}, "reserved"),
        ({"tensors": {"a": torch.ones(2, 2).to_sparse()}}, "tensors"),
        ({"tensors": {"a": torch.ones(2, device="meta")}}, "tensors"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_the_folder_is_touched(
    tmp_path: Path, changed: dict[str, Any], message: str
):
    with pytest.raises(StoreError, match=message):
        write_folder(tmp_path / "new", **(state(1) | changed))
    assert not (tmp_path / "new").exists()


# --- damage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("committed_only", [False, True])
def test_truncation_is_noticed(tmp_path: Path, name: str, committed_only: bool):
    write_folder(tmp_path, **state(2))
    if committed_only:
        start(tmp_path / "x", "old, committed only")
        tmp_path, name = tmp_path / "x", f"{name}.next"
    content = (tmp_path / name).read_bytes()
    for size in (0, 1, len(content) // 2, len(content) - 1):
        (tmp_path / name).write_bytes(content[:size])
        if name.startswith("config.json") and size == len(content) - 1:
            continue  # the line feed at the end carries nothing
        with pytest.raises(StoreError, match=r"truncated or was altered") as caught:
            read_folder(tmp_path)
        assert name.removesuffix(".next") in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_no_flipped_bit_goes_unnoticed(tmp_path: Path, name: str):
    write_folder(tmp_path, **state(2))
    content = (tmp_path / name).read_bytes()
    for position in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        (tmp_path / name).write_bytes(flipped)
        try:
            folder = read_folder(tmp_path)
        except StoreError as error:
            assert str(tmp_path) in str(error)  # noqa: PT017
        else:
            # White space between the values of config.json carries nothing.
            assert name == "config.json"
            assert same(folder, state(2))


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_missing_file_is_named(tmp_path: Path, name: str):
    write_folder(tmp_path, **state(2))
    (tmp_path / name).unlink()
    with pytest.raises(StoreError, match=f"{name} is missing"):
        read_folder(tmp_path)


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Alter config.json and make its checksum fit, as a newer version or a forger would."""
    document = json.loads((path / "config.json").read_text(encoding="utf-8"))
    del document["checksum"]
    change(document)
    plain = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    document["checksum"] = hashlib.sha256(plain.encode()).hexdigest()
    (path / "config.json").write_text(json.dumps(document), encoding="utf-8")


def forge(path: Path, name: str, content: bytes) -> None:
    (path / name).write_bytes(content)
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    rewrite(path, lambda document: document["files"].update({name: entry}))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("edits.jsonl", b"{}\n[1]\n", "line 2 is not an object"),
        ("edits.jsonl", b"{}\n{}\n{nope\n", "line 3 is not JSON"),
        ("edits.jsonl", b"\xff\n", "line 1 is not JSON"),
        ("edits.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("codebook.safetensors", b"", "not a safetensors file"),
        ("codebook.safetensors", b"\x80\x04N.", "not a safetensors file"),
        ("codebook.safetensors", save({"a": torch.ones(3)})[:-4], "not a safetensors file"),
    ],
)
def test_forged_content_is_refused(tmp_path: Path, name: str, content: bytes, message: str):
    write_folder(tmp_path, **state(2))
    forge(tmp_path, name, content)
    with pytest.raises(StoreError, match=message):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(format="1"),
        lambda document: document.update(format=True),
        lambda document: document.update(format=0),
        lambda document: document.pop("format"),
        lambda document: document.update(files=[]),
        lambda document: document["files"].pop("edits.jsonl"),
        lambda document: document["files"].update({"edits.jsonl": {}}),
        lambda document: document.update(config=[]),
        lambda document: document.pop("config"),
    ],
)
def test_a_malformed_configuration_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None]):
    write_folder(tmp_path, **state(2))
    rewrite(tmp_path, change)
    with pytest.raises(StoreError, match="altered"):
        read_folder(tmp_path)


def test_a_newer_format_is_neither_read_nor_overwritten(tmp_path: Path):
    write_folder(tmp_path, **state(2))
    rewrite(tmp_path, lambda document: document.update(format=FORMAT + 1, horen_version="7.1.0"))
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(MismatchError, match=r"horen 7\.1\.0.*[Uu]pgrade"):
        read_folder(tmp_path)
    with pytest.raises(MismatchError, match=r"7\.1\.0"):
        write_folder(tmp_path, **state(3))
    assert (tmp_path / "config.json").read_bytes() == before


def test_the_kind_is_checked(tmp_path: Path):
    write_folder(tmp_path, **state(2), kind="router")
    assert same(read_folder(tmp_path, kind="router"), state(2))
    with pytest.raises(StoreError, match="router, not a codebook"):
        read_folder(tmp_path)
    with pytest.raises(StoreError, match="router, not a codebook"):
        write_folder(tmp_path, **state(3))


# --- places that are not ours ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b'{"model_type": "llama"}'),
        ("config.json", b"[]"),
        ("config.json", b"not json"),
        ("edits.jsonl", b'{"prompt": "a", "target": "b"}\n'),
        ("codebook.safetensors", b""),
    ],
)
def test_files_of_others_are_not_overwritten(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match=f"{name}.*would be overwritten"):
        write_folder(tmp_path, **state(1))
    assert (tmp_path / name).read_bytes() == content
    assert listing(tmp_path) == {name}
    with pytest.raises(StoreError):
        read_folder(tmp_path)


def test_places_that_cannot_be_used(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("x")
    for path in (file, file / "below"):
        with pytest.raises(StoreError, match="is a file"):
            write_folder(path, **state(1))
    with pytest.raises(StoreError, match="is a file"):
        read_folder(file)
    with pytest.raises(StoreError, match="does not exist"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="holds no codebook"):
        read_folder(tmp_path)
    with pytest.raises(StoreError, match="does not exist"), lock_folder(tmp_path / "nowhere", create=False):
        pass
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("ending", [".lock", "edits.jsonl.next", "new"])
def test_no_permission_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str):
    with denied(monkeypatch, ending), pytest.raises(StoreError, match="permission denied"):
        write_folder(tmp_path / "new", **state(1))


@pytest.mark.parametrize("name", NAMES)
def test_no_permission_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    write_folder(tmp_path, **state(1))
    with denied(monkeypatch, name), pytest.raises(StoreError, match="permission denied"):
        read_folder(tmp_path)


@pytest.mark.parametrize("how", STARTS[1:])
def test_reading_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str):
    path = tmp_path / "x"
    start(path, how)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("replace", "rename", "unlink", "mkdir", "fsync"):
        monkeypatch.setattr(os, name, refuse)
    # The superuser ignores these permissions, hence the functions above as well.
    path.chmod(0o555)
    before = {entry.name: entry.stat().st_mtime_ns for entry in path.iterdir()}
    try:
        assert same(read_folder(path), state(2))
        assert {entry.name: entry.stat().st_mtime_ns for entry in path.iterdir()} == before
    finally:
        path.chmod(0o755)


def test_a_copy_of_an_unfinished_folder_is_complete(tmp_path: Path):
    start(tmp_path / "a", "old, half rolled forward")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert same(read_folder(tmp_path / "b"), state(2))
