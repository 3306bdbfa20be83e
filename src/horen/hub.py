"""Codebooks on a model hub: pushed there and loaded from there, through huggingface_hub.

What is fetched is text and safetensors, whatever else a repository holds; nothing of it is run, and a codebook answers
only on the model whose weights it was made for, as with any folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen._version import __version__
from horen.editor import Editor
from horen.errors import StoreError
from horen.model.zoo.loading import ModelOptions
from horen.store import write_folder
from horen.store.card import CARD, is_ours, shown_source
from horen.store.content import CONFIG
from horen.store.names import FIRST, PATTERNS
from horen.store.state import Saved

# A folder that is written anew has no more.
_FILES = (CONFIG, *FIRST, CARD)


def push(
    codebook: Editor | str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str = "Upload a HoReN codebook",
    token: str | bool | None = None,
    endpoint: str | None = None,
) -> str:
    """Upload a codebook as one commit; the repository is made where there is none. Returns the commit's address.

    Edits are uploaded with their words, and with those that were replaced or removed. Paths of this machine are not:
    whoever loads a codebook of a model that has no public name passes the model, and names an own text encoder.
    A README.md in the repository that this package did not write, or that somebody changed, stays.

    Args:
        codebook: an editor, whose codebook is uploaded as it is now, or the folder of a saved one.
        repo_id: such as "name/facts".
        private: whether a new repository is seen by its owner alone; None goes by the owner's settings.
        revision: the branch, which must be there; None for the main one.
        message: of the commit.
        token: of the hub; None for that of ``hf auth login``.
        endpoint: address of another hub; None for that of the environment.

    Raises:
        StoreError: when the codebook cannot be read, or the hub refuses.
        MismatchError: when the editor's model has changed since its codebook began.
    """
    api = HfApi(endpoint=endpoint, token=token, library_name="horen", library_version=__version__)
    with tempfile.TemporaryDirectory(prefix="horen-push-") as place:
        folder = Path(place) / "codebook"
        _write_public(codebook, folder)
        with _told(repo_id):
            api.create_repo(repo_id, private=private, exist_ok=True)
            files = [name for name in _FILES if name != CARD or _may_replace_card(api, repo_id, revision, Path(place))]
            done = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                allow_patterns=files,
                revision=revision,
                commit_message=message,
            )
    return str(done.commit_url)


def load(
    repo_id: str,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    revision: str | None = None,
    dtype: torch.dtype | str = "auto",
    device: str | torch.device | None = None,
    progress: bool = False,
    encoder: str | os.PathLike[str] | None = None,
    model_options: ModelOptions | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
) -> Editor:
    """Fetch a codebook from the hub, keep it in the hub's cache, and wrap its model.

    Args:
        repo_id: such as "name/facts".
        model: see :meth:`horen.Editor.load`, like all that is not told here.
        tokenizer: needed with ``model``.
        revision: branch, tag or commit; a commit is what stays the same.
        dtype: of the weights.
        device: where to put the model.
        progress: show the fetching of an embedded model on standard error.
        encoder: the text encoder that made the keys, unless that is the package's own.
        model_options: for the loading of the model.
        token: of the hub; None for that of ``hf auth login``.
        cache_dir: where to keep what is fetched; None for the hub's usual place.
        endpoint: address of another hub; None for that of the environment.

    Raises:
        StoreError: when the repository cannot be reached, or holds no codebook.
        MismatchError: when it was made for another model or by a newer version.
        ModelError: when the model or the text encoder cannot be loaded, or that is not named.
    """
    with _told(repo_id):
        folder = snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=[*PATTERNS, CARD],
            token=token,
            cache_dir=None if cache_dir is None else Path(cache_dir),
            endpoint=endpoint,
            library_name="horen",
            library_version=__version__,
        )
    return Editor.load(
        folder,
        model,
        tokenizer,
        dtype=dtype,
        device=device,
        progress=progress,
        encoder=encoder,
        model_options=model_options,
    )


def _write_public(codebook: Editor | str | os.PathLike[str], folder: Path) -> None:
    """Write a codebook into a new folder, without the paths of this machine but with a card of the user's own."""
    if isinstance(codebook, Editor):
        codebook.save(folder)
        saved = Saved.read(folder)
    else:
        # Read as a whole, so that a writer may come in between.
        saved = Saved.read(codebook)
    config = dict(saved.folder.config)
    config["model"] = {**config["model"], "source": shown_source(saved.source)}
    if Path(saved.config.encoder).is_absolute():
        name = Path(saved.config.encoder).name
        config["settings"] = {**config["settings"], "encoder": name}
        if "encoder" in config:
            config["encoder"] = {**config["encoder"], "name": name}
    write_folder(folder, config=config, records=saved.folder.records, tensors=saved.folder.tensors)
    own = Path(saved.path) / CARD
    if saved.path != folder and own.exists() and not is_ours(own):
        shutil.copyfile(own, folder / CARD)


def _may_replace_card(api: HfApi, repo_id: str, revision: str | None, place: Path) -> bool:
    """Whether a repository has no card, or one that is as this package wrote it."""
    try:
        there: Any = api.hf_hub_download(repo_id, CARD, revision=revision, local_dir=place / "there")
    except EntryNotFoundError:
        return True
    return is_ours(Path(there))


@contextmanager
def _told(repo_id: str) -> Iterator[None]:
    """Errors of the hub as this package's, in one line and with the way out."""
    try:
        yield
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StoreError(
            f"The hub's repository {repo_id!r} cannot be used ({reason}): check its name and revision, and whether "
            "your token may see or change it (hf auth login)."
        ) from error
