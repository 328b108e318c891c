"""What the replicas, the proxy and Prometheus say of themselves, asked inside the deployment's network."""

import json
import re
from typing import Any
from urllib.parse import quote

from tests.docker.engine import Project, docker, fetch, inspect

__all__ = [
    "addresses",
    "answered",
    "firing",
    "known",
    "megabytes",
    "prometheus",
    "retried",
    "scraped",
    "taken",
    "versions",
]


def megabytes(image: str) -> int:
    """The size of an image as `docker images` shows it."""
    return round(int(docker("image", "inspect", "-f", "{{.Size}}", image)) / 1e6)


def addresses(container: str) -> set[str]:
    """Where a container is in the networks that it is in."""
    return {network["IPAddress"] for network in inspect(container)["NetworkSettings"]["Networks"].values()}


def prometheus(project: Project, what: str) -> Any:
    """The data of an answer of Prometheus' own API."""
    return project.inside(f"http://prometheus:9090/api/v1/{what}")["data"]


def scraped(project: Project) -> set[str]:
    """The replicas that Prometheus could scrape last time, as address:port."""
    targets = prometheus(project, "targets?state=active")["activeTargets"]
    return {
        target["labels"]["instance"]
        for target in targets
        if target["labels"]["job"] == "diabolo" and target["health"] == "up"
    }


def known(project: Project, expression: str) -> bool:
    """True where Prometheus has something for the expression."""
    return bool(prometheus(project, f"query?query={quote(expression)}")["result"])


def firing(project: Project) -> set[str]:
    """The alerts that fire."""
    return {
        alert["labels"]["alertname"] for alert in prometheus(project, "alerts")["alerts"] if alert["state"] == "firing"
    }


def versions(project: Project, name: str) -> list[int]:
    """The version of a bundle that each replica answers with, and none of one that has not got the bundle."""
    found = (_ask(container, "/v1/models") for container in project.containers("service"))
    return [model["version"] for text in found for model in json.loads(text)["models"] if model["name"] == name]


def answered(container: str) -> int:
    """How many inference requests a replica has answered with success."""
    counts = re.findall(
        r'diabolo_http_requests_total\{method="POST",route="/v1/models/[^"]+",status="200"\} (\S+)',
        _ask(container, "/metrics"),
    )
    return int(sum(map(float, counts)))


def retried(project: Project) -> int:
    """How many requests the proxy has sent to another replica than the first."""
    return sum(line["retries"] != "0" for line in _proxy_log(project))


def taken(project: Project) -> set[str]:
    """The ids of all requests that have reached the proxy."""
    return {line["request_id"] for line in _proxy_log(project)}


def _proxy_log(project: Project) -> list[dict[str, Any]]:
    text = "".join(docker("logs", container) for container in project.containers("proxy", all_of_them=True))
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def _ask(container: str, path: str) -> str:
    return fetch(container, f"http://127.0.0.1:8000{path}")
