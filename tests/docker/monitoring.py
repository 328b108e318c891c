"""What is written for Prometheus and Grafana, held against the real Prometheus: promtool, and the dashboard's queries
over what it has scraped. Each step says what it counted."""

import json
from collections import Counter
from typing import Any

from tests.deploy.expressions import queries
from tests.docker.engine import PROJECT, ROOT, Project, docker

__all__ = ["ask", "check", "fire"]

IMAGE = f"{PROJECT}-prometheus"
# They show what may never have happened.
QUIET = {"Alerts", "Refusals by reason", "Versions refused, by reason"}
# In a container on the deployment's network, where nothing is published: an answer of Prometheus for each expression.
ASK = """
import json, sys, urllib.error, urllib.parse, urllib.request
answers = []
for expression in json.loads(sys.argv[1]):
    query = urllib.parse.urlencode({"query": expression}).encode()
    try:
        with urllib.request.urlopen("http://prometheus:9090/api/v1/query", query, timeout=30) as answer:
            answers.append(json.load(answer))
    except urllib.error.HTTPError as error:
        answers.append(json.load(error))
print(json.dumps(answers))
"""


def check(_: Project) -> str:
    """promtool accepts the configuration and every rule."""
    said = _promtool("check", "config", "deploy/prometheus/prometheus.yml")
    assert "SUCCESS" in said
    return said.split("SUCCESS: ")[-1].strip()


def fire(_: Project) -> str:
    """promtool's unit tests of the rules: each alert fires when it has to, and not before."""
    assert "SUCCESS" in _promtool("test", "rules", "tests/deploy/rules_test.yml")
    return f"{(ROOT / 'tests/deploy/rules_test.yml').read_text().count('eval_time')} moments as expected"


def ask(project: Project) -> str:
    """Prometheus understands every query of the dashboard, and has numbers for every panel that does not wait for a
    failure."""
    asked = list(queries())
    container = project.containers("service")[0]
    expressions = json.dumps([query.expression for query in asked])
    answers = json.loads(docker("exec", container, "python3", "-c", ASK, expressions))
    refused = [(query, answer["error"]) for query, answer in zip(asked, answers, strict=True) if "error" in answer]
    assert not refused, refused
    found = {query.panel: 0 for query in asked} | Counter(
        query.panel for query, answer in zip(asked, answers, strict=True) if _has_numbers(answer)
    )
    empty = {panel for panel, count in found.items() if not count}
    assert empty <= QUIET, f"no numbers for {sorted(empty - QUIET)}"
    return f"{len(asked)} queries understood, numbers for {len(found) - len(empty)} of {len(found)} panels"


def _has_numbers(answer: Any) -> bool:
    return any(sample["value"][1] != "NaN" for sample in answer["data"]["result"])


def _promtool(*arguments: str) -> str:
    """What it prints, over deploy/ and tests/."""
    key = ROOT / "deploy/secrets/none"
    mounts = [f"{ROOT / name}:/repository/{name}:ro" for name in ("deploy", "tests")]
    volumes = [part for mount in (*mounts, f"{key}:/run/secrets/metrics_key:ro") for part in ("-v", mount)]
    command = ["run", "--rm", *volumes, "-w", "/repository", "--entrypoint", "promtool", IMAGE, *arguments]
    return docker(*command, timeout=600)
