"""Keys of the service, and the audit log."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from horen.database import Proposal, Store
from horen.database.schema import api_key
from horen.errors import ConfigError, EditError, EditNotFoundError, StoreError
from support.stores import ANN, BOB, publish

LATER = "2999-01-31T00:00:00+02:00"


def test_a_key_is_found_by_its_secret_alone(either: Store):
    assert not either.keys.any()
    key, secret = either.keys.make("mira", ["read", "ask", "read"], ANN, expires=LATER)
    assert (key.id, key.name, key.scopes, key.revoked, key.used) == (1, "mira", ("ask", "read"), None, None)
    assert key.expires == "2999-01-30T22:00:00.000+00:00"
    assert either.keys.any()
    assert secret.startswith("hk_")
    found = either.keys.find(secret)
    assert found is not None
    assert found.id == 1
    for wrong in (secret[:-1], secret + "x", "", "hk_", "\ud800", "\0"):
        assert either.keys.find(wrong) is None
    (listed,) = either.keys.list()
    assert listed.used is not None
    assert len(listed.used) == 16
    with either.database.reading() as connection:
        row = connection.execute(select(api_key)).one()
    assert secret.encode() not in row.digest
    assert secret not in str(row)


def test_a_key_that_is_rotated_or_revoked_is_taken_no_more(store: Store):
    _, old = store.keys.make("mira", ["admin"], ANN, expires=LATER)
    key, new = store.keys.rotate(1, BOB)
    assert (key.id, key.name, key.scopes, key.expires) == (2, "mira", ("admin",), "2999-01-30T22:00:00.000+00:00")
    assert store.keys.find(old) is None
    assert store.keys.find(new) is not None
    assert store.keys.revoke(2, BOB).revoked is not None
    assert store.keys.find(new) is None
    assert store.keys.any()  # so that nobody gets in because the last key was revoked
    for number, words in ((1, "Revoked already is key 1"), (3, "There is no key 3"), (10**30, "There is no key 1000")):
        for call in (store.keys.rotate, store.keys.revoke):
            with pytest.raises(EditNotFoundError, match=f"^{words}"):
                call(number, ANN)


def test_a_key_expires(store: Store, monkeypatch: pytest.MonkeyPatch):
    _, secret = store.keys.make("mira", ["ask"], ANN, expires=LATER)
    monkeypatch.setattr("horen.database.keys.now", lambda: "2999-01-30T21:59:59.999+00:00")
    assert store.keys.find(secret) is not None
    monkeypatch.setattr("horen.database.keys.now", lambda: "2999-01-30T22:00:00.000+00:00")
    assert store.keys.find(secret) is None


def test_what_is_wrong_with_a_key_is_said(store: Store):
    for scopes, words in ((["ask", "all"], "The scope 'all' is not known"), ([], "No scope is given")):
        with pytest.raises(ConfigError, match=words):
            store.keys.make("mira", scopes, ANN)
    for until, words in (
        ("tomorrow", "is not ISO 8601"),
        ("2999-01-01T00:00:00", "names no time zone"),
        ("2020-01-01T00:00:00+00:00", "has passed"),
    ):
        with pytest.raises(ConfigError, match=words):
            store.keys.make("mira", ["ask"], ANN, expires=until)
    for name in ("", " ", "\0", "x" * 501):
        with pytest.raises(EditError):
            store.keys.make(name, ["ask"], ANN)
    assert store.keys.list() == ()


def test_everything_leaves_a_line(either: Store):
    either.sets.make("red", ANN)
    publish(either, {"a": "b"}, BOB)
    either.versions.tag("one", 1, ANN)
    either.versions.untag("one", ANN)
    either.edits.remove([1], ANN)
    either.versions.undo(BOB)
    either.versions.rollback(0, BOB)
    either.sets.drop("red", ANN)
    either.drafts.propose([Proposal("c", "d")], ANN)
    either.drafts.revise(2, BOB, target="e")
    either.drafts.evaluate(2, BOB)
    either.drafts.reject([2], ANN)
    either.keys.make("mira", ["ask"], ANN)
    either.keys.rotate(1, ANN)
    either.keys.revoke(2, ANN)
    either.audit.note(ANN, "engine.start", "engine", {"port": 8000})
    lines = either.audit.list(limit=100).items[::-1]
    assert [(line.action, line.object, line.version) for line in lines] == [
        ("store.import", "store", 0),
        ("set.make", "set red", None),
        ("draft.propose", "draft 1", None),
        ("store.publish", "edit 1", 1),
        ("draft.publish", "draft 1", 1),
        ("version.tag", "version 1", None),
        ("version.untag", "version 1", None),
        ("store.remove", "edit 1", 2),
        ("store.undo", "edit 1", 3),
        ("store.rollback", "edit 1", 4),
        ("store.describe", "set red", 5),
        ("set.drop", "set red", 5),
        ("draft.propose", "draft 2", None),
        ("draft.revise", "draft 2", None),
        ("draft.evaluate", "draft 2", None),
        ("draft.reject", "draft 2", None),
        ("key.make", "key 1", None),
        ("key.rotate", "key 2", None),
        ("key.revoke", "key 2", None),
        ("engine.start", "engine", None),
    ]
    assert lines[-1].detail == {"port": 8000}
    assert lines[4].detail == {"edit": 1}
    assert {line.action for line in either.audit.list(actor="bob").items} == {
        *("draft.propose", "store.publish", "draft.publish", "store.undo", "store.rollback"),
        *("draft.revise", "draft.evaluate"),
    }
    assert [line.action for line in either.audit.list(action="key.make").items] == ["key.make"]
    part = either.audit.list(limit=3)
    assert part.next == part.items[-1].id
    assert either.audit.list(before=part.next, limit=1).items[0].action == "key.make"


def test_the_database_itself_refuses_to_change_the_audit_log(either: Store):
    statements = ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit", "UPDATE audit SET at = at WHERE id = 1"]
    if either.database.embedded:
        statements.append("INSERT OR REPLACE INTO audit SELECT * FROM audit")
    else:
        statements.append("TRUNCATE audit")
    before = either.audit.list()
    for statement in statements:
        with pytest.raises(StoreError, match="lines are only added to audit"), either.database.writing() as connection:
            connection.execute(text(statement))
    assert either.audit.list() == before


def test_nothing_is_left_of_what_fails(store: Store):
    before = store.audit.list()
    with pytest.raises(EditNotFoundError):
        store.edits.remove([1], ANN)
    with pytest.raises(EditError):
        store.versions.undo(ANN)
    assert store.audit.list() == before
