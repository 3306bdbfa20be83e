"""Which edits may answer: what a request says, as the ids that an engine takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from horen.database.checks import check_name
from horen.serve.engines.interface import Wanted
from horen.serve.openai.hooks import Resolve
from horen.serve.openai.requests import WantedBody

if TYPE_CHECKING:
    from horen.database import Store


def wanted(store: Store, told: WantedBody) -> Wanted:
    """Return which edits may answer, by their ids.

    Args:
        store: that knows which edits have a tag, or are in a set.
        told: what a request says.

    Raises:
        EditError: for a tag or a set's name that no store can hold.
        StoreError: when the store cannot be read.
    """
    only = None if told.only is None else frozenset(told.only)
    if told.tags is not None or told.without_tags or told.without_sets:
        for kind, names in (("tag", told.tags or ()), ("tag", told.without_tags), ("set", told.without_sets)):
            for name in names:
                check_name(name, kind)
        found = store.edits.ids(tags=told.tags or (), without_tags=told.without_tags, without_sets=told.without_sets)
        only = found if only is None else only & found
        if told.tags == []:
            only = frozenset()  # of no tag there is no edit
    return Wanted(told.edits == "on", told.version, only, frozenset(told.without))


def resolver(store: Store) -> Resolve:
    """Return what tells the interface of OpenAI's which edits may answer."""

    async def resolve(told: WantedBody, _: Any) -> Wanted:
        return await run_in_threadpool(wanted, store, told)

    return resolve
