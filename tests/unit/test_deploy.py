"""What is in deploy/ names options, files, ports and versions that there are. `make lint-deploy` has the linters."""

from __future__ import annotations

import configparser
import fnmatch
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from horen import StoreError, __version__
from horen.cli.app import app
from horen.cli.stores.serving import read_options
from horen.database import Store
from horen.database.snapshot import Snapshot
from horen.extras import EXTRAS
from horen.serve.settings import Settings
from horen.serve.telemetry.metrics import Metrics
from horen.store.state import Saved
from horen.vllm.plugin import TESTED
from support.editors import quick_editor
from support.postgres import postgres, programs
from support.services import KNOWN, WHO, stored

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PORT = "8000"
#: Seconds that a trainer has to end.
TRAINER = 10


def text(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def argument(name: str) -> str:
    """What a build argument of the Dockerfile is unless it is given."""
    return re.search(rf"^ARG {name}=(.*)$", text("Dockerfile"), re.MULTILINE)[1]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    filled = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text("compose.yaml"))
    return yaml.safe_load(filled)


@pytest.fixture(scope="module")
def cluster() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text("kubernetes.yaml")))


def unit(name: str) -> list[tuple[str, str]]:
    lines = [line.partition("=") for line in text(f"systemd/{name}").splitlines() if re.match(r"\w+=", line)]
    return [(key, value) for key, _, value in lines]


