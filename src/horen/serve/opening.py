"""Opening all that a service is made of, in order, and closing it again."""

from __future__ import annotations

import asyncio
import copy
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from horen.config import HorenConfig
from horen.data import demo_facts
from horen.database.cache import folder_of
from horen.database.drafts import Proposal
from horen.database.records import By
from horen.database.snapshot import Snapshot
from horen.database.store import Store
from horen.errors import ConfigError, ModelError
from horen.front.front import Front
from horen.model.zoo.embedded import full_name
from horen.model.zoo.loading import load_model
from horen.serve.app import create_app
from horen.serve.engines.interface import Engine
from horen.serve.explaining import FrontExplainer
from horen.serve.running import bound, run
from horen.serve.settings import Settings, check_binding
from horen.serve.training.process import How, TrainerProcess
from horen.store.places import without_passwords
from horen.store.state import Saved

_log = logging.getLogger("horen.serve")
#: Engines that are run here; any other is the URL of a server of vLLM's.
EMBEDDED, VLLM = "transformers", "vllm"


@dataclass(frozen=True)
class Order:
    """What is to be served, and how.

    Attributes:
        store: address of the store.
        settings: of the service.
        model: where the model is; None for where the store's came from.
        name: under which the model is asked; None for the last part of where it came from.
        engine: "transformers", "vllm", or the URL of a server of vLLM's that follows the store.
        engine_key: that such a server asks for.
        dtype: of the weights.
        device: where the model is put; None for the CPU.
        trains: whether drafts are trained beside the service.
        options: of vLLM's engine, where it is run here.
    """

    store: str
    settings: Settings
    model: str | None = None
    name: str | None = None
    engine: str = EMBEDDED
    engine_key: str | None = None
    dtype: str = "auto"
    device: str | None = None
    trains: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.engine not in (EMBEDDED, VLLM) and not self.engine.startswith(("http://", "https://")):
            raise ConfigError(
                f"The engine {self.engine!r} is none: choose {EMBEDDED}, {VLLM}, or the URL of a server of vLLM's."
            )
        if self.options and self.engine != VLLM:
            raise ConfigError(f"Options of vLLM's engine are given, and the engine is {self.engine}: leave them out.")


#: Told what is being done, in words.
Tell = Callable[[str], None]


def serve(order: Order, tell: Tell, ready: Callable[[str, int], None]) -> None:
    """Serve a store until a signal ends it.

    Args:
        order: what, and how.
        tell: told what is being done until it is ready.
        ready: told the address and the port, when it begins to answer.

    Raises:
        HorenError: when something cannot be opened; nothing is left running then.
    """
    with ExitStack() as held:
        place = bound(order.settings)
        held.callback(place.close)
        store = held.enter_context(Store.open(order.store))
        check_binding(order.settings, store)
        tell(f"Reading {without_passwords(order.store)} …")
        snapshot = Snapshot(store, folder_of(store))
        snapshot.follow()
        saved = Saved.read(snapshot.folder)
        engine, explainer, tokenizer = _engine(order, saved, tell)
        # The application ends the engine; where there is none yet, nobody else does.
        not_served = held.enter_context(ExitStack())
        not_served.callback(lambda: asyncio.run(engine.close()))
        held.enter_context(followed(snapshot))
        trainer = None
        if order.trains:
            how = How(order.model, order.dtype, order.device, order.settings.four_eyes)
            trainer = TrainerProcess(order.store, snapshot.folder, how)
            trainer.start()
            held.callback(trainer.close)
        app = create_app(store, engine, order.settings, explainer, tokenizer, trainer)
        not_served.pop_all()
        ready(order.settings.address, place.getsockname()[1])
        run(app, place)


def _engine(order: Order, saved: Saved, tell: Tell) -> tuple[Engine, FrontExplainer | None, PreTrainedTokenizerBase]:
    source = order.model or saved.source
    if source is None:
        raise ModelError(f"{saved.path} does not record where its model came from: say it with --model.")
    name = order.name or Path(source).name
    if order.engine == EMBEDDED:
        from horen.serve.engines.embedded import Embedded  # noqa: PLC0415

        tell(f"Loading {source} …")
        options = saved.model_options() if order.model is None else None
        model, tokenizer = load_model(source, dtype=order.dtype, device=order.device, options=options)
        embedded = Embedded(model, tokenizer, saved.path, name=name)
        assert embedded.front is not None  # noqa: S101 - it has a codebook
        return embedded, FrontExplainer(embedded.front, _own(tokenizer)), tokenizer
    if order.engine == VLLM:
        from horen.serve.engines.vllm_local import LocalVllm  # noqa: PLC0415

        tell(f"Starting vLLM with {source} …")
        typed = {} if order.dtype == "auto" else {"dtype": order.dtype}
        served: Engine = LocalVllm(full_name(source), str(saved.path), name=name, **typed, **order.options)
    else:
        from horen.serve.engines.vllm_remote import RemoteVllm  # noqa: PLC0415

        tell(f"Asking {order.engine} …")
        served = asyncio.run(RemoteVllm.open(order.engine, order.name, key=order.engine_key))
    tell(f"Reading {source}, to say where prompts go …")
    front = Front.load(saved.path, source)
    tokenizer = front.session.tokenizer
    return served, FrontExplainer(front, _own(tokenizer)), tokenizer


def _own(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a copy of a tokenizer, for another thread."""
    return copy.deepcopy(tokenizer)


@contextmanager
def followed(snapshot: Snapshot) -> Iterator[None]:
    """Keep a snapshot in step with its store within the block."""
    over = threading.Event()
    thread = threading.Thread(
        target=snapshot.keep,
        args=(lambda version: _log.info("The snapshot is at version %d.", version), over.is_set),
        name="horen-follow",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)


def make_store(address: str, model: str, config: HorenConfig, dtype: str, device: str | None, by: By) -> None:
    """Make an empty store for a model.

    Args:
        address: where.
        model: an embedded name, a folder, a GGUF file or a hub id.
        config: the settings of its codebook.
        dtype: of the weights.
        device: where the model is put meanwhile.
        by: who does it.

    Raises:
        HorenError: when the model cannot be loaded, or the store not be made.
    """
    from horen.editor import Editor  # noqa: PLC0415

    editor = Editor.from_pretrained(full_name(model), config, dtype=dtype, device=device)
    editor.prepare()
    with tempfile.TemporaryDirectory() as folder:
        editor.save(folder)
        Store.create(address, Saved.read(folder), by).close()


def propose_demo(store: Store) -> int:
    """Propose the demo's facts to a store that has none yet, to be published as they are trained; return how many.

    Raises:
        StoreError: when the store cannot be written.
    """
    if store.about().edits or store.drafts.list(limit=1).items:
        return 0
    proposals = [Proposal(fact.prompt, fact.target, publish=True) for fact in demo_facts()]
    store.drafts.propose(proposals, By("demo", "so that there is something to see"))
    return len(proposals)
