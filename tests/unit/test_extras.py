"""What the package needs, and what it needs for some things alone: the table, the code and the messages agree."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from horen import HorenError, MissingExtraError
from horen.extras import EXTRAS, need, package_of, require
from support import core_alone
from support.tiny_models import taught_model
from support.tiny_tokenizers import tiny_tokenizer

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
#: What is imported and comes with a package that is named, in a release that this one chooses.
BROUGHT = {"httpx2": "transformers", "huggingface_hub": "transformers", "markupsafe": "jinja2", "triton": "torch"}
#: Modules that are imported by their names alone, by code that goes on without them.
FALLBACKS = {"horen.memory.search.cpu_kernel": "numba", "horen.memory.search.cuda_kernel": "triton"}
#: Reached through ``importlib``, where ``horen.memory`` may know nothing else of the package.
BY_NAME = {"horen.memory.search.index": "faiss"}
NOT_FOR_USERS = {"dev", "docs"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", line)[0] for line in requirements if not line.startswith("horen[")}


def others(requirements: list[str]) -> set[str]:
    return {name for line in requirements if line.startswith("horen[") for name in line[6:-1].split(",")}


# --- the table ---------------------------------------------------------------------------------------------------


def test_the_table_is_that_of_the_project(project: dict[str, Any]):
    told = {name: lines for name, lines in project["optional-dependencies"].items() if name not in NOT_FOR_USERS}
    assert set(told) == set(EXTRAS)
    for name, lines in told.items():
        assert (set(EXTRAS[name].packages), set(EXTRAS[name].extras)) == (names(lines), others(lines)), name


def test_all_is_what_is_before_it_and_dev_has_all(project: dict[str, Any]):
    order = list(EXTRAS)
    assert set(EXTRAS["all"].extras) == set(order[: order.index("all")])
    assert "all" in others(project["optional-dependencies"]["dev"])


def test_the_core_is_light(project: dict[str, Any]):
    """Torch and transformers, what they are used with, two packages that torch depends on, and what reads histories."""
    used = {"torch", "transformers", "safetensors", "numpy", "filelock", "jinja2"}
    assert names(project["dependencies"]) == used | {"msgspec"}


# --- imports -----------------------------------------------------------------------------------------------------


def modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(SRC.rglob("*.py")):
        name = ".".join(file.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(file.read_text(encoding="utf-8"))


TREES = dict(modules())


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The modules that are imported by statements, with their lines; those for types alone are left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module, node.lineno
        yield from imported(node)


def calls(tree: ast.AST, function: str) -> Iterator[tuple[list[str], int]]:
    """The constant arguments of each call of a function, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
            yield [str(one.value) for one in node.args if isinstance(one, ast.Constant)], node.lineno


def guards(name: str, line: int) -> set[str]:
    """The packages whose absence is told before a line of a module is reached."""
    parts = name.split(".")
    extras = {
        given[0] for place in range(1, len(parts)) for given, _ in calls(TREES[".".join(parts[:place])], "require")
    }
    extras |= {given[0] for given, at in calls(TREES[name], "require") if at < line}
    return {package for extra in extras for package in EXTRAS[extra].packages}


def test_whatever_is_not_in_the_core_is_reached_past_a_guard(project: dict[str, Any]):
    core = names(project["dependencies"])
    seen = set()
    for name, tree in TREES.items():
        for module, line in imported(tree):
            root = module.partition(".")[0]
            if root in sys.stdlib_module_names or root == "horen" or BROUGHT.get(root, package_of(root)) in core:
                continue
            seen.add(package_of(root))
            assert FALLBACKS.get(name) == root or package_of(root) in guards(name, line), (name, line, module)
    assert {"typer", "rich", "scipy", "numba", "lm-eval"} <= seen  # that this looks at what there is


def test_modules_with_a_fallback_are_imported_by_name_alone():
    for name, tree in TREES.items():
        assert not {module for module, _ in imported(tree)} & set(FALLBACKS), name


