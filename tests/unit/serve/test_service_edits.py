"""Edits over HTTP: looking for them, proposing, superseding, describing, removing."""

from __future__ import annotations

from typing import Any

import pytest

from horen.database import Store
from support.services import KNOWN, Asker, key

DEFAULTS = {"subject": None, "source": None, "tags": [], "set": None}


def numbers(found: dict[str, Any]) -> list[int]:
    return [edit["id"] for edit in found["edits"]]


def test_an_edit_is_told_with_the_versions_that_touched_it(service: Asker):
    told = service.answered("GET", "/edits/1")
    assert told["edit"]["prompt"] == KNOWN.prompt
    assert told["edit"]["target"] == KNOWN.target
    assert told["edit"]["facts"] == DEFAULTS
    assert told["edit"]["state"] == "published"
    assert told["edit"]["active"] is True
    assert [version["number"] for version in told["versions"]] == [1]


def test_a_fact_becomes_a_draft_and_then_an_edit(service: Asker):
    body = {
        "prompt": "Who wrote Hamlet?",
        "target": "Rome",
        "rephrases": ["Hamlet's author is"],
        "subject": "Hamlet",
        "source": "https://example.org",
        "tags": ["books", "arts"],
        "reason": "it is known",
    }
    draft = service.answered("POST", "/edits", 202, json=body)["drafts"][0]
    assert draft["state"] == "waiting"
    assert draft["author"] == "local"
    assert draft["reason"] == "it is known"
    edit = service.publish()
    told = service.answered("GET", f"/edits/{edit}")["edit"]
    assert told["target"] == "Rome"
    assert told["draft"] == 2


def test_several_edits_are_proposed_together_or_not_at_all(service: Asker):
    several = [{"prompt": f"Question {n}?", "target": "Rome"} for n in range(3)]
    told = service.answered("POST", "/edits", 202, json={"edits": several, "reason": "all"})
    assert [draft["reason"] for draft in told["drafts"]] == ["all"] * 3
    several[2]["set"] = "none"
    assert "none" in service.refused("POST", "/edits", 400, json={"edits": several})["message"]
    assert len(service.answered("GET", "/drafts")["drafts"]) == 3


def test_edits_are_found_by_each_field(service: Asker):
    service.answered("PUT", "/sets/arts")
    hamlet = service.publish(subject="Hamlet", tags=["books"], set="arts")
    service.answered("DELETE", "/edits/1")
    for query, found in (
        ("", [hamlet, 1]),
        ("?text=HAMLET", [hamlet]),
        ("?text=mira%20sand", [1]),
        ("?text=%25", []),
        ("?state=published", [hamlet]),
        ("?state=retired", [1]),
        ("?tag=books", [hamlet]),
        ("?set=arts", [hamlet]),
        ("?author=tests", [1]),
        ("?subject=Hamlet", [hamlet]),
        ("?subject=Ham", []),
        ("?tag=books&author=tests", []),
    ):
        assert numbers(service.answered("GET", f"/edits{query}")) == found, query
    assert service.answered("GET", "/edits?count=true&text=hamlet")["count"] == 1
    assert service.answered("GET", "/edits")["count"] is None
    assert service.answered("GET", "/facets") == {"tags": {"books": 1}, "authors": {"local": 1}, "sets": {"arts": 1}}


def test_a_list_comes_in_parts(service: Asker):
    several = [{"prompt": f"Question {n}?", "target": "Rome"} for n in range(7)]
    service.answered("POST", "/edits", 202, json={"edits": several})
    for path, name, count in (("/drafts", "drafts", 7), ("/audit", "events", 8)):
        seen, query = [], "?limit=3"
        for _ in range(count):
            part = service.answered("GET", path + query)
            assert len(part[name]) <= 3
            seen += [each["id"] for each in part[name]]
            if part["next"] is None:
                break
            query = f"?limit=3&before={part['next']}"
        assert seen == sorted(seen, reverse=True)
        assert len(seen) == len(set(seen)) == count


