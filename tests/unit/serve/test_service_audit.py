"""Every change is in the audit log, with who made it and why."""

from __future__ import annotations

from typing import Any

from horen.database import Store
from support.services import Asker, key, train

WHY = "a good reason"


def test_every_change_is_noted_with_its_actor_and_reason(store: Store):
    with Asker(store, key(store, "admin", name="rosa")) as asker:
        seen = asker.answered("GET", "/audit")["events"][0]["id"]

        def done(method: str, path: str, status: int = 200, body: Any = None) -> list[tuple[str, str]]:
            nonlocal seen
            asker.answered(method, path, status, json=body)
            lines = [one for one in asker.answered("GET", "/audit")["events"] if one["id"] > seen]
            seen = max([seen, *(one["id"] for one in lines)])
            for one in lines:
                assert one["by"]["actor"] == "rosa"
                if body is not None and "reason" in body:
                    assert one["by"]["reason"] == WHY, one
            return [(one["action"], one["object"]) for one in reversed(lines)]

        why = {"reason": WHY}
        fact = {"prompt": "p", "target": "t", **why}
        assert done("POST", "/edits", 202, fact) == [("draft.propose", "draft 1")]
        assert done("PATCH", "/drafts/1", 200, {"target": "u", **why}) == [("draft.revise", "draft 1")]
        assert done("POST", "/drafts/1/evaluate", 202, why) == [("draft.evaluate", "draft 1")]
        train(store)
        assert done("POST", "/drafts/1/publish", 200, why) == [
            ("store.publish", "edit 2"),
            ("draft.publish", "draft 1"),
        ]
        assert done("POST", "/edits/2/supersede", 202, {"target": "v", **why}) == [("draft.propose", "draft 2")]
        assert done("POST", "/drafts/2/reject", 200, why) == [("draft.reject", "draft 2")]
        report = {"prompt": "q", "wrong": "w", "right": "r", **why}
        assert done("POST", "/feedback", 202, report) == [("draft.propose", "draft 3")]
        assert done("PATCH", "/edits/1", 200, {"source": "s", **why}) == [("store.describe", "edit 1")]
        assert done("PUT", "/sets/arts", 200, why) == [("set.make", "set arts")]
        switched = done("POST", "/sets/arts/switch", 200, {"on": False, **why})
        assert switched == [("store.switch", "set arts")]
        assert done("PUT", "/sets/arts", 200, {"on": True, **why}) == [("store.switch", "set arts")]
        dropped = done("DELETE", "/sets/arts")
        assert dropped == [("store.describe", "set arts"), ("set.drop", "set arts")]
        assert done("PUT", "/tags/good", 200, why) == [("version.tag", "version 6")]
        assert done("DELETE", "/tags/good") == [("version.untag", "version 6")]
        assert done("DELETE", "/edits/1") == [("store.remove", "edit 1")]
        assert done("POST", "/undo", 200, why) == [("store.undo", "edit 1")]
        assert done("POST", "/rollback", 200, {"version": 1, **why})[0][0] == "store.rollback"
        made = {"name": "mira", "scopes": ["ask"], **why}
        assert done("POST", "/keys", 201, made) == [("key.make", "key 2")]
        assert done("POST", "/keys/2/rotate") == [("key.rotate", "key 3")]
        assert done("DELETE", "/keys/3") == [("key.revoke", "key 3")]
        for path in ("/edits", "/drafts", "/versions", "/sets", "/tags", "/keys", "/about", "/facets"):
            assert done("GET", path) == []


def test_what_is_refused_is_not_noted_as_done(store: Store):
    with Asker(store, key(store, "edit", name="mira")) as asker:
        before = len(store.audit.list().items)
        assert asker.delete("/edits/1").status_code == 403
        assert asker.post("/edits", json={"prompt": "", "target": "t"}).status_code == 400
        assert asker.post("/edits/99/supersede", json={"target": "t"}).status_code == 404
        assert len(store.audit.list().items) == before


def test_the_log_is_read_by_actor_and_action(store: Store):
    with Asker(store, key(store, "admin", name="rosa")) as asker:
        asker.answered("POST", "/edits", 202, json={"prompt": "p", "target": "t"})
        actions = [one["action"] for one in asker.answered("GET", "/audit?actor=rosa")["events"]]
        assert actions == ["draft.propose"]
        assert len(asker.answered("GET", "/audit?action=key.make")["events"]) == 1
        assert asker.answered("GET", "/audit?actor=nobody")["events"] == []
        secret = asker.headers["authorization"].split()[1]
        assert secret not in asker.get("/audit").text
