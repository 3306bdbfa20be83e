"""The page's files: what is vendored is what was published, and nothing needs a build or an inline script."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from horen.serve.page import FOLDER
from support.services import Asker, bearer, key
from support.vendored import VENDOR, digest, manifest

ASSETS = FOLDER / "assets"
OWN = [file for file in sorted(ASSETS.rglob("*")) if file.suffix in {".js", ".css"} and VENDOR not in file.parents]
INDEX = (FOLDER / "index.html").read_text(encoding="utf-8")


def test_what_is_vendored_is_what_the_manifest_says():
    told = {file["file"]: file["sha256"] for package in manifest()["packages"] for file in package["files"]}
    assert {file.name for file in VENDOR.iterdir()} == {*told, "manifest.json"}
    for name, expected in told.items():
        assert digest((VENDOR / name).read_text(encoding="utf-8")) == expected, name


def test_each_vendored_package_has_its_licence():
    for package in manifest()["packages"]:
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        (licence,) = (file["file"] for file in package["files"] if file["file"].startswith("LICENSE"))
        text = (VENDOR / licence).read_text(encoding="utf-8")
        assert {"MIT": "MIT License", "Apache-2.0": "Apache License"}[package["licence"]] in text


def test_the_page_loads_every_module_at_once():
    preloaded = set(re.findall(r'modulepreload" href="assets/([^"]+)"', INDEX))
    modules = {file.relative_to(ASSETS).as_posix() for file in ASSETS.rglob("*.js")}
    assert preloaded == modules - {"main.js"}
    styles = set(re.findall(r'stylesheet" href="assets/([^"]+)"', INDEX))
    assert styles == {file.relative_to(ASSETS).as_posix() for file in ASSETS.rglob("*.css")}


def test_imports_lead_to_files():
    for file in ASSETS.rglob("*.js"):
        for target in re.findall(r"""\bfrom ?["']([^"'\s]+)["'];""", file.read_text(encoding="utf-8")):
            assert target.startswith("."), f"{file.name}: {target}"
            assert (file.parent / target).resolve().is_file(), f"{file.name}: {target}"


def test_no_text_becomes_html_and_no_style_or_script_is_inline():
    for file in OWN:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), file.name
        assert not re.search(r"\sstyle=|\son[a-z]+=\"", text), file.name
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", ""), file.name
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|https?://", INDEX)


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.relative_to(ASSETS).as_posix())
def test_files_are_small_and_say_what_they_are(file: Path):
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 400
    assert lines[0].startswith(("// ", "/* "))


def test_the_page_is_told_without_a_key_and_kept_only_as_long_as_it_is_new(service: Asker):
    key(service.store, "admin")
    page = service.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["cache-control"] == "no-cache"
    assert "'unsafe" not in page.headers["content-security-policy"]
    module = service.get("/assets/main.js", headers={"accept-encoding": "gzip"})
    assert module.headers["content-type"] == "text/javascript; charset=utf-8"
    assert (module.headers["cache-control"], module.headers["content-encoding"]) == ("no-cache", "gzip")
    again = service.get("/assets/main.js", headers={"if-none-match": module.headers["etag"]})
    assert again.status_code == 304
    for missing in ("/assets/", "/assets/nothing.js", "/assets/vendor"):
        assert service.get(missing).status_code == 404


def test_whoever_has_a_key_is_told_who_they_are(service: Asker):
    assert service.answered("GET", "/you") == {"actor": "local", "scopes": ["ask", "read", "edit", "publish", "admin"]}
    secret = key(service.store, "ask", name="zoe")
    assert service.answered("GET", "/you", headers=bearer(secret)) == {"actor": "zoe", "scopes": ["ask"]}
    assert service.refused("GET", "/you", 401)["code"] == "missing_api_key"