@pytest.mark.parametrize("path", ["/edits", "/drafts", "/versions", "/audit"])
@pytest.mark.parametrize("query", ["limit=0", "limit=501", "before=0", "before=x", "limit=1e3", f"before={2**31}"])
def test_parts_that_cannot_be(service: Asker, path: str, query: str):
    assert service.refused("GET", f"{path}?{query}", 400)["param"] == query.partition("=")[0]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "p"}, "target"),
        ({"prompt": " ", "target": "t"}, "prompt"),
        ({"prompt": "p", "target": 3}, "target"),
        ({"prompt": "p", "target": None}, "target"),
        ({"prompt": "p", "target": "a\0b"}, "target"),
        ({"prompt": "p" * 20000, "target": "t"}, "prompt"),
        ({"prompt": "p", "target": "t", "rephrases": "q"}, "rephrases"),
        ({"prompt": "p", "target": "t", "rephrases": ["q", ""]}, "rephrases[1]"),
        ({"prompt": "p", "target": "t", "tags": ["a/b"]}, "tags[0]"),
        ({"prompt": "p", "target": "t", "tags": [" a"]}, "tags[0]"),
        ({"prompt": "p", "target": "t", "publish": "yes"}, "publish"),
        ({"prompt": "p", "target": "t", "publish": 1}, "publish"),
        ({"prompt": "p", "target": "t", "replaces": [0]}, "replaces[0]"),
        ({"prompt": "p", "target": "t", "replaces": [True]}, "replaces[0]"),
        ({"prompt": "p", "target": "t", "replaces": [2**40]}, "replaces[0]"),
        ({"prompt": "p", "target": "t", "state": "published"}, "state"),
        ({"edits": []}, "edits"),
        ({"edits": [{"prompt": "p", "target": ""}]}, "edits[0].target"),
        ({"edits": [{"prompt": "p", "target": "t", "publish": True}]}, "edits[0].publish"),
        ({"edits": {}}, "edits"),
        ({"edits": [{"prompt": "p", "target": "t"}], "prompt": "p"}, "prompt"),
    ],
)
def test_a_request_that_is_not_as_described_names_the_field(service: Asker, body: Any, param: str):
    told = service.refused("POST", "/edits", 400, json=body)
    assert told["param"] == param
    assert told["type"] == "invalid_request_error"
    assert told["message"].startswith(param)
    assert service.answered("GET", "/drafts")["drafts"] == []


def test_what_was_sent_is_not_repeated(service: Asker):
    told = service.refused("POST", "/edits", 400, json={"prompt": "p", "target": ["a secret"]})
    assert "secret" not in told["message"]


def test_half_a_character_is_refused(service: Asker):
    body = rb'{"prompt": "\ud800", "target": "t"}'
    assert service.refused("POST", "/edits", 400, content=body, headers={"content-type": "application/json"})


def test_an_edit_is_superseded_with_what_it_had(service: Asker):
    first = service.publish(rephrases=["Hamlet's author is"], tags=["books"], subject="Hamlet")
    draft = service.answered("POST", f"/edits/{first}/supersede", 202, json={"target": "Oslo", "reason": "new"})
    told = draft["drafts"][0]
    assert (told["prompt"], told["rephrases"]) == ("Who wrote Hamlet?", ["Hamlet's author is"])
    assert told["facts"] == DEFAULTS | {"tags": ["books"], "subject": "Hamlet"}
    assert told["replaces"] == [first]
    other = service.answered("POST", f"/edits/{first}/supersede", 202, json={"target": "Oslo", "rephrases": []})
    assert other["drafts"][0]["rephrases"] == []
    assert service.refused("POST", "/edits/99/supersede", 404, json={"target": "Oslo"})["code"] == "not_found"


def test_an_edit_is_described(service: Asker):
    told = service.answered("PATCH", "/edits/1", json={"source": "s", "tags": ["b", "a"], "reason": "known"})
    assert told["version"]["operation"] == "describe"
    assert told["version"]["by"] == {"actor": "local", "reason": "known"}
    service.answered("PATCH", "/edits/1", json={"subject": "Fennick"})
    facts = service.answered("GET", "/edits/1")["edit"]["facts"]
    assert facts == {"subject": "Fennick", "source": "s", "tags": ["a", "b"], "set": None}
    service.answered("PATCH", "/edits/1", json={"source": None, "tags": []})
    assert service.answered("GET", "/edits/1")["edit"]["facts"] == DEFAULTS | {"subject": "Fennick"}
    assert "Nothing" in service.refused("PATCH", "/edits/1", 400, json={})["message"]
    assert "none" in service.refused("PATCH", "/edits/1", 400, json={"set": "none"})["message"]
    assert service.refused("PATCH", "/edits/99", 404, json={"source": "s"})["code"] == "not_found"


def test_edits_are_removed_all_or_none(service: Asker):
    second = service.publish()
    assert service.refused("POST", "/edits/remove", 404, json={"ids": [1, 99]})["code"] == "not_found"
    assert service.answered("GET", "/edits/1")["edit"]["active"]
    told = service.answered("POST", "/edits/remove", json={"ids": [1, second], "reason": "both"})["version"]
    assert told["removed"] == [1, second]
    assert told["by"]["reason"] == "both"
    assert service.refused("DELETE", "/edits/1", 404)["code"] == "not_found"
    service.answered("POST", "/undo")
    told = service.answered("DELETE", "/edits/1?reason=old%20news")["version"]
    assert told["by"]["reason"] == "old news"


def test_publishing_at_once_is_for_those_who_may(store: Store):
    asked = {"prompt": "p", "target": "t", "publish": True}
    with Asker(store, key(store, "edit")) as asker:
        told = asker.refused("POST", "/edits", 403, json=asked)
        assert told["code"] == "insufficient_scope"
        assert "publish" in told["message"]
        asker.refused("POST", "/edits/1/supersede", 403, json={"target": "t", "publish": True})
        assert store.drafts.list().items == ()
    with Asker(store, key(store, "edit", "publish")) as asker:
        assert asker.answered("POST", "/edits", 202, json=asked)["drafts"][0]["publish"] is True
    with Asker(store, key(store, "admin"), four_eyes=True) as asker:
        assert asker.refused("POST", "/edits", 403, json=asked)["code"] == "four_eyes"
