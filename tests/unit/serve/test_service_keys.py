"""Who may do what: keys with scopes, and everybody on the machine as long as there is none."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient

from horen import ConfigError
from horen.database import Store
from horen.database.records import SCOPES
from horen.serve.app import create_app
from horen.serve.auth import LOCAL
from horen.serve.rates import Rates, network
from horen.serve.running import configuration
from horen.serve.settings import Settings, check_binding
from support.services import WHO, Asker, QuickEngine, bearer, key


class Route(NamedTuple):
    """A route, what it needs, and a request that it understands."""

    method: str
    path: str
    scopes: tuple[str, ...]
    body: Any = None
    template: str = ""


READ, EDIT, PUBLISH, ADMIN = ("read",), ("edit",), ("publish",), ("admin",)
EDITED = {"prompt": "p", "target": "t"}
ROUTES = [
    Route("GET", "/edits", READ),
    Route("GET", "/facets", READ),
    Route("GET", "/edits/1", READ, template="/edits/{id}"),
    Route("POST", "/edits", EDIT, EDITED),
    Route("POST", "/edits/remove", PUBLISH, {"ids": [9]}),
    Route("PATCH", "/edits/9", PUBLISH, {"source": "s"}, "/edits/{id}"),
    Route("DELETE", "/edits/9", PUBLISH, template="/edits/{id}"),
    Route("POST", "/edits/9/supersede", EDIT, {"target": "t"}, "/edits/{id}/supersede"),
    Route("GET", "/drafts", READ),
    Route("GET", "/drafts/9", READ, template="/drafts/{id}"),
    Route("GET", "/drafts/9/events", READ, template="/drafts/{id}/events"),
    Route("PATCH", "/drafts/9", EDIT, {"target": "t"}, "/drafts/{id}"),
    Route("POST", "/drafts/9/evaluate", EDIT, {}, "/drafts/{id}/evaluate"),
    Route("POST", "/drafts/9/publish", PUBLISH, {}, "/drafts/{id}/publish"),
    Route("POST", "/drafts/9/reject", EDIT, {}, "/drafts/{id}/reject"),
    Route("POST", "/feedback", EDIT, {"prompt": "p", "wrong": "w", "right": "r"}),
    Route("GET", "/versions", READ),
    Route("GET", "/versions/1", READ, template="/versions/{which}"),
    Route("GET", "/versions/0/diff/1", READ, template="/versions/{a}/diff/{b}"),
    Route("POST", "/undo", PUBLISH, {}),
    Route("POST", "/rollback", PUBLISH, {"version": 9}),
    Route("GET", "/tags", READ),
    Route("PUT", "/tags/9", PUBLISH, {}, "/tags/{name}"),
    Route("DELETE", "/tags/none", PUBLISH, template="/tags/{name}"),
    Route("GET", "/sets", READ),
    Route("PUT", "/sets/s", PUBLISH, {}, "/sets/{name}"),
    Route("POST", "/sets/none/switch", PUBLISH, {"on": True}, "/sets/{name}/switch"),
    Route("POST", "/sets/none/merge", PUBLISH, {"other": "s"}, "/sets/{name}/merge"),
    Route("GET", "/sets/none/clashes/s", READ, template="/sets/{name}/clashes/{other}"),
    Route("DELETE", "/sets/none", PUBLISH, template="/sets/{name}"),
    Route("POST", "/explain", ("ask", "read"), {"prompt": "p"}),
    Route("GET", "/keys", ADMIN),
    Route("POST", "/keys", ADMIN, {"name": "n", "scopes": ["ask"]}),
    Route("POST", "/keys/99/rotate", ADMIN, template="/keys/{id}/rotate"),
    Route("DELETE", "/keys/99", ADMIN, template="/keys/{id}"),
    Route("GET", "/audit", ADMIN),
    Route("GET", "/about", READ),
    Route("GET", "/you", SCOPES),
    Route("GET", "/metrics", READ),
    Route("GET", "/v1/models", ("ask",)),
    Route("GET", "/v1/models/tiny", ("ask",), template="/v1/models/{model}"),
    Route("POST", "/v1/completions", ("ask",), {"model": "tiny", "prompt": "p"}),
    Route(
        "POST",
        "/v1/chat/completions",
        ("ask",),
        {"model": "tiny", "messages": [{"role": "user", "content": "p"}]},
    ),
]
OPEN = {"/healthz", "/readyz"}
each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")


@pytest.fixture
def keys(store: Store) -> dict[str, str]:
    """The secret of a key for each scope."""
    return {scope: key(store, scope) for scope in SCOPES}


def test_the_table_has_every_route(service: Asker):
    described = service.get("/openapi.json").json()["paths"]
    found = {(method.upper(), path) for path, methods in described.items() if path not in OPEN for method in methods}
    assert found == {(route.method, route.template or route.path) for route in ROUTES}


@each_route
def test_a_route_takes_its_scope_and_no_other(store: Store, keys: dict[str, str], route: Route):
    with Asker(store) as asker:
        missing = asker.request(route.method, route.path, json=route.body)
        assert missing.status_code == 401
        assert missing.headers["www-authenticate"] == 'Bearer realm="horen"'
        assert missing.json()["error"]["code"] == "missing_api_key"
        for scope in SCOPES:
            told = asker.request(route.method, route.path, json=route.body, headers=bearer(keys[scope]))
            if scope in (*route.scopes, "admin"):
                assert told.status_code in {200, 201, 202, 400, 404, 409}, told.text
            else:
                assert told.status_code == 403, (scope, told.text)
                assert told.json()["error"]["code"] == "insufficient_scope"
                assert 'error="insufficient_scope"' in told.headers["www-authenticate"]


@each_route
def test_nobody_needs_a_key_on_the_machine_of_a_store_without_any(service: Asker, route: Route):
    assert service.request(route.method, route.path, json=route.body).status_code not in {401, 403}


def test_the_description_names_scopes(service: Asker):
    described = service.get("/openapi.json").json()
    for route in ROUTES:
        if len(route.scopes) == 1 and route.path != "/metrics":
            told = described["paths"][route.template or route.path][route.method.lower()]
            assert told["security"] == [{"key": list(route.scopes)}], route


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer hk_wrong",
        "Basic aGs6aGs=",
        "hk_wrong",
        "Bearer " + "x" * 300,
        "Bearer hk_\xe4".encode("latin-1"),
        "Bearer hk_a, Bearer hk_b",
    ],
)
def test_what_is_no_key_is_refused(store: Store, header: str | bytes):
    key(store, "admin")
    with Asker(store) as asker:
        told = asker.get("/about", headers={"authorization": header})
    assert told.status_code == 401
    assert told.json()["error"]["code"] == "invalid_api_key"
    assert 'error="invalid_token"' in told.headers["www-authenticate"]


def test_a_key_that_is_not_looked_up_opens_nothing_but_the_scheme_is_read_in_any_case(store: Store):
    secret = key(store, "read")
    with Asker(store) as asker:
        assert asker.get("/about", headers={"authorization": f"bearer   {secret}"}).status_code == 200
        assert asker.get(f"/about?key={secret}").status_code == 401
        asker.cookies.set("key", secret)
        assert asker.get("/about").status_code == 401


def test_keys_expire(store: Store):
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat(timespec="milliseconds")
    secret = store.keys.make("brief", ("read",), WHO, expires=soon)[1]
    with Asker(store, secret) as asker:
        assert asker.get("/about").status_code == 200
        time.sleep(1.1)
        assert asker.get("/about").status_code == 401


def test_keys_are_made_rotated_and_revoked(store: Store):
    with Asker(store, key(store, "admin")) as asker:
        made = asker.answered("POST", "/keys", 201, json={"name": "mira", "scopes": ["read", "read"], "reason": "new"})
        assert made["key"]["scopes"] == ["read"]
        first, number = made["secret"], made["key"]["id"]
        assert asker.get("/about", headers=bearer(first)).json()["you"] == {"actor": "mira", "scopes": ["read"]}
        rotated = asker.answered("POST", f"/keys/{number}/rotate")
        second = rotated["secret"]
        assert second != first
        assert [asker.get("/about", headers=bearer(one)).status_code for one in (first, second)] == [401, 200]
        gone = asker.answered("DELETE", f"/keys/{rotated['key']['id']}")
        assert gone["key"]["revoked"] is not None
        assert asker.get("/about", headers=bearer(second)).status_code == 401
        assert asker.refused("DELETE", f"/keys/{number}", 404)["code"] == "not_found"
        listed = asker.get("/keys").text
        assert "mira" in listed
        assert first not in listed
        assert second not in listed


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "n", "scopes": []}, "scopes"),
        ({"name": "n", "scopes": ["all"]}, "scopes[0]"),
        ({"name": " ", "scopes": ["ask"]}, "name"),
        ({"name": LOCAL, "scopes": ["ask"]}, "name"),
        ({"name": "n", "scopes": ["ask"], "expires": "tomorrow"}, "expires"),
        ({"name": "n", "scopes": ["ask"], "expires": "2020-01-01T00:00:00Z"}, "expires"),
        ({"name": "n", "scopes": ["ask"], "expires": "2090-01-01T00:00:00"}, "expires"),
        ({"name": "n", "scopes": ["ask"], "secret": "mine"}, "secret"),
    ],
)
def test_keys_that_cannot_be_made(store: Store, body: Any, param: str):
    with Asker(store, key(store, "admin")) as asker:
        assert asker.refused("POST", "/keys", 400, json=body)["param"] == param
    assert len(store.keys.list()) == 1


def test_the_first_key_can_make_further_ones(service: Asker):
    assert service.refused("POST", "/keys", 400, json={"name": "n", "scopes": ["ask"]})["code"] == "first_key"
    service.answered("POST", "/keys", 201, json={"name": "n", "scopes": ["admin"]})
    assert service.get("/keys").status_code == 401


# --- this machine ------------------------------------------------------------------------------------------------


def test_who_is_on_the_machine_may_do_all_under_one_name(service: Asker):
    assert service.get("/about").json()["you"] == {"actor": LOCAL, "scopes": list(SCOPES)}
    assert service.get("/about", headers=bearer("none")).status_code == 200


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via"])
def test_what_a_proxy_hands_on_is_not_from_the_machine(service: Asker, name: str):
    told = service.get("/about", headers={name: "for=127.0.0.1"})
    assert told.status_code == 401


def test_a_revoked_key_does_not_open_the_store_to_the_machine(store: Store):
    secret = key(store, "admin")
    with Asker(store, secret) as asker:
        asker.answered("DELETE", "/keys/1")
        assert asker.get("/about").status_code == 401
        assert asker.get("/about", headers={"authorization": ""}).status_code == 401


@pytest.mark.parametrize(
    "settings",
    [
        {"address": "0.0.0.0"},  # noqa: S104 - that it is refused
        {"address": "::"},
        {"address": "192.168.1.5"},
        {"root_path": "/facts"},
        {"proxies": ("127.0.0.1",)},
        {"trusted_hosts": ("facts.example.org",)},
    ],
)
def test_a_store_without_keys_is_not_served_to_others(store: Store, settings: Any):
    with pytest.raises(ConfigError, match="no key"):
        Asker(store, **settings)
    secret = key(store, "read")
    check_binding(Settings(**settings), store)
    with Asker(store, secret, **settings) as asker:
        assert asker.get("/about").status_code == 200
        assert asker.get("/about", headers={"authorization": ""}).status_code == 401


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_a_store_without_keys_is_served_to_its_machine(store: Store, address: str):
    check_binding(Settings(address=address), store)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"address": "example.org"}, "address"),
        ({"port": 70000}, "port"),
        ({"root_path": "facts/"}, "root_path"),
        ({"trusted_hosts": ("http://a",)}, "trusted_hosts"),
        ({"trusted_hosts": ("A:80",)}, "trusted_hosts"),
        ({"proxies": ("proxy",)}, "proxies"),
        ({"proxies": ("10.0.0.7/24",)}, "proxies"),
        ({"rate": 0}, "rate"),
        ({"max_body": 3}, "max_body"),
        ({"closing_seconds": -1}, "closing_seconds"),
        ({"stream_seconds": float("nan")}, "stream_seconds"),
    ],
)
def test_settings_that_cannot_be(settings: Any, named: str):
    with pytest.raises(ConfigError, match=named):
        Settings(**settings)


@pytest.mark.parametrize(("proxy", "believed"), [("10.1.2.3", True), ("10.2.0.1", False)])
def test_wrong_keys_are_counted_by_the_address_that_a_known_proxy_tells(store: Store, proxy: str, believed: bool):
    secret = key(store, "read")
    settings = Settings(proxies=("10.1.0.0/16", "::1"), failed_rate=2)
    config = configuration(create_app(store, QuickEngine(), settings), settings)
    config.load()
    with TestClient(config.loaded_app, base_url="http://127.0.0.1:8000", client=(proxy, 50000)) as proxied:

        def status(client: str, told: str) -> int:
            return proxied.get("/tags", headers=bearer(told) | {"x-forwarded-for": client}).status_code

        assert [status("192.0.2.1", "hk_wrong") for _ in range(3)] == [401, 401, 429]
        assert status("192.0.2.1", secret) == 429
        assert status("192.0.2.2", secret) == (200 if believed else 429)


@pytest.mark.parametrize("path", ["/edits", "/v1/models", "/metrics"])
def test_a_store_that_is_away_is_told_to_whoever_brings_a_key(store: Store, path: str):
    secret = key(store, "read", "ask")
    with Asker(store, secret) as asker:
        place = store.database.url.database or ""
        store.database.close()
        Path(place).rename(place + ".away")
        Path(place).mkdir()
        refused = asker.get(path)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"
        assert refused.json()["error"]["code"] == "store_unavailable"
        assert place not in refused.text
        assert asker.get("/readyz").status_code == 503
        assert asker.get("/healthz").status_code == 200
        Path(place).rmdir()
        Path(place + ".away").rename(place)
        assert asker.get(path).status_code == 200


# --- limits ------------------------------------------------------------------------------------------------------


def test_too_many_requests_of_a_key(store: Store):
    mine, other = key(store, "read", name="mine"), key(store, "read", name="other")
    with Asker(store, mine, rate=3) as asker:
        assert [asker.get("/tags").status_code for _ in range(4)] == [200, 200, 200, 429]
        told = asker.get("/tags")
        assert told.json()["error"]["code"] == "rate_limit_exceeded"
        assert told.json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(told.headers["retry-after"]) <= 60
        assert asker.get("/tags", headers=bearer(other)).status_code == 200
        assert asker.get("/healthz").status_code == 200


def test_wrong_keys_are_not_tried_for_long(store: Store):
    right = key(store, "read")
    with Asker(store, failed_rate=3) as asker:
        tried = [asker.get("/tags", headers=bearer(f"hk_{n}")).status_code for n in range(5)]
        assert tried == [401, 401, 401, 429, 429]
        assert asker.get("/tags", headers=bearer(right)).status_code == 429
        assert asker.get("/readyz").status_code == 200
    with Asker(store, failed_rate=3) as asker:
        assert [asker.get("/tags").status_code for _ in range(5)] == [401] * 5  # no key is no wrong key


def test_addresses_of_one_network_of_version_6_are_one_client():
    rates = Rates(10, 1)
    rates.fail("2001:db8::1")
    assert rates.barred("2001:db8::ffff") is not None
    assert rates.barred("2001:db8:0:1::1") is None
    assert network("10.0.0.1") == "10.0.0.1"
    assert network("unknown") == "unknown"


def test_requests_are_counted_in_a_moving_minute():
    rates = Rates(2, 1)
    assert [rates.take("a"), rates.take("a")] == [None, None]
    assert all(1 <= wait <= 60 for wait in itertools.islice(iter(lambda: rates.take("a") or 0, 0), 3))
    assert rates.take("b") is None
