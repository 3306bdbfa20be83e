"""What a request must be before it is looked at: a plain path, from this site, with a body of JSON."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen.database import Store
from horen.serve.guards import HEADERS, Hosts, check_path, same_place
from horen.serve.refusals import RefusalError
from horen.serve.settings import Settings
from support.services import Asker, key


def asked_raw(asker: Asker, path: bytes, query: bytes = b"", method: str = "GET", **headers: str) -> tuple[int, Any]:
    """The status and headers of a request whose path is sent as it is, which clients do not."""
    sent: list[Any] = []
    body = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        return next(body, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000")] + [(n.encode(), v.encode()) for n, v in headers.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    asyncio.run(asker.app(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    "path",
    [
        b"/edits/%2e%2e/keys",
        b"/edits/../keys",
        b"/edits/./1",
        b"/edits/..",
        b"//edits",
        b"/edits//1",
        b"/edits%2f1",
        b"/sets/a%5cb",
        b"/edits\\1",
        b"/sets/a%00",
        b"/sets/a%0d%0aSet-Cookie:x",
        b"/sets/%7f",
        b"/sets/%ff",
        b"/sets/%c3%28",
        b"/sets/%zz",
        b"/sets/%",
        b"edits",
        b"",
        b"*",
        b"http://127.0.0.1/edits",
    ],
)
def test_paths_that_could_be_taken_for_others_are_refused(service: Asker, path: bytes):
    assert asked_raw(service, path)[0] == 400


def test_long_paths_and_queries_are_refused(service: Asker):
    assert asked_raw(service, b"/" + b"a" * 3000)[0] == 414
    assert asked_raw(service, b"/edits", b"text=" + b"a" * 9000)[0] == 414


@pytest.mark.parametrize("query", [b"text=%00", b"text=a\x00", b"text=%ff", b"tag=%ed%a0%80"])
def test_queries_that_are_no_text_are_refused(service: Asker, query: bytes):
    assert asked_raw(service, b"/edits", query)[0] == 400


@pytest.mark.parametrize(
    "path", [b"/sets/K%C3%BCche/clashes/a%20b", b"/sets/%E6%9D%B1", b"/versions/1.5", b"/sets/..a"]
)
def test_plain_names_of_any_script_are_taken(service: Asker, path: bytes):
    assert asked_raw(service, path, method="GET")[0] in {200, 404, 405}


@given(path=st.binary(max_size=60), query=st.binary(max_size=40))
def test_no_path_makes_a_guard_fail(path: bytes, query: bytes):
    statuses = []
    try:
        check_path(path, query)
    except RefusalError as error:
        statuses.append(error.status)
    assert set(statuses) <= {400, 414}


PARTS = [b"/", b"%2e", b".", b"%2F", b"edits", b"sets", b"1", b"%00", b"\\", b"%", b"\xff", b"?", "é".encode()]


@given(parts=st.lists(st.sampled_from(PARTS), max_size=8))
def test_no_path_makes_the_service_fail(shared: Asker, parts: list[bytes]):
    assert asked_raw(shared, b"/" + b"".join(parts))[0] < 500


# --- hosts and sites ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("127.0.0.1", 200),
        ("localhost:8000", 200),
        ("LOCALHOST.", 200),
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("192.168.1.5", 403),
        ("", 403),
        ("a b", 403),
        ("[::1", 403),
    ],
)
def test_only_its_own_names_are_answered(service: Asker, host: str, status: int):
    assert service.get("/about", headers={"host": host}).status_code == status


def test_further_names_are_given_by_the_settings(store: Store):
    with Asker(store, key(store, "read"), trusted_hosts=("facts.example.org", "*.example.net")) as asker:
        for host, status in (
            ("facts.example.org", 200),
            ("facts.example.org:443", 200),
            ("a.example.net", 200),
            ("example.net", 403),
            ("a.example.org", 403),
            ("example.netevil", 403),
        ):
            assert asker.get("/about", headers={"host": host}).status_code == status, host


def test_addresses_are_names_of_what_is_bound_to_all_of_them():
    hosts = Hosts(Settings(address="0.0.0.0"))  # noqa: S104
    assert hosts.known("10.1.2.3:8000")
    assert hosts.known("[fe80::1]:8000")
    assert not hosts.known("evil.example")
    assert Hosts(Settings(address="10.1.2.3")).known("10.1.2.3")
    assert not Hosts(Settings(address="10.1.2.3")).known("10.1.2.4")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://localhost:8000"}, 403),
        ({"origin": "http://127.0.0.1:3000"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8000"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 403),
        ({"sec-fetch-site": "bogus"}, 403),
    ],
)
def test_other_sites_are_not_answered(service: Asker, headers: dict[str, str], status: int):
    for method, path in (("GET", "/about"), ("POST", "/undo"), ("GET", "/healthz")):
        told = service.request(method, path, headers=headers)
        assert (told.status_code == 403) == (status == 403), told.text
        if status == 403:
            assert told.json()["error"]["code"] == "cross_site"


def test_a_link_of_another_site_leads_to_the_page_alone(service: Asker):
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert service.get("/docs", headers=followed).status_code == 200
    assert service.get("/docs", headers=followed | {"sec-fetch-dest": "iframe"}).status_code == 403
    assert service.get("/docs", headers=followed | {"sec-fetch-mode": "cors"}).status_code == 403
    assert service.get("/openapi.json", headers=followed).status_code == 403


def test_a_browser_is_told_that_other_sites_may_not_read(service: Asker):
    told = service.options(
        "/edits", headers={"origin": "https://evil.example", "access-control-request-method": "POST"}
    )
    assert told.status_code == 403
    assert not any(name.startswith("access-control") for name in told.headers)


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("https://a.example", "a.example", True),
        ("https://a.example", "a.example:443", True),
        ("http://a.example:80", "a.example", True),
        ("https://A.example", "a.example", True),
        ("https://a.example:444", "a.example", False),
        ("file://", "a.example", False),
        ("ftp://a.example", "a.example", False),
    ],
)
def test_origins_and_hosts(origin: str, host: str, same: bool):
    assert same_place(origin, host) is same


# --- bodies and headers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", ""],
)
def test_bodies_are_json(service: Asker, kind: str):
    told = service.post("/undo", content=b"{}", headers={"content-type": kind})
    assert told.status_code == 415
    assert told.json()["error"]["code"] == "unsupported_media_type"


def test_json_may_say_its_characters_and_nothing_needs_no_name(service: Asker):
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert service.post("/feedback", content=b"{}", headers=headers).status_code == 400
    assert service.post("/undo").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"null",
        b"[]",
        b"1",
        b'"x"',
        b"\xff\xfe",
        b"[" * 5000,
        b'{"prompt":' + b"1" * 5000 + b"}",
        b"NaN",
        b'{"a":1}x',
    ],
)
def test_bodies_that_are_none_are_refused_in_words(service: Asker, body: bytes):
    told = service.post("/edits", content=body, headers={"content-type": "application/json"})
    assert told.status_code == 400, told.text
    assert told.json()["error"]["message"]


def test_large_bodies_are_refused(store: Store):
    with Asker(store, max_body=2048) as asker:
        told = asker.post("/feedback", json={"prompt": "a" * 4096, "wrong": "w", "right": "r"})
        assert told.status_code == 413
        assert told.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/healthz", "/about", "/nothing", "/docs", "/edits/0", "/docs/start.js"])
def test_every_answer_has_the_headers_that_keep_a_browser_safe(service: Asker, path: str):
    told = service.get(path)
    for name, value in HEADERS.items():
        assert told.headers[name] == value
    assert "frame-ancestors 'none'" in told.headers["content-security-policy"]
    assert "unsafe" not in told.headers["content-security-policy"]
    assert "server" not in told.headers


def test_answers_are_kept_nowhere(service: Asker):
    assert service.get("/about").headers["cache-control"] == "no-store"
    assert "max-age" in service.get("/docs/start.js").headers["cache-control"]


def test_the_page_of_the_description_has_nothing_from_elsewhere(service: Asker):
    page = service.get("/docs").text
    assert "http" not in page.replace("http-equiv", "")
    assert "<script>" not in page
    for part in ("docs/swagger-ui.css", "docs/page.css", "docs/swagger-ui-bundle.js", "docs/start.js"):
        assert part in page
        assert service.get("/" + part).status_code == 200
    assert service.get("/docs/other.js").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nothing"), ("GET", "/edits/"), ("GET", "/docs/oauth2-redirect")]
)
def test_what_is_not_there(service: Asker, method: str, path: str):
    assert service.refused(method, path, 404)["code"] == "not_found"


def test_methods_that_are_not_there(service: Asker):
    told = service.put("/edits")
    assert told.status_code == 405
    assert "GET" in told.headers["allow"]
    assert told.json()["error"]["code"] == "method_not_allowed"