def deployment(cluster: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(one for one in cluster if one["kind"] == "Deployment" and one["metadata"]["name"] == name)["spec"]


def started(compose: dict[str, Any], cluster: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Every way in which the service is started, with its arguments."""
    dockerfile = re.search(r"^CMD \[(.*)\]$", text("Dockerfile"), re.MULTILINE)[1]
    yield "Dockerfile", re.findall(r'"([^"]+)"', dockerfile)
    yield "compose.yaml", shlex.split(compose["services"]["horen"]["command"])
    yield "kubernetes.yaml", deployment(cluster, "horen")["template"]["spec"]["containers"][0]["args"]
    yield "horen.service", shlex.split(dict(unit("horen.service"))["ExecStart"])[1:-1]
    yield "nginx.conf", shlex.split(re.search(r"horen (serve \.\.\. .*)", text("nginx.conf"))[1].replace("... ", ""))
    example = re.search(r"^#HOREN_ARGUMENTS=(.*)$", text(".env.example"), re.MULTILINE)[1]
    yield ".env.example", ["serve", *shlex.split(example)]


def settings_of(words: list[str]) -> Settings:
    """The settings that a service gets from its arguments."""
    command: Any = typer.main.get_command(app)
    serve = command.commands[words[0]]
    context = serve.make_context("serve", list(words[1:]))
    given = context.params
    return read_options(
        list(given["options"] or ()), address=given["address"], port=given["port"], four_eyes=given["four_eyes"]
    )


def test_the_service_is_started_with_options_that_there_are(compose: dict[str, Any], cluster: list[dict[str, Any]]):
    found = {place: settings_of(words) for place, words in started(compose, cluster)}
    assert all(str(settings.port) == PORT for settings in found.values())
    for place in ("Dockerfile", "compose.yaml", "kubernetes.yaml"):
        assert found[place].address == "0.0.0.0"  # noqa: S104 - the network of a container
    assert found["horen.service"].loopback
    for place in ("compose.yaml", "kubernetes.yaml", "nginx.conf"):
        assert found[place].proxies, f"{place}: one client's wrong keys would shut out all"


# --- images ------------------------------------------------------------------------------------------------------


def test_an_image_is_made_of_what_there_is_and_is_let_in():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", text("Dockerfile"), re.MULTILINE)
        for word in line.split()[:-1]
    ]
    assert set(copied) == let_in
    assert all((ROOT / path).exists() for path in copied)
    # What hatch reads while it builds.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    assert needed <= set(copied)
    assert fnmatch.fnmatch(project["tool"]["hatch"]["version"]["path"], "src/*")


def test_an_image_has_the_releases_that_were_run():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f">={argument('PYTHON').split('-')[0]}" == project["requires-python"]
    assert f"TORCH ?= {argument('TORCH')}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert argument("VLLM").removeprefix("v") in TESTED
    assert set(argument("EXTRAS").split(",")) <= set(EXTRAS)
    for extras in re.findall(r"whl\)\[([a-z,]+)\]", text("Dockerfile")):
        assert set(extras.split(",")) <= set(EXTRAS)


def test_no_image_and_no_file_has_a_password(compose: dict[str, Any], cluster: list[dict[str, Any]]):
    for name, service in compose["services"].items():
        for key, value in service.get("environment", {}).items():
            assert "PASSWORD" not in key or key.endswith("_FILE"), name
            assert "@" not in str(value)
    assert not [one for one in cluster if one["kind"] == "Secret"]
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {"deploy/secrets/", "deploy/.env"} <= set(ignored)


# --- one thing, one number ---------------------------------------------------------------------------------------


def test_ports_agree(compose: dict[str, Any], cluster: list[dict[str, Any]]):
    assert f"EXPOSE {PORT}\n" in text("Dockerfile")
    assert f"127.0.0.1:{PORT}/healthz" in text("Dockerfile")
    published = [port for one in compose["services"].values() for port in one.get("ports", ())]
    assert published == [f"127.0.0.1:{PORT}:{PORT}"]
    for one in cluster:
        if one["kind"] == "Service":
            assert [str(port["port"]) for port in one["spec"]["ports"]] == [PORT]
        if one["kind"] == "Deployment":
            (container,) = one["spec"]["template"]["spec"]["containers"]
            assert [str(port["containerPort"]) for port in container["ports"]] == [PORT]
    assert f"server 127.0.0.1:{PORT} " in text("nginx.conf")
    (job, _) = yaml.safe_load(text("prometheus/prometheus.yml"))["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{PORT}"]}]


def test_users_and_versions_agree(cluster: list[dict[str, Any]]):
    (user,) = set(re.findall(r"^USER (\d+):\d+$", text("Dockerfile"), re.MULTILINE))
    assert set(re.findall(r"--uid (\d+)", text("Dockerfile"))) == {user}
    for name in ("horen", "horen-vllm"):
        pod = deployment(cluster, name)["template"]["spec"]
        assert {str(pod["securityContext"][key]) for key in ("runAsUser", "runAsGroup", "fsGroup")} == {user}
        assert pod["containers"][0]["image"].endswith(f"/{name}:{__version__}")


def test_whoever_ends_the_service_gives_it_time(compose: dict[str, Any], cluster: list[dict[str, Any]]):
    settings = {place: settings_of(words) for place, words in started(compose, cluster)}

    def least(place: str) -> float:
        return settings[place].drain_seconds + settings[place].closing_seconds + TRAINER

    assert float(compose["services"]["horen"]["stop_grace_period"].removesuffix("s")) > least("compose.yaml")
    pod = deployment(cluster, "horen")["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > least("kubernetes.yaml")
    assert float(dict(unit("horen.service"))["TimeoutStopSec"]) > least("horen.service")


def test_a_gateway_that_is_believed_is_that_of_the_network(compose: dict[str, Any], cluster: list[dict[str, Any]]):
    (config,) = compose["networks"]["outside"]["ipam"]["config"]
    assert settings_of(dict(started(compose, cluster))["compose.yaml"]).proxies == (config["gateway"],)


def test_policies_and_services_select_pods_that_there_are(cluster: list[dict[str, Any]]):
    pods = [one["spec"]["template"]["metadata"] for one in cluster if one["kind"] == "Deployment"]
    labels = {pod["labels"]["app.kubernetes.io/name"] for pod in pods}
    for one in cluster:
        if one["kind"] == "Service":
            assert one["spec"]["selector"]["app.kubernetes.io/name"] in labels
    own = re.findall(r"app\.kubernetes\.io/name: ([\w-]+)", text("kubernetes.yaml"))
    assert set(own) == labels
    claims = {one["metadata"]["name"] for one in cluster if one["kind"] == "PersistentVolumeClaim"}
    assert set(re.findall(r"claimName: ([\w-]+)", text("kubernetes.yaml"))) == claims
    assert {one["metadata"].get("namespace", "horen") for one in cluster} == {"horen"}


@pytest.mark.parametrize("name", ["horen.service", "horen-backup.service"])
def test_a_unit_is_given_the_credential_that_it_names(name: str):
    pairs = unit(name)
    (credential,) = [value.partition(":")[0] for key, value in pairs if key == "LoadCredential"]
    assert ("Environment", f"PGSERVICEFILE=%d/{credential}") in pairs
    assert {"DynamicUser": "yes", "User": "horen", "ProtectSystem": "strict"}.items() <= dict(pairs).items()


# --- alerts ------------------------------------------------------------------------------------------------------


def test_alerts_are_of_what_is_counted():
    rules = [rule for group in yaml.safe_load(text("prometheus/horen.rules.yml"))["groups"] for rule in group["rules"]]
    known = {family.name for family in Metrics().registry.collect()}
    for rule in rules:
        for name in re.findall(r"horen_\w+", rule["expr"]):
            assert re.sub(r"_(total|count|sum|bucket)$", "", name) in known, rule["alert"]
    tried = yaml.safe_load(text("prometheus/horen.rules.test.yml"))["tests"]
    assert {case["alertname"] for test in tried for case in test["alert_rule_test"]} <= {
        rule["alert"] for rule in rules
    }


# --- scripts, run ------------------------------------------------------------------------------------------------


def test_secrets_are_made_once_and_for_their_owner(compose: dict[str, Any], tmp_path: Path):
    script = shutil.copy(DEPLOY / "secrets.sh", tmp_path)
    subprocess.run([script, "db.example.org"], check=True, capture_output=True)
    folder = tmp_path / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {tmp_path / one["file"] for one in compose["secrets"].values()} == set(folder.iterdir())
    for role, service, password in (
        ("horen", "pg_service.conf", "database_password"),
        ("horen_read", "pg_service_read.conf", "read_password"),
    ):
        read = configparser.ConfigParser()
        read.read(folder / service)
        found = dict(read["horen"])
        assert (found["host"], found["user"]) == ("db.example.org", role)
        assert found["password"] == (folder / password).read_text()
        assert len(found["password"]) == 48
    before = (folder / "database_password").read_text()
    assert subprocess.run([script], capture_output=True).returncode == 1
    assert (folder / "database_password").read_text() == before


def test_a_backup_of_a_file_is_a_store_and_only_old_backups_go(tmp_path: Path):
    stored(tmp_path).close()
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m horen.cli "$@"\n')
    program.chmod(0o755)
    folder = tmp_path / "backups"
    folder.mkdir()
    for name in ("horen-20200101T000000Z.db", "horen-20200101T000000Z.dump", "mine.db"):
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    environment = {**os.environ, "HOREN": str(program)}
    command = [str(DEPLOY / "backup.sh"), str(tmp_path / "facts.db"), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    backup = Path(done.stdout.strip())
    assert set(folder.iterdir()) == {backup, folder / "mine.db"}
    assert stat.S_IMODE(backup.stat().st_mode) & 0o077 == 0
    with Store.open(backup) as store:
        assert [edit.prompt for edit in store.edits.list().items] == [KNOWN.prompt]


@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed: apt-get install postgresql")
def test_a_backup_that_fails_leaves_the_others(tmp_path: Path):
    old = tmp_path / "horen-20200101T000000Z.dump"
    old.touch()
    os.utime(old, (0, 0))
    environment = {**os.environ, "PATH": f"{programs()}:{os.environ['PATH']}", "PGSERVICEFILE": "/dev/null"}
    command = [str(DEPLOY / "backup.sh"), "service=missing", str(tmp_path)]
    assert subprocess.run(command, capture_output=True, env=environment).returncode == 1
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed: apt-get install postgresql")
def test_a_database_is_followed_by_a_role_that_may_read_and_comes_back_from_a_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place = programs()
    assert place is not None
    with postgres(hasty=True) as server:
        server.database("horen")
        services = tmp_path / "pg_service.conf"
        parts = (("horen", "horen", "horen"), ("reads", "horen", "horen_read"), ("copy", "copy", "horen"))
        where = f"host=127.0.0.1\nport={server.port}"
        services.write_text("".join(f"[{part}]\n{where}\ndbname={name}\nuser={role}\n" for part, name, role in parts))
        (tmp_path / "password").write_text("geheim")
        monkeypatch.setenv("PGSERVICEFILE", str(services))
        monkeypatch.setenv("READ_PASSWORD_FILE", str(tmp_path / "password"))
        monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
        _run("psql", "-v", "ON_ERROR_STOP=1", "-f", str(DEPLOY / "roles.sql"), "service=horen")
        quick_editor(edits=[KNOWN]).save(tmp_path / "codebook")
        Store.create("postgresql:///horen?service=horen", Saved.read(tmp_path / "codebook"), WHO).close()
        with Store.open("postgresql:///horen?service=reads") as store:
            assert Snapshot(store, tmp_path / "followed").follow() == 1
            with pytest.raises(StoreError, match="permission denied"):
                store.sets.make("a set", WHO)
        dump = _run(str(DEPLOY / "backup.sh"), "service=horen", str(tmp_path / "backups")).strip()
        server.database("copy")
        told = re.search(r"pg_restore (--exit.*) --dbname=service=horen FILE", text("backup.sh"))[1]
        _run("pg_restore", *told.split(), "--dbname=service=copy", dump)
        with Store.open("postgresql:///copy?service=copy") as store:
            assert [edit.prompt for edit in store.edits.list().items] == [KNOWN.prompt]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