def test_modules_that_are_asked_for_are_in_their_extras():
    found = [(name, given) for name, tree in TREES.items() for given, _ in calls(tree, "need")]
    assert len(found) >= 8
    for name, given in found:
        if len(given) > 1 and name != "horen.model.zoo.cache":  # which puts one name together
            assert package_of(given[1]) in EXTRAS[given[0]].packages, (name, given)
    wanted = {package_of(given[1]) for _, given in found if len(given) > 1}
    assert {"matplotlib", "peft", "faiss-cpu", "platformdirs", "gguf", "sentence-transformers", "datasets"} <= wanted


def test_nothing_else_imports_a_package_by_name(project: dict[str, Any]):
    core = names(project["dependencies"])
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
                given = re.match(r"f?'?(\w+)", ast.unparse(node.args[0]))[1]
                known = given in {"horen", "module", "_ROOM", BY_NAME.get(name)}
                assert known or BROUGHT.get(given, given) in core, (name, ast.unparse(node))


# --- messages ----------------------------------------------------------------------------------------------------


def test_a_missing_package_is_an_error_of_the_family(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError) as caught:
        need("index", "faiss", "This needs", ", or go without")
    assert isinstance(caught.value, HorenError)
    assert isinstance(caught.value, ImportError)
    assert str(caught.value).startswith("This needs the package faiss-cpu, which cannot be imported (")
    assert str(caught.value).endswith("): pip install 'horen[index]', or go without.")
    with pytest.raises(MissingExtraError, match=r"^This needs packages that are not installed \(faiss-cpu\): pip"):
        require("index", "This needs")


def test_what_is_installed_is_given():
    assert need("calibration", "scipy.stats", "This needs").beta.ppf(0.5, 1, 1) == 0.5
    require("calibration", "This needs")
    require("models", "This needs", ("gguf",))


# --- the package without its extras ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the package does in a process that has none of the extras' packages."""
    work = tmp_path_factory.mktemp("alone")
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as every test has it, but for what several of them share
    taught_model().save_pretrained(work / "model")
    torch.set_num_threads(before)
    tiny_tokenizer("chatml").save_pretrained(work / "model")
    hidden = {package.replace("-", "_") for extra in EXTRAS.values() for package in extra.packages} | {"faiss"}
    hidden -= set(BROUGHT)
    command = [sys.executable, core_alone.__file__, str(work / "model"), str(work), *sorted(hidden)]
    # Threads of torch that wait for one another beside other tests make minutes of seconds.
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_core_edits_asks_saves_loads_and_takes_back(alone: dict[str, Any]):
    assert alone["converged"] == [True, True]
    assert alone["asked"] == ["Mira Sand", "Oslo"]
    assert alone["fired"]
    assert alone["loaded"] == "Mira Sand"
    assert alone["undone"] == alone["before"] != "Mira Sand"
    assert alone["imported"] == []


@pytest.mark.parametrize(
    ("thing", "extra", "package"),
    [
        ("the default settings", "models", "platformdirs"),
        ("an embedded model", "models", "gguf, accelerate"),
        ("a GGUF file", "models", "gguf, accelerate"),
        ("several devices", "models", "accelerate"),
        ("progress", "cli", "rich"),
        ("a calibration", "calibration", "scipy"),
        ("a benchmark", "bench", "rouge-score"),
        ("a drawing", "bench", "matplotlib"),
        ("another encoder", "encoder", "sentence-transformers"),
        ("an index", "index", "faiss-cpu"),
        ("the editor lora", "baselines", "peft"),
    ],
)
def test_what_needs_an_extra_names_it(alone: dict[str, Any], thing: str, extra: str, package: str):
    told = alone["messages"][thing]
    assert told.startswith("MissingExtraError: ")
    assert package in told
    assert told.count("pip install") == 1
    assert f": pip install 'horen[{extra}]'" in told
    assert "\n" not in told


def test_the_program_without_its_packages_says_so_in_a_line(alone: dict[str, Any]):
    assert alone["messages"]["the program"] == (
        "2: Error: The program horen needs packages that are not installed (rich, typer): pip install 'horen[cli]'.\n"
    )
