"""The history over HTTP: versions, names of them, going back; and sets."""

from __future__ import annotations

from typing import Any

import pytest

from support.services import Asker


def active(service: Asker) -> list[int]:
    return sorted(edit["id"] for edit in service.answered("GET", "/edits?state=published")["edits"] if edit["active"])


def test_versions_are_listed_and_told(service: Asker):
    second = service.publish(reason="because")
    found = service.answered("GET", "/versions")
    assert [version["number"] for version in found["versions"]] == [2, 1]
    told = service.answered("GET", "/versions/2")["version"]
    assert told["operation"] == "publish"
    assert told["added"] == [second]
    part = service.answered("GET", "/versions?limit=1")
    assert part["next"] == 2
    assert [version["number"] for version in service.answered("GET", "/versions?before=2")["versions"]] == [1]


@pytest.mark.parametrize("which", ["99", "0", "none", "-1", "1.5", "²"])
def test_versions_that_are_not_there(service: Asker, which: str):
    assert service.refused("GET", f"/versions/{which}", 404)["code"] == "not_found"


def test_what_makes_one_version_another(service: Asker):
    second = service.publish()
    service.answered("DELETE", "/edits/1")
    told = service.answered("GET", "/versions/1/diff/3")["difference"]
    assert (told["before"], told["after"]) == (1, 3)
    assert [edit["id"] for edit in told["added"]] == [second]
    assert [edit["id"] for edit in told["removed"]] == [1]
    assert service.answered("GET", "/versions/0/diff/1")["difference"]["added"][0]["id"] == 1
    assert service.refused("GET", "/versions/1/diff/9", 404)["code"] == "not_found"


def test_changes_are_taken_back(service: Asker):
    second = service.publish()
    assert "version 2 is" in service.refused("POST", "/undo", 409, json={"version": 1})["message"]
    assert active(service) == [1, second]
    told = service.answered("POST", "/undo", json={"reason": "a mistake", "version": 2})["version"]
    assert (told["operation"], told["undoes"]) == ("undo", 2)
    assert told["by"]["reason"] == "a mistake"
    assert active(service) == [1]
    service.answered("POST", "/undo")
    assert active(service) == []
    assert "nothing to undo" in service.refused("POST", "/undo", 400)["message"]
    told = service.answered("POST", "/rollback", json={"version": 2, "reason": "it was right"})["version"]
    assert told["target"] == 2
    assert active(service) == [1, second]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"version": 99}, 404),
        ({"version": "none"}, 404),
        ({"version": 1}, 400),
        ({"version": -1}, 400),
        ({"version": 1.0}, 400),
        ({"version": True}, 400),
        ({"version": None}, 400),
        ({}, 400),
        ({"version": 2**70}, 400),
    ],
)
def test_going_back_to_nowhere(service: Asker, body: Any, status: int):
    service.refused("POST", "/rollback", status, json=body)


def test_versions_have_names(service: Asker):
    assert service.answered("PUT", "/tags/first") == {"tags": {"first": 1}}
    service.publish()
    service.answered("PUT", "/tags/second", json={})
    service.answered("PUT", "/tags/old", json={"version": "first", "reason": "r"})
    assert service.answered("GET", "/tags") == {"tags": {"first": 1, "old": 1, "second": 2}}
    assert service.answered("GET", "/versions/first")["version"]["tags"] == ["first", "old"]
    assert service.answered("GET", "/versions/first/diff/second")["difference"]["added"]
    assert service.answered("PUT", "/tags/first", json={"version": 2})["tags"]["first"] == 2
    service.answered("POST", "/rollback", json={"version": "old"})
    assert service.answered("DELETE", "/tags/old") == {"tags": {"first": 2, "second": 2}}
    assert service.refused("DELETE", "/tags/old", 404)["code"] == "not_found"
    assert "number" in service.refused("PUT", "/tags/12", 400)["message"]
    assert service.refused("PUT", "/tags/x", 404, json={"version": 99})["code"] == "not_found"


# --- sets --------------------------------------------------------------------------------------------------------


def test_sets_are_made_and_switched(service: Asker):
    assert service.answered("PUT", "/sets/arts") == {"set": {"name": "arts", "on": True, "edits": 0}, "version": None}
    edit = service.publish(set="arts")
    assert service.answered("GET", "/sets") == {"sets": [{"name": "arts", "on": True, "edits": 1}]}
    told = service.answered("POST", "/sets/arts/switch", json={"on": False, "reason": "for now"})
    assert told["set"]["on"] is False
    assert told["version"]["by"]["reason"] == "for now"
    assert active(service) == [1]
    assert service.answered("PUT", "/sets/arts")["version"] is None  # it is there, and nothing else was said
    assert service.answered("PUT", "/sets/arts", json={"on": True})["version"]["restored"] == [edit]
    assert "already" in service.refused("POST", "/sets/arts/switch", 400, json={"on": True})["message"]
    assert service.answered("PUT", "/sets/quiet", json={"on": False})["set"]["on"] is False


def test_a_set_is_dropped_and_its_edits_stay(service: Asker):
    service.answered("PUT", "/sets/arts")
    assert service.answered("DELETE", "/sets/arts?reason=r")["version"]["described"]
    service.answered("PUT", "/sets/arts")
    edit = service.publish(set="arts")
    assert service.answered("DELETE", "/sets/arts?reason=r")["version"]["by"]["reason"] == "r"
    assert service.answered("GET", f"/edits/{edit}")["edit"]["facts"]["set"] is None
    assert active(service) == [1, edit]


def test_sets_that_contradict_each_other(service: Asker):
    for name in ("ours", "theirs"):
        service.answered("PUT", f"/sets/{name}")
    first = service.publish(target="Rome", set="ours")
    service.answered("POST", "/sets/ours/switch", json={"on": False})
    second = service.publish(target="Oslo", set="theirs")
    found = service.answered("GET", "/sets/ours/clashes/theirs")["clashes"]
    assert [(clash["ours"]["id"], clash["theirs"]["id"]) for clash in found] == [(first, second)]
    told = service.post("/sets/ours/switch", json={"on": True})
    assert told.status_code == 409
    assert told.json()["clashes"][0]["wording"] == "Who wrote Hamlet?"
    refused = service.post("/sets/ours/merge", json={"other": "theirs"})
    assert refused.status_code == 409
    assert refused.json()["clashes"][0]["theirs"]["id"] == second
    merged = service.answered("POST", "/sets/ours/merge", json={"other": "theirs", "on_conflict": "theirs"})
    assert merged["version"]["operation"] == "merge"
    assert service.answered("GET", f"/edits/{first}")["edit"]["state"] == "retired"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/sets/none/switch", {"on": True}),
        ("POST", "/sets/none/merge", {"other": "arts"}),
        ("POST", "/sets/arts/merge", {"other": "none"}),
        ("GET", "/sets/arts/clashes/none", None),
        ("GET", "/sets/none/clashes/arts", None),
        ("DELETE", "/sets/none", None),
    ],
)
def test_sets_that_are_not_there(service: Asker, method: str, path: str, body: Any):
    service.answered("PUT", "/sets/arts")
    assert service.refused(method, path, 404, json=body)["code"] == "not_found"


@pytest.mark.parametrize("name", ["%20", "a%20", "%E2%80%8B", "x" * 101])
def test_names_that_cannot_be_read(service: Asker, name: str):
    assert service.refused("PUT", f"/sets/{name}", 400)["param"] == "name"
    assert service.refused("PUT", f"/tags/{name}", 400)["param"] == "name"
