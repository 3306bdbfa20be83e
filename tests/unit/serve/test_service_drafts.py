"""Drafts over HTTP: news of them, revising, evaluating, and the decision."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from horen.database import By, Proposal, Store
from support.services import Asker, bearer, key, train


def told_of(store: Store, *scopes: Any, name: str, **settings: Any) -> Asker:
    return Asker(store, key(store, *scopes, name=name), **settings)


def events(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: "))["draft"] for line in lines if line.startswith("data: ")]


def test_drafts_are_found_by_state(service: Asker):
    ready = service.draft()
    waiting = service.answered("POST", "/edits", 202, json={"prompt": "p", "target": "t"})["drafts"][0]["id"]
    for state, found in (("ready", [ready]), ("waiting", [waiting]), ("failed", [])):
        assert [draft["id"] for draft in service.answered("GET", f"/drafts?state={state}")["drafts"]] == found
    assert service.refused("GET", "/drafts?state=lost", 400)["param"] == "state"
    assert service.refused("GET", "/drafts/99", 404)["code"] == "not_found"


def test_news_of_a_draft_comes_until_it_is_settled(service: Asker):
    number = service.answered("POST", "/edits", 202, json={"prompt": "p", "target": "t"})["drafts"][0]["id"]
    seen: list[str] = []

    def work() -> None:
        train(service.store)
        seen.append("trained")
        service.store.drafts.reject([number], By("mira", "no"))

    timer = threading.Timer(0.6, work)
    timer.start()
    with service.stream("GET", f"/drafts/{number}/events") as told:
        assert told.headers["content-type"].startswith("text/event-stream")
        assert told.headers["cache-control"] == "no-cache"
        lines = list(told.iter_lines())
    timer.join()
    assert seen == ["trained"]
    states = [draft["state"] for draft in events(lines)]
    assert states[0] == "waiting"
    assert states[-1] == "rejected"
    assert {line for line in lines if line.startswith("event: ")} == {"event: draft"}
    assert service.app.state.service.life.streams == 0


def test_news_of_what_is_not_there_is_an_error_and_no_stream(service: Asker):
    assert service.refused("GET", "/drafts/99/events", 404)["code"] == "not_found"


def test_a_stream_ends_by_itself(store: Store):
    with Asker(store, stream_seconds=0.5) as asker:
        asker.answered("POST", "/edits", 202, json={"prompt": "p", "target": "t"})
        with asker.stream("GET", "/drafts/1/events") as told:
            assert len(events(list(told.iter_lines()))) == 1


def test_streams_are_counted(store: Store):
    with Asker(store, max_streams=1) as asker:
        asker.draft()
        asker.app.state.service.life.streams = 1
        told = asker.get("/drafts/1/events")
        assert told.status_code == 429
        assert told.json()["error"]["code"] == "too_many_streams"
        assert "retry-after" in told.headers


def test_a_draft_is_revised(service: Asker):
    number = service.draft(subject="Hamlet", tags=["a"], source="s")
    told = service.answered("PATCH", f"/drafts/{number}", json={"target": "Oslo", "subject": None, "reason": "r"})
    draft = told["draft"]
    assert (draft["state"], draft["target"]) == ("waiting", "Oslo")
    assert draft["facts"] == {"subject": None, "source": "s", "tags": ["a"], "set": None}
    draft = service.answered("PATCH", f"/drafts/{number}", json={"rephrases": ["q"], "tags": ["b"], "replaces": [1]})
    assert draft["draft"]["rephrases"] == ["q"]
    assert draft["draft"]["facts"]["tags"] == ["b"]
    assert draft["draft"]["replaces"] == [1]
    draft = service.answered("PATCH", f"/drafts/{number}", json={"rephrases": None, "replaces": [], "prompt": None})
    assert (draft["draft"]["rephrases"], draft["draft"]["replaces"]) == ([], [])
    assert draft["draft"]["prompt"] == "Who wrote Hamlet?"
    train(service.store)
    service.answered("POST", f"/drafts/{number}/publish")
    assert "published" in service.refused("PATCH", f"/drafts/{number}", 400, json={"target": "x"})["message"]


def test_what_is_published_by_itself_is_not_revised_by_those_who_may_not_publish(store: Store):
    """Else their words would be published in the name of another."""
    store.drafts.propose([Proposal("p", "t", publish=True)], By("boss"))
    with told_of(store, "edit", name="mallory") as asker:
        told = asker.refused("PATCH", "/drafts/1", 403, json={"target": "something else"})
        assert told["code"] == "insufficient_scope"
        assert store.drafts.get(1).target == "t"


def test_a_draft_is_evaluated_on_frequent_prompts(store: Store):
    with Asker(store, keep_prompts=True) as asker:
        for _ in range(2):
            body = {"model": "tiny", "messages": [{"role": "user", "content": "Who wrote Hamlet?"}]}
            asker.answered("POST", "/v1/chat/completions", json=body)
        asker.answered("POST", "/edits", 202, json={"prompt": "p", "target": "t", "evaluate": True})
        jobs = store.training.take("somebody")
        assert jobs[0].evaluate == ("Who wrote Hamlet?",)
    with Asker(store) as asker:
        number = asker.draft("q")
        told = asker.answered("POST", f"/drafts/{number}/evaluate", 202)["draft"]
        assert told["state"] == "waiting"
        assert store.training.take("somebody")[0].evaluate == ()


def test_an_evaluation_is_told(service: Asker):
    service.answered("POST", "/edits", 202, json={"prompt": "p", "target": "t", "evaluate": True})
    found = {"version": 1, "summary": {"own_right": 5, "own_asked": 6, "disturbed": 0, "asked": 20}}
    train(service.store, found)
    assert service.answered("GET", "/drafts/1")["draft"]["evaluation"] == found


def test_what_contradicts_an_edit_is_told_with_both_sides(service: Asker):
    first = service.publish()
    second = service.draft(target="Oslo")
    response = service.post(f"/drafts/{second}/publish")
    assert response.status_code == 409
    told = response.json()
    assert told["error"]["code"] == "conflict"
    clash = told["clashes"][0]
    assert clash["wording"] == "Who wrote Hamlet?"
    assert clash["ours"]["id"] == first
    assert clash["ours"]["target"] == "Rome"
    assert clash["theirs"]["target"] == "Oslo"
    assert service.answered("GET", f"/drafts/{second}")["draft"]["state"] == "ready"
    version = service.answered("POST", f"/drafts/{second}/publish", json={"replaces": [first], "reason": "newer"})
    assert version["version"]["removed"] == [first]
    assert version["version"]["by"]["reason"] == "newer"


def test_only_what_is_trained_is_published(service: Asker):
    service.answered("POST", "/edits", 202, json={"prompt": "p", "target": "t"})
    assert "waiting" in service.refused("POST", "/drafts/1/publish", 400)["message"]
    assert service.refused("POST", "/drafts/99/publish", 404)["code"] == "not_found"
    assert service.refused("POST", "/drafts/1/publish", 400, json={"replaces": []})["param"] == "replaces"


def test_ones_own_draft_is_rejected_by_oneself_and_others_by_who_may_publish(store: Store):
    with told_of(store, "edit", name="mira") as mira, told_of(store, "edit", name="paul") as paul:
        own, other = mira.draft("a"), mira.draft("b")
        told = mira.answered("POST", f"/drafts/{own}/reject", json={"reason": "mine"})["draft"]
        assert (told["state"], told["decided_by"], told["decision"]) == ("rejected", "mira", "mine")
        assert paul.refused("POST", f"/drafts/{other}/reject", 403)["code"] == "insufficient_scope"
        boss = key(store, "edit", "publish", name="boss")
        assert paul.post(f"/drafts/{other}/reject", headers=bearer(boss)).status_code == 200
        assert "rejected" in mira.refused("POST", f"/drafts/{own}/reject", 400)["message"]


@pytest.mark.parametrize("four_eyes", [True, False])
def test_with_four_eyes_another_publishes(store: Store, four_eyes: bool):
    mira, paul, rosa = (key(store, "edit", "publish", name=name) for name in ("mira", "paul", "rosa"))
    with Asker(store, mira, four_eyes=four_eyes) as asker:
        drafted = asker.draft("a")
        revised = asker.draft("b")
        asker.answered("PATCH", f"/drafts/{revised}", json={"target": "Oslo"}, headers=bearer(paul))
        train(store)
        for draft, holder in ((drafted, mira), (revised, mira), (revised, paul)):
            told = asker.post(f"/drafts/{draft}/publish", headers=bearer(holder))
            if four_eyes:
                assert told.status_code == 403
                assert told.json()["error"]["code"] == "four_eyes"
                assert "four eyes" in told.json()["error"]["message"]
            elif holder == paul:
                assert told.status_code == 400  # it is published already
        if four_eyes:
            for draft in (drafted, revised):
                asker.answered("POST", f"/drafts/{draft}/publish", headers=bearer(rosa))


def test_a_wrong_answer_is_reported(service: Asker):
    body = {
        "prompt": "Who?",
        "wrong": "Paul",
        "right": "Mira",
        "source": "a letter",
        "reason": "I know",
        "rephrases": [],
    }
    draft = service.answered("POST", "/feedback", 202, json=body)["draft"]
    assert (draft["prompt"], draft["target"], draft["wrong"]) == ("Who?", "Mira", "Paul")
    assert draft["facts"]["source"] == "a letter"
    assert draft["publish"] is False
    assert service.refused("POST", "/feedback", 400, json={**body, "publish": True})["param"] == "publish"
