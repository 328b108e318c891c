"""What docker-compose.yml and the Dockerfiles promise, told by reading them; `make docker-test` runs them."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from service.supervisor import LATE_SECONDS

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCUMENT: dict[str, Any] = yaml.safe_load(COMPOSE)
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
ONCE = {"seed", "train"}  # run to their end
DOCKERFILES = [Path("Dockerfile"), Path("deploy/proxy/Dockerfile"), Path("deploy/prometheus/Dockerfile")]
PROXY = (ROOT / "deploy/proxy/haproxy.cfg").read_text()
PAGE = (ROOT / "docs/deploy.md").read_text()
# What docker-compose 1.29 or Docker 20.10's own builder do not know.
TOO_NEW = re.compile(
    r"^#\s*syntax|--mount=|--link\b|--chmod|--start-interval|<<-?['\"]?\w+", re.MULTILINE | re.IGNORECASE
)
TOO_NEW_FOR_COMPOSE = {"name", "include", "version", "develop", "configs"}


def default(value: object) -> str:
    """A value of docker-compose.yml where no variable is set."""
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(value))


def seconds(value: object) -> float:
    """A duration such as 40s."""
    found = re.fullmatch(r"(\d+)(s|m|h)", str(value))
    assert found, value
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def instructions(dockerfile: Path, name: str) -> list[str]:
    """The arguments of each instruction of that name, in order; lines that go on are joined."""
    text = re.sub(r"\\\n", " ", (ROOT / dockerfile).read_text())
    return re.findall(rf"^{name}\s+(.*)$", text, re.MULTILINE)


def user(name: str) -> str:
    """Who the processes of a service are."""
    service = SERVICES[name]
    if "user" in service:
        return str(service["user"])
    return instructions(Path(service["build"]["context"], "Dockerfile"), "USER")[-1]


def setting(name: str) -> Any:
    """What docker-compose.yml sets, as the service reads it."""
    environment = SERVICES["service"]["environment"]
    values = {key.removeprefix("DIABOLO_").lower(): default(value) for key, value in environment.items()}
    return getattr(Settings.model_validate(values), name)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=str)
def test_old_builders_understand_each_dockerfile(dockerfile: Path) -> None:
    assert not TOO_NEW.findall((ROOT / dockerfile).read_text())


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=str)
def test_processes_are_started_without_a_shell_and_never_by_root(dockerfile: Path) -> None:
    for started in instructions(dockerfile, "ENTRYPOINT") + instructions(dockerfile, "CMD"):
        assert isinstance(json.loads(started), list)
    assert re.fullmatch(r"[1-9]\d*(:\d+)?", instructions(dockerfile, "USER")[-1])


def test_images_say_what_they_are() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    labels = dict(
        re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]*)"', " ".join(instructions(DOCKERFILES[0], "LABEL")))
    )
    assert labels["version"] == version
    assert {"title", "description", "licenses", "revision", "source", "base.name"} <= set(labels)


def test_targets_are_there_and_the_service_is_what_is_built_where_none_is_named() -> None:
    stages = [stage.split()[-1] for stage in instructions(DOCKERFILES[0], "FROM")]
    assert {"service", "slim", "train"} <= set(stages)
    assert stages[-1] == "service"


def test_the_build_gets_exactly_the_files_that_it_copies() -> None:
    copied = {
        source
        for line in instructions(DOCKERFILES[0], "COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=str)
def test_what_is_copied_into_an_image_can_be_read_by_its_user_whatever_the_umask_of_the_checkout(
    dockerfile: Path,
) -> None:
    kept = [
        line.split()[-1]
        for line in instructions(dockerfile, "COPY")
        if not line.startswith("--from") and not line.split()[-1].startswith("/build/")
    ]
    made = " ".join(instructions(dockerfile, "RUN"))
    assert kept or dockerfile.parent.name == "prometheus"
    assert [path for path in kept if not re.search(rf"chmod 644 ([^&]* )?{re.escape(path)}( |$)", made)] == []


def test_no_two_services_build_an_image_of_one_name() -> None:
    (slim,) = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    overrides: tuple[dict[str, Any], ...] = ({}, slim["services"])
    for override in overrides:
        merged = {name: service | override.get(name, {}) for name, service in SERVICES.items()}
        names = [default(service["image"]) for service in merged.values() if "build" in service]
        assert len(names) > 5
        assert sorted(set(names)) == sorted(names), "compose v2 builds them at the same time, and refuses the second"


def test_images_get_the_torch_that_the_dockerfile_names_where_no_variable_is_set() -> None:
    arguments = set(instructions(DOCKERFILES[0], "ARG"))
    assert {f"{name}={default(value)}" for name, value in DOCUMENT["x-torch"].items()} <= arguments


def test_the_torch_of_the_images_is_audited_beside_the_locks_which_do_not_name_it() -> None:
    run = ["make", "--dry-run", "audit"]
    said = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    ((program, file),) = re.findall(r"(sed .*? Dockerfile) > (\S+)", said)
    listed = subprocess.run(["sh", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True)
    assert listed.stdout == f"torch=={default(DOCUMENT['x-torch']['TORCH_VERSION'])}\n"
    assert f" {file};" in said


def test_every_variable_is_explained_at_the_top_and_nothing_else_is() -> None:
    top = re.match(r"(#.*\n)+", COMPOSE)
    assert top
    explained = [name for names in re.findall(r"^#   ([A-Z_, ]+) ", top[0], re.MULTILINE) for name in names.split(", ")]
    assert sorted(name.strip() for name in explained) == sorted(set(re.findall(r"\$\{(\w+)", COMPOSE)))


def test_compose_files_of_old_and_new_are_understood_and_need_no_variable() -> None:
    assert not TOO_NEW_FOR_COMPOSE & set(DOCUMENT)
    variables = re.findall(r"(?<!\$)\$\{?\w+(\S{2})", COMPOSE)
    assert len(variables) > 20
    assert set(variables) == {":-"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_kept_within_bounds(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(service)
    assert re.fullmatch(r"[1-9]\d*(:\d+)?", user(name))
    assert service["pids_limit"] > 0
    assert float(default(service["cpus"])) > 0
    assert re.fullmatch(r"\d+[mg]", default(service["mem_limit"]))


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_goes_on_says_whether_it_is_well_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    if name in ONCE:
        assert service["healthcheck"] == {"disable": True}
        assert service["restart"] == "no"
        return
    assert service["healthcheck"]["test"][0] == "CMD"
    assert "curl" not in str(service["healthcheck"]["test"])
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_folders_of_the_host_are_only_read(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, *_, mode = volume.split(":")
        assert source in DOCUMENT["volumes"] or mode == "ro", volume
        assert source in DOCUMENT["volumes"] or (ROOT / source).exists(), volume


def test_only_the_proxy_publishes_a_port_and_replicas_reach_nothing_outside() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    (port,) = SERVICES["proxy"]["ports"]
    assert default(port) == "127.0.0.1:8000:8000"
    assert DOCUMENT["networks"]["inside"] == {"internal": True}
    networks = {name: list(service.get("networks", [])) for name, service in SERVICES.items()}
    assert {name for name, joined in networks.items() if "outside" in joined} == {"proxy", "train"}
    assert networks["service"] == networks["service-gpu"] == ["inside"]
    assert SERVICES["seed"]["network_mode"] == "none"


def test_there_is_time_to_drain() -> None:
    drain = setting("drain_delay") + 2 * setting("drain_seconds") + LATE_SECONDS
    assert seconds(SERVICES["service"]["stop_grace_period"]) > drain
    assert seconds(SERVICES["service-gpu"]["stop_grace_period"]) > drain
    (hard_stop,) = re.findall(r"hard-stop-after (\S+)", PROXY)
    assert seconds(SERVICES["proxy"]["stop_grace_period"]) > seconds(hard_stop) > setting("drain_seconds")


def test_the_proxy_knows_that_a_replica_leaves_before_it_takes_no_connection() -> None:
    (interval, fall) = re.findall(r"check inter (\S+) fall (\d+)", PROXY)[0]
    assert setting("drain_delay") > seconds(interval) * int(fall)


def test_times_that_the_proxy_has_the_other_half_of_are_not_set_by_variables() -> None:
    for name in ("service", "service-gpu"):
        environment = SERVICES[name]["environment"]
        for half in ("REQUEST_TIMEOUT_MS", "DRAIN_DELAY", "DRAIN_SECONDS"):
            assert isinstance(environment[f"DIABOLO_{half}"], int), "a constant, as haproxy.cfg has them"
        assert "DIABOLO_RECEIVE_SECONDS" not in environment


def test_the_proxy_waits_longer_than_the_service_may_take() -> None:
    (server,) = re.findall(r"^    timeout server (\S+)", PROXY, re.MULTILINE)
    assert seconds(server) > setting("request_timeout_ms") / 1000 > 0
    (longer,) = re.findall(r"if \{ req\.hdr_val\(Request-Timeout-Ms\) gt (\d+) \}", PROXY)
    assert int(longer) == setting("request_timeout_ms"), "who asks for more than that is given more"
    (head,) = re.findall(r"timeout http-request (\S+)", PROXY)
    assert seconds(head) == setting("receive_seconds")


def test_what_the_service_writes_lies_in_a_volume_or_in_memory() -> None:
    service = SERVICES["service"]
    assert f"state:{setting('state_dir')}" in service["volumes"]
    assert str(setting("metrics_dir")) in [mount.split(":")[0] for mount in service["tmpfs"]]
    assert "/tmp" in [mount.split(":")[0] for mount in service["tmpfs"]]
    assert "models:/models:ro" in service["volumes"]
    made = " ".join(instructions(DOCKERFILES[0], "RUN"))
    assert {"/models", "/state", "/runs", "/data"} <= set(made[made.index("install -d -o diabolo") :].split())


def test_every_variable_that_is_set_for_the_service_is_one() -> None:
    for name in ("service", "service-gpu"):
        names = {key for key in SERVICES[name]["environment"] if key.startswith("DIABOLO_")}
        assert {key.removeprefix("DIABOLO_").lower() for key in names} <= set(Settings.model_fields)


def test_a_gpu_replica_answers_to_the_name_that_the_proxy_asks_for() -> None:
    assert SERVICES["service-gpu"]["networks"]["inside"]["aliases"] == ["service"]
    assert " service:8000 " in PROXY
    assert {name: service.get("profiles") for name, service in SERVICES.items() if "profiles" in service} == {
        "service-gpu": ["gpu"],
        "train": ["train"],
        "prometheus": ["observability"],
        "grafana": ["observability"],
    }


@pytest.mark.parametrize(("password", "code", "said"), [("", 1, ""), ("secret", 0, "started")])
def test_grafana_starts_with_a_password_of_its_own_alone(password: str, code: int, said: str) -> None:
    command = [part.replace("$$", "$").replace("/run.sh", "echo started") for part in SERVICES["grafana"]["entrypoint"]]
    environment = {"GF_SECURITY_ADMIN_PASSWORD": password}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (code, said)
    assert ("GRAFANA_PASSWORD is not set" in ended.stderr) == bool(code)


def test_the_proxy_passes_nobody_on_to_a_grafana_without_a_password() -> None:
    environment = {name: SERVICES[name]["environment"] for name in ("grafana", "proxy")}
    assert environment["grafana"]["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_PASSWORD:-}"
    assert environment["proxy"]["GRAFANA_PASSWORD"] == "${GRAFANA_PASSWORD:-}"
    (condition,) = re.findall(r"use_backend grafana if (.*)", PROXY)
    assert "{ env(GRAFANA_PASSWORD) -m len gt 0 }" in condition
    assert " or " not in condition
    assert "default_backend service" in PROXY


def test_grafana_fetches_nothing_when_it_starts() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    assert {value for name, value in environment.items() if name.startswith("GF_ANALYTICS_")} == {"false"}
