"""The command that uploads a codebook to a model hub."""

from __future__ import annotations

from typing import Annotated

import typer

from horen.cli.options import AsJson, Folder
from horen.cli.terminal import emit, show, status


def push(
    place: Folder,
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY", help="Such as name/facts.", show_default=False)],
    private: Annotated[
        bool, typer.Option("--private", help="Let a new repository be seen by its owner alone.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="NAME", help="The branch.  [default: the main one]")
    ] = None,
    message: Annotated[str, typer.Option("--message", metavar="TEXT", help="Of the commit.")] = (
        "Upload a HoReN codebook"
    ),
    as_json: AsJson = False,
) -> None:
    """Upload a codebook to the Hugging Face hub, as one commit.

    The edits go with their words, those that were replaced or removed too; paths of this machine do not. The repository
    is made where there is none, and a README.md there that somebody wrote stays. Log in with hf auth login. In Python
    horen.hub.load("name/facts") loads it.
    """
    folder = place.folder(f"push a folder that follows it (horen follow {place} NEW --once, then horen push NEW …)")
    with status(f"Uploading to {repository} …"):
        from horen import hub  # noqa: PLC0415

        address = hub.push(folder, repository, private=private or None, revision=revision, message=message)
    if as_json:
        emit({"repository": repository, "commit": address})
    else:
        show(f"{folder} is at {address}")
