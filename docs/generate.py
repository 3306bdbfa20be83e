"""What the site has beside the pages in this folder: the home page, help of the commands, settings and the API.

A hook of MkDocs. All of it is made of the README and the code while the site is built, so nothing can be out of date.
"""

from __future__ import annotations

import json
import logging
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

import horen
from horen.cli.app import app
from horen.config import HorenConfig
from horen.config.settings import Described
from horen.editors import METHODS, settings_of
from horen.extras import EXTRAS

ROOT = Path(__file__).parent.parent
_LOG = logging.getLogger("mkdocs.hooks.generate")
_HEAD = ("| setting | value | type | meaning |", "| --- | --- | --- | --- |")
_LINK = re.compile(r"\[([^\]]*)\]\(((?!\w+:)[^)#\s]+)(#[^)\s]*)?\)")
# Docstrings name what they refer to in the way of Sphinx.
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>([^<]*)</code>")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give headings the anchors that the same files have where a repository shows them."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "index.md": (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](").replace('"docs/', '"'),
        "reference/commands.md": commands(),
        "reference/settings.md": settings(),
        "reference/extras.md": extras(),
        **api(),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Name files of the repository that are no page of the site, rather than link to where nothing is."""
    # The home page is written where it is a README.
    place = ROOT if page.file.src_uri == "index.md" else (Path(config.docs_dir) / page.file.src_uri).parent

    def named(found: re.Match[str]) -> str:
        path = (place / found[2]).resolve()
        own = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), found[2]))
        if path.is_relative_to(config.docs_dir) or files.get_file_from_path(own) is not None:
            return found[0]
        if not path.exists():
            _LOG.warning("%s links to %s, which does not exist.", page.file.src_uri, found[2])
        name = path.relative_to(ROOT).as_posix()
        return f"`{name}`" if found[1].strip("`") == name else f"{found[1]} (`{name}`)"

    return _LINK.sub(named, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Show what docstrings refer to as code."""
    return _ROLE.sub(lambda found: f"<code>{found[1].lstrip('~')}</code>", html)


def commands() -> str:
    """Return the page of all commands: what ``--help`` prints."""
    found = helps(typer.main.get_command(app))
    told = "\n\n".join(f"## {name}\n\n```text\n{text.strip()}\n```" for name, text in found)
    return f"# Commands\n\nWhat `--help` prints, command by command.\n\n{told}\n"


def helps(command: Any, names: Sequence[str] = ("horen",), parent: Any = None) -> Iterator[tuple[str, str]]:
    """Yield the name and the help of a command and of all its own."""
    name = " ".join(names)
    context = command.context_class(command, info_name=names[-1], parent=parent, terminal_width=100)
    yield name, command.get_help(context)
    for own in command.list_commands(context) if hasattr(command, "list_commands") else ():
        yield from helps(command.get_command(context, own), (*names, own), context)


def settings() -> str:
    """Return the page of all settings: HoReN's by what they decide, and those of the other editors."""
    lines = [
        "# Settings",
        "",
        "`horen settings` prints those of HoReN. A new codebook takes them with `--set NAME=VALUE` or",
        "`HorenConfig(NAME=VALUE)`. Of one that holds edits already, `horen rekey` changes all but those of",
        "*what a value is and how it is trained*. Values are those of `default`, and of other presets that differ.",
    ]
    presets = {name: {item.name: item for item in HorenConfig.describe(name)} for name in HorenConfig.presets}
    for decides in (*HorenConfig.decisions.values(), ""):
        title = decides or "where settings come from"
        lines += ["", f"## {title[0].upper()}{title[1:]}", "", *_HEAD]
        for item in presets["default"].values():
            if item.decides == decides:
                others = [(name, told[item.name]) for name, told in presets.items()]
                values = [_value(item.default)]
                values += [f"{name}: {_value(one.value)}" for name, one in others if one.value != item.default]
                lines.append(_row(f"`{item.name}`", "<br>".join(values), _type(item), item.help))
    lines += ["", "## The other editors", "", "`--method NAME`; each has a preset `paper` with what was published."]
    for name in METHODS:
        kind = settings_of(name)
        if not issubclass(kind, HorenConfig) and (told := kind.describe()):
            lines += ["", f"### {name}", "", *_HEAD]
            lines += [_row(f"`{item.name}`", _value(item.default), _type(item), item.help) for item in told]
    return "\n".join(lines) + "\n"


def extras() -> str:
    """Return the page of the extras: what each is for, and what it installs."""
    lines = [
        "# Extras",
        "",
        "`pip install horen` brings torch, transformers, safetensors and numpy, with which a model in transformers'",
        "format is edited. What only some things need is in extras: `pip install 'horen[cli,models]'`, or",
        "`pip install '.[cli,models]'` in the folder of the repository. Whatever needs one that is missing says so,",
        "with the command that installs it.",
        "",
        "| extra | what for | packages |",
        "| --- | --- | --- |",
    ]
    for name, extra in EXTRAS.items():
        brought = [*(f"`{package}`" for package in extra.packages), *(f"extra `{other}`" for other in extra.extras)]
        lines.append(_row(f"`{name}`", extra.purpose, ", ".join(brought)))
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _type(item: Described) -> str:
    return ", ".join(filter(None, (item.type, item.allowed)))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def api() -> dict[str, str]:
    """Return the pages of the public names of the package, by what they are."""
    pages = {
        "editor": "# Editor\n\nThe one object that you hold, and its settings.\n",
        "records": "# Edits and results\n\nWhat is given to an editor, and what comes back.\n",
        "exceptions": "# Exceptions\n\nWhat to do about each: [When something is wrong](../errors/index.md).\n",
    }
    for name in horen.__all__:
        kind = getattr(horen, name)
        if not isinstance(kind, type):
            continue
        page = "exceptions" if issubclass(kind, Exception) else "records"
        if kind in (horen.Editor, HorenConfig):
            page = "editor"
        pages[page] += f"\n::: {kind.__module__}.{kind.__qualname__}\n"
    return {f"reference/{name}.md": text for name, text in pages.items()}
