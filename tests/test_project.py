"""The files around the code keep their promises: Makefile, compose file, collector files, Dockerfile, CI script."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests import engines
from tests.e2e.engines import build

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "docker-compose.yml"
COLLECTOR_CONFIGS = sorted((ROOT / "collector-config").glob("*.yaml"))
DEPRECATED_COMPONENTS = {"exporters": {"otlp", "otlphttp", "logging"}, "processors": {"batch"}}
README_TARGETS = ["demo", "test", "engines", "e2e-docker", "lint", "bench", "clean", "help"]
E2E_COMPOSE = ROOT / "tests" / "e2e" / "docker-compose.yml"
E2E_SCRIPT = ROOT / "tests" / "e2e" / "docker.sh"


def read_yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def compose() -> Any:
    return read_yaml(COMPOSE)


def services() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from compose()["services"].items()


#: What a make around the tests, as the gate's, hands down: its own variables, and those of its command line.
MAKES_OWN = frozenset({"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PYTHON", "ARGS", "DATABASES"})


def make(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in MAKES_OWN}
    if path is not None:
        environment["PATH"] = path
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def script(directory: Path, name: str, body: str) -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


# ── Makefile ────────────────────────────────────────────────────────────────────────────────────


def test_make_help_lists_every_target() -> None:
    listed = make("help").stdout

    assert [target for target in README_TARGETS if f"make {target} " not in listed] == []


def test_make_alone_shows_the_help() -> None:
    assert make().stdout == make("help").stdout


def test_make_demo_hands_its_arguments_to_the_demo() -> None:
    planned = make("--dry-run", "demo", "ARGS=--once", f"PYTHON={sys.executable}")

    assert "demo/run.py --once" in planned.stdout, planned.stderr


def test_make_test_runs_pytest_in_the_virtual_environment(tmp_path: Path) -> None:
    planned = make("--dry-run", "test", "ARGS=-x", f"VENV={tmp_path}/env", f"PYTHON={sys.executable}")

    assert f"{tmp_path}/env/bin/python -m pytest -x" in planned.stdout, planned.stderr


@pytest.mark.parametrize(
    ("status", "databases", "ran", "fails"),
    [
        (0, None, ["postgresql", "mariadb"], False),
        (engines.MISSING_STATUS, None, ["postgresql", "mariadb"], False),
        (5, None, ["postgresql", "mariadb"], False),
        (1, None, ["postgresql"], True),
        (3, None, ["postgresql"], True),
        (1, "", [], False),
    ],
)
def test_make_test_goes_on_to_each_database_and_passes_over_what_is_not_here(
    tmp_path: Path, status: int, databases: str | None, ran: list[str], fails: bool
) -> None:
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin", "python", f'echo "$@"; case "$2" in tests.engines) exit {status};; esac')
    (tmp_path / "dev.stamp").touch()

    made = make("test", "ARGS=-x", f"VENV={tmp_path}", *([] if databases is None else [f"DATABASES={databases}"]))

    assert re.findall(r"^-m tests.engines run (\w+) -- \S+ -m pytest -m django_db -x$", made.stdout, re.M) == ran
    assert (made.returncode != 0) == fails, made.stderr


def test_a_database_server_that_is_not_here_is_said_loudly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)

    status = engines.run("mariadb", ["false"])

    assert status == engines.MISSING_STATUS
    assert capfd.readouterr().err == (
        "!!! NOT TESTED ON MARIADB: mariadbd is not here; apt-get install mariadb-server. !!!\n"
    )


def test_make_engines_does_nothing_where_the_programs_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(build.VARIABLE, str(tmp_path))
    for name in build.PROGRAMS:
        build._place(name).touch()

    made = make("engines", f"PYTHON={sys.executable}")

    assert (made.returncode, made.stdout.count("is up to date")) == (0, len(build.PROGRAMS)), made.stderr


@pytest.mark.parametrize(
    ("said", "version"),
    [("go version go1.26.8 linux/amd64", (1, 26, 8)), ("go version go1.27rc1 linux/arm64", (1, 27)), ("", ())],
)
def test_a_go_is_known_by_what_it_says(tmp_path: Path, said: str, version: tuple[int, ...]) -> None:
    go = script(tmp_path, "go", f"echo '{said}'")

    assert build._version(str(go)) == version
    assert build._version(str(tmp_path / "none")) == ()


def test_the_environment_is_made_in_one_resolve(tmp_path: Path) -> None:
    planned = make("--dry-run", "test", f"VENV={tmp_path}/env", f"PYTHON={sys.executable}").stdout

    assert len(re.findall("pip install .*--editable", planned)) == 1


def test_the_environment_is_reused_while_pyproject_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "dev.stamp").touch()

    planned = make("--dry-run", "test", f"VENV={tmp_path}", f"PYTHON={sys.executable}").stdout

    assert "pip install" not in planned


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench"])
def test_a_missing_python_gives_one_line_that_says_what_to_install(target: str, tmp_path: Path) -> None:
    refused = make(target, "PYTHON=/nonexistent", f"VENV={tmp_path}/env")

    assert refused.returncode != 0
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1
    assert "there is no Python '/nonexistent'; install Python 3.11 or newer" in refused.stderr
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.10"])
def test_an_old_python_gives_one_line_that_names_its_version(version: str, tmp_path: Path) -> None:
    old = script(tmp_path, "old-python", f'case "$2" in *write*) printf %s {version};; *) exit 1;; esac')

    refused = make("demo", f"PYTHON={old}", f"VENV={tmp_path}/env")

    assert refused.returncode != 0
    assert refused.stderr.count("\n") == 1
    assert f"is Python {version}; install Python 3.11 or newer" in refused.stderr


def test_a_missing_venv_module_gives_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    bare = script(tmp_path, "bare-python", f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"')

    refused = make("demo", f"PYTHON={bare}", f"VENV={tmp_path}/env")

    assert refused.returncode != 0
    assert refused.stderr.count("\n") == 1
    assert re.search(r"has no venv module; install it \(.*apt install python3\.\d+-venv\)", refused.stderr)


def test_a_machine_without_any_python_gives_the_same_line(tmp_path: Path) -> None:
    for program in ("make", "sh", "sed"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))

    refused = make("demo", f"VENV={tmp_path}/env", path=str(tmp_path))

    assert refused.returncode != 0
    assert "there is no Python 'python3'; install Python 3.11 or newer" in refused.stderr


@pytest.mark.parametrize("fails", ["info", "compose"])
def test_a_missing_docker_gives_one_line_that_says_what_to_install(tmp_path: Path, fails: str) -> None:
    script(tmp_path, "docker", f'test "$1" != {fails}')

    refused = make("e2e-docker", f"VENV={tmp_path}/env", path=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    assert refused.returncode != 0
    assert refused.stderr.count("\n") == 1
    assert "install and start Docker with Compose" in refused.stderr
    assert not (tmp_path / "env").exists()


def test_a_new_python_beside_an_old_one_is_found(tmp_path: Path) -> None:
    script(tmp_path, "python3", "exit 1")
    script(tmp_path, "python3.13", f'exec {sys.executable} "$@"')
    (tmp_path / "sh").symlink_to(str(shutil.which("sh")))

    found = subprocess.run(
        ["sh", "demo/python.sh"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == str(tmp_path / "python3.13")


# ── docker-compose.yml and Dockerfile ───────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [COMPOSE, E2E_COMPOSE], ids=["of the demo", "of the tests"])
def test_the_compose_file_is_accepted_by_the_compose_specification(path: Path) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_compose_file_has_no_version_key() -> None:
    assert "version" not in compose()


def test_every_image_has_a_pinned_tag_or_is_built_here() -> None:
    built = {service["image"] for _, service in services() if "build" in service}
    unpinned = [
        name
        for name, service in services()
        if service["image"] not in built and not re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", service["image"])
    ]

    assert unpinned == []


def test_the_files_that_the_compose_file_names_exist() -> None:
    missing = []
    for name, service in services():
        build = service.get("build")
        if build and not (ROOT / build["context"] / build["dockerfile"]).is_file():
            missing.append((name, build["dockerfile"]))
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and not (ROOT / source).is_file():
                missing.append((name, source))

    assert missing == []


def test_the_volumes_that_the_compose_file_names_are_declared_and_used() -> None:
    named = {
        volume.split(":")[0]
        for _, service in services()
        for volume in service.get("volumes", [])
        if not volume.startswith((".", "/"))
    }

    assert named == set(compose()["volumes"])


def test_the_services_that_services_wait_for_exist() -> None:
    known = dict(services())

    waited_for = {other for service in known.values() for other in service.get("depends_on", {})}

    assert waited_for <= set(known)
    for service in known.values():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in known[other]


def test_a_service_without_profile_waits_for_none_with_one() -> None:
    known = dict(services())
    always = {name: service for name, service in known.items() if "profiles" not in service}

    optional = [(name, other) for name in always for other in always[name].get("depends_on", {}) if other not in always]

    assert optional == []


def test_every_port_is_published_on_this_machine_alone() -> None:
    published = [port for _, service in services() for port in service.get("ports", [])]

    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_no_secret_stands_in_the_compose_file() -> None:
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|KEY", re.IGNORECASE)

    given = [
        (name, key)
        for name, service in services()
        for key in service.get("environment", {})
        if secret.search(key) and not key.endswith("_FILE")
    ]

    assert given == []


def test_the_default_profile_brings_collector_and_jaeger() -> None:
    default = (ROOT / ".env").read_text()

    assert re.search(r"^COMPOSE_PROFILES=jaeger$", default, re.MULTILINE)
    assert {name for name, service in services() if service.get("profiles") == ["jaeger"]} == {"collector", "jaeger"}


def test_the_profile_kafka_brings_broker_collectors_and_receiver() -> None:
    found = {name for name, service in services() if service.get("profiles") == ["kafka"]}

    assert found == {"kafka", "kafka-in", "kafka-out", "receiver-token", "receiver"}


def test_what_reads_from_kafka_shows_the_token_that_was_made_to_the_address_that_the_receiver_has() -> None:
    known = dict(services())
    out = known["kafka-out"]

    bound = known["receiver"]["command"][-1]

    assert out["environment"]["AUDIT_ENDPOINT"] == f"http://receiver:{bound.rpartition(':')[2]}/v1/traces"
    overlay = re.search(r"Bearer \$\$\{file:(\S+)\}$", out["command"][-1])
    assert overlay is not None
    assert f"> {overlay[1]}\n" in known["receiver-token"]["command"][-1]
    assert "receiver-secrets:/run/receiver-secrets:ro" in out["volumes"]
    assert out["environment"]["KAFKA_BROKERS"] == known["kafka-in"]["environment"]["KAFKA_BROKERS"] == '["kafka:9092"]'


def test_the_file_of_the_token_holds_nothing_else_and_is_kept(tmp_path: Path) -> None:
    """A line's end in it would be one in the header of every request, which the Collector then never sends."""
    *shell, commands = dict(services())["receiver-token"]["command"]
    commands = commands.replace("/run/receiver-secrets", str(tmp_path))
    for token in ("first", "second"):
        script(tmp_path, "python", f"case $* in *'token create'*) printf 'Shown once:\\n{token}\\n';; esac")
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        subprocess.run([*shell, commands], env=environment, check=True, timeout=30)

    assert (tmp_path / "token").read_bytes() == b"first"
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert not (tmp_path / "created").exists()


