"""The program as a whole: help, version, models, errors, start-up."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cli_support import Ok, Run

import horen
from horen.cli import app as program
from horen.cli.commands import models
from horen.errors import ModelError
from horen.model.zoo.embedded import EMBEDDED

COMMANDS = [
    "demo",
    "edit",
    "ask",
    "chat",
    "explain",
    "doctor",
    "verify",
    "list",
    "show",
    "supersede",
    "remove",
    "undo",
    "history",
    "compact",
    "export",
    "import",
    "merge",
    "follow",
    "drafts",
    "diff",
    "tag",
    "rollback",
    "sets",
    "audit",
    "keys",
    "backup",
    "upgrade",
    "push",
    "calibrate",
    "rekey",
    "scope",
    "models",
    "settings",
    "bench",
    "serve",
    "mcp",
]


def horen_program(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "horen.cli", *args], capture_output=True, text=True, **options)


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_fits_the_terminal(command: str | None, run: Run):
    result = run(*([command] if command else []), "--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "EDIT_HELP" not in result.stdout
    assert "..." not in result.stdout.replace("]...", "").replace("}...", "")


def test_help_names_every_command(run: Run):
    text = run("--help").stdout
    assert [line.split()[0] for line in text[text.index("Commands:") :].splitlines()[1:]] == COMMANDS


def test_version(run: Run):
    assert run("--version").stdout == f"horen {horen.__version__}\n"


@pytest.mark.parametrize(
    "args", [["--nonsense"], ["edit"], ["show", "book", "one"], ["edit", "f", "--into", "d", "--batch", "0"]]
)
def test_wrong_usage(args: list[str], run: Run):
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["models"], ["settings"], ["edit", "--help"]])
def test_quick_commands_import_no_torch(args: list[str]):
    code = (
        "import sys\nfrom horen.cli.app import app\n"
        f"app({args!r}, standalone_mode=False)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    start = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - start < 5


def test_importing_the_package_is_light_and_still_gives_the_editor():
    code = (
        "import sys, horen\nassert 'torch' not in sys.modules\nassert 'Editor' in dir(horen)\n"
        "from horen import Editor\nassert Editor is horen.Editor\nassert 'torch' in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        horen.nothing  # noqa: B018


def test_errors_in_a_process_of_its_own():
    result = horen_program("list", "nowhere")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "Error: The folder nowhere does not exist; check the path.\n"


def test_unexpected_errors_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def broken() -> None:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(program, "app", broken)
    with pytest.raises(SystemExit, match="1"):
        program.main()
    message = "Error: unexpected RuntimeError: out of memory. Set HOREN_TRACEBACK=1 to see where.\n"
    assert capsys.readouterr().err == message
    monkeypatch.setenv("HOREN_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="out of"):
        program.main()


def test_reader_that_goes_away(book: Path):
    command = f"{sys.executable} -m horen.cli list {book} --json | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)  # noqa: S607
    assert result.stderr == ""


# --- models ------------------------------------------------------------------------------------------------------


def test_models(run: Run, ok: Ok, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOREN_CACHE", str(tmp_path))
    found = ok("models")
    assert [item["name"] for item in found] == list(EMBEDDED)
    assert found[0]["cached"] is False
    assert {"parameters", "license", "license_url", "download_bytes", "disk_bytes", "notice", "chat"} <= set(found[0])
    text = run("models").stdout
    for model in EMBEDDED.values():
        assert f"{model.name} (to be fetched on first use, {model.download_bytes / 1e6:.0f} MB)" in text
        assert f"{model.license}: {model.license_url}" in text
    assert "its folder or its hub id" in text


def test_fetch_and_remove(run: Run, ok: Ok, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(models, "fetch", lambda name, **_: tmp_path / name)
    assert ok("models", "--fetch", "one") == {"name": "one", "folder": str(tmp_path / "one")}
    assert run("models", "--fetch", "one").stdout == f"one is in {tmp_path / 'one'}\n"
    monkeypatch.setattr(models, "remove_model", lambda name: name == "one")
    assert ok("models", "--remove", "one") == {"name": "one", "removed": True}
    assert run("models", "--remove", "two").stdout == "two was not in the cache.\n"
    assert run("models", "--remove", "two", "--fetch", "one").exit_code == 2


def test_fetch_of_an_unknown_model(run: Run):
    result = run("models", "--fetch", "gpt-9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: There is no embedded model named 'gpt-9'")


def test_fetch_that_fails(run: Run, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> Path:
        raise ModelError("The index cannot be reached.")

    monkeypatch.setattr(models, "fetch", fail)
    assert run("models", "--fetch", "one").stderr == "Error: The index cannot be reached.\n"