def test_the_shop_sends_its_spans_to_a_port_that_the_collector_opens() -> None:
    known = dict(services())
    endpoint = known["shop"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    config = next(volume for volume in known["collector"]["volumes"] if volume.startswith("./")).split(":")[0]

    opened = read_yaml(ROOT / config)["receivers"]["otlp"]["protocols"]["http"]["endpoint"]

    assert endpoint == f"http://collector:{opened.rsplit(':', 1)[1]}"


def staying() -> dict[str, dict[str, Any]]:
    """Return the services that go on running: nobody waits for their end."""
    known = dict(services())
    ending = {
        other
        for service in known.values()
        for other, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    return {name: service for name, service in known.items() if name not in ending}


def test_every_service_that_stays_says_whether_it_is_well_where_its_image_can() -> None:
    silent = {service["image"].partition(":")[0] for service in staying().values() if "healthcheck" not in service}

    assert silent == {"otel/opentelemetry-collector-contrib"}


def test_no_service_gains_privileges() -> None:
    capable = {name for name, service in services() if "ALL" not in service.get("cap_drop", [])}

    assert capable == {"audit-database"}
    assert {name: service["cap_add"] for name, service in services() if "cap_add" in service} == {"prepare": ["CHOWN"]}
    assert all("no-new-privileges:true" in service["security_opt"] for _, service in services())


def test_every_service_that_stays_is_there_again_after_the_machine_was_off() -> None:
    assert {name for name, service in staying().items() if service.get("restart") != "unless-stopped"} == set()


def test_the_image_is_built_by_one_service_that_all_others_of_it_wait_for() -> None:
    """Builds of one name run side by side, and on a machine without the image all but the first fail."""
    known = dict(services())
    (builder,) = (name for name, service in known.items() if "build" in service)

    def awaited(name: str) -> set[str]:
        direct = set(known[name].get("depends_on", {}))
        return direct.union(*map(awaited, direct))

    of_its_image = {name for name, service in known.items() if service["image"] == known[builder]["image"]}
    assert of_its_image > {builder}
    assert {name for name in of_its_image - {builder} if builder not in awaited(name)} == set()


def test_a_command_that_names_a_profile_names_the_default_too() -> None:
    """A profile on the command line takes the place of COMPOSE_PROFILES."""
    pages = [COMPOSE, ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

    named = [
        command
        for page in pages
        for command in re.findall(r"docker compose( --profile [^\n`]+)", page.read_text(encoding="utf-8"))
    ]

    assert named
    assert [command for command in named if "--profile jaeger" not in command] == []


#: Where an image has a folder of its user's own; an engine gives a new volume there to that user, any other to root.
FOLDERS_OF_IMAGES = {"postgres": {"/var/lib/postgresql/data"}, "apache/kafka": {"/var/lib/kafka/data"}}
#: The user that the Collector's image runs as.
COLLECTOR_UID = 10001


def test_every_volume_belongs_to_the_user_that_writes_into_it() -> None:
    dockerfile = (ROOT / "demo" / "Dockerfile").read_text()
    made = re.search(r"install -d -o shop -m 0700 (.+)$", dockerfile, re.MULTILINE)
    assert made is not None
    folders = {**FOLDERS_OF_IMAGES, compose()["services"]["shop"]["image"]: set(made[1].split())}
    given = re.findall(rf"^chown {COLLECTOR_UID} /(\w+)$", (ROOT / "demo" / "prepare.sh").read_text(), re.MULTILINE)

    strange = [
        (name, volume)
        for name, service in services()
        if name != "prepare"
        for volume in service.get("volumes", [])
        if not volume.startswith(".") and not volume.endswith(":ro")
        if volume.split(":")[1] not in folders.get(service["image"].partition(":")[0], set())
        if volume.split(":")[0] not in given
    ]

    assert strange == []
    # The token is made by the one and read by the other.
    assert f"--uid {COLLECTOR_UID} " in dockerfile


def test_services_cannot_write_outside_their_volumes() -> None:
    own_image = {name: service for name, service in services() if name not in ("audit-database", "kafka")}

    assert [name for name, service in own_image.items() if service.get("read_only") is not True] == []


def test_the_image_copies_files_that_exist_and_runs_as_an_ordinary_user() -> None:
    text = (ROOT / "demo" / "Dockerfile").read_text()
    copied = [source for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for source in line.split()[:-1]]

    # The packages are looked up where they are installed: the suite also runs against the wheel, without them here.
    missing = [name for name in copied if name not in {"otel_audit", "exporters"} and not (ROOT / name).exists()]

    assert missing == []
    assert re.findall(r"^USER (\w+)$", text, re.MULTILINE) == ["shop"]
    # Its home is not there, so that gunicorn has no place for its control socket.
    assert "--no-create-home" in text
    assert '"--no-control-socket"' in text
    assert re.search(r"^FROM [\w/]+:\d+\.\d+\.\d+-\S+$", text, re.MULTILINE)


def test_what_the_image_copies_is_let_through_to_the_build() -> None:
    text = (ROOT / "demo" / "Dockerfile").read_text()
    copied = {source for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for source in line.split()[:-1]}
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert copied <= let_through


# ── collector-config ────────────────────────────────────────────────────────────────────────────


def test_there_is_a_collector_file_for_jaeger_and_one_for_a_file() -> None:
    assert {"agent.yaml", "to-file.yaml"} <= {path.name for path in COLLECTOR_CONFIGS}


@pytest.mark.parametrize("path", COLLECTOR_CONFIGS, ids=lambda path: path.name)
def test_a_collector_file_begins_with_what_it_guarantees_and_loses(path: Path) -> None:
    head = path.read_text().split("\n\n")[0]
    comment = "\n".join(line for line in head.splitlines() if line.startswith("#"))

    assert "Guarantees" in comment
    assert "Loses" in comment


@pytest.mark.parametrize("path", COLLECTOR_CONFIGS, ids=lambda path: path.name)
def test_a_collector_file_uses_what_it_defines_and_defines_what_it_uses(path: Path) -> None:
    config = read_yaml(path)
    service = config["service"]

    used: dict[str, set[str]] = {"extensions": set(service["extensions"])}
    for pipeline in service["pipelines"].values():
        for kind, names in pipeline.items():
            used.setdefault(kind, set()).update(names)
    defined = {kind: set(config.get(kind, {})) for kind in used}

    assert used == defined


@pytest.mark.parametrize("path", COLLECTOR_CONFIGS, ids=lambda path: path.name)
def test_a_collector_file_has_no_deprecated_component(path: Path) -> None:
    config = read_yaml(path)

    deprecated = {
        name
        for kind, names in DEPRECATED_COMPONENTS.items()
        for name in config.get(kind, {})
        if name.split("/")[0] in names
    }

    assert deprecated == set()


@pytest.mark.parametrize("path", COLLECTOR_CONFIGS, ids=lambda path: path.name)
def test_the_memory_limiter_comes_first_in_a_collector_file(path: Path) -> None:
    pipelines = read_yaml(path)["service"]["pipelines"]

    assert {pipeline["processors"][0] for pipeline in pipelines.values()} == {"memory_limiter"}


@pytest.mark.parametrize("path", COLLECTOR_CONFIGS, ids=lambda path: path.name)
def test_a_collector_file_listens_on_this_machine_unless_told_otherwise(path: Path) -> None:
    endpoints = re.findall(r"^\s+endpoint: (\S+):\d+$", path.read_text(), re.MULTILINE)

    assert set(endpoints) == {"${env:LISTEN_HOST:-127.0.0.1}"}


# ── the compose file of the tests ───────────────────────────────────────────────────────────────


def test_the_tests_ask_services_at_the_ports_that_they_publish() -> None:
    published = {
        name: {port.removeprefix("127.0.0.1:").split(":")[0] for port in service.get("ports", [])}
        for path in (COMPOSE, E2E_COMPOSE)
        for name, service in read_yaml(path)["services"].items()
        if "ports" in service
    }

    asked = re.findall(r"OTEL_AUDIT_E2E_([A-Z_]+)=http://127\.0\.0\.1:(\d+)", E2E_SCRIPT.read_text())

    named = {name.lower().replace("_", "-"): port for name, port in asked}
    assert named.keys() == {"collector", "jaeger", "to-file", "gateway", "kafka-in", "kafka-out"}
    assert {name for name, port in named.items() if port not in published[name]} == set()


def test_the_compose_file_of_the_tests_takes_what_they_tell_and_the_collector_of_the_demo() -> None:
    services = read_yaml(E2E_COMPOSE)["services"]
    wanted = set(re.findall(r"\$\{(\w+)", E2E_COMPOSE.read_text()))
    configs = "".join(path.read_text() for path in COLLECTOR_CONFIGS)

    assert wanted - set(re.findall(r"\$\{env:(\w+)", configs)) == {"E2E_USER", "E2E_FOLDER", "E2E_OVERRIDE"}
    assert {service["image"] for service in services.values() if "image" in service} == {
        compose()["services"]["collector"]["image"]
    }


# ── continuous integration and documents ────────────────────────────────────────────────────────


def test_the_gate_is_an_executable_bash_script_without_syntax_errors() -> None:
    gate = ROOT / ".ci" / "run"

    checked = subprocess.run(["bash", "-n", str(gate)], capture_output=True, text=True, check=False)

    assert gate.stat().st_mode & stat.S_IXUSR
    assert gate.read_text().startswith("#!/usr/bin/env bash\n")
    assert checked.returncode == 0, checked.stderr


def test_every_dependency_is_documented_with_its_reason() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    documented = (ROOT / "docs" / "dependencies.md").read_text()
    required = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]

    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in required}  # type: ignore[index]

    assert [name for name in sorted(names) if f"`{name}" not in documented] == []
