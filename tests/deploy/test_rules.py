"""The rules beside what explains and tests them; `make docker-test` has promtool try each alert."""

import re
from collections import Counter

from service.settings import Settings
from tests.deploy.expressions import PROMETHEUS, ROOT, read, rules

ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
PAGE = "docs/deploy.md"
EXPECTED = re.compile(r'alertname="(\w+)"')


def test_every_alert_says_what_is_so_and_where_it_is_explained() -> None:
    headings = set(re.findall(r"^#+ (.+)$", (ROOT / PAGE).read_text(), re.MULTILINE))
    for name, rule in ALERTS.items():
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, name
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert rule["annotations"]["runbook"] == f"{PAGE}#{name.lower()}"
        assert name in headings, f"{PAGE} has no section {name}"
    assert not {heading for heading in headings if heading.startswith("Diabolo")} - set(ALERTS)


def test_every_alert_is_tried_where_it_has_to_fire_and_where_it_must_not() -> None:
    fires: Counter[str] = Counter()
    rests: Counter[str] = Counter()
    for test in read(ROOT / "tests" / "deploy" / "rules_test.yml")["tests"]:
        moments = [set(EXPECTED.findall(str(moment["exp_samples"]))) for moment in test["promql_expr_test"]]
        for name in set().union(*moments):
            fires[name] += sum(name in moment for moment in moments)
            rests[name] += sum(name not in moment for moment in moments)
    assert set(fires) == set(ALERTS)
    assert {name for name in ALERTS if not rests[name]} == set()


def test_each_replica_is_scraped_itself_on_the_port_that_the_service_has() -> None:
    configuration = read(PROMETHEUS / "prometheus.yml")
    (job,) = [job for job in configuration["scrape_configs"] if job["job_name"] == "diabolo"]
    (found,) = job["dns_sd_configs"]
    services = read(ROOT / "docker-compose.yml")["services"]
    assert found["type"] == "A"
    assert set(found["names"]) <= set(services)
    assert found["port"] == Settings().port == int(services["proxy"]["ports"][0].rpartition(":")[2])
    assert "static_configs" not in job
    assert (PROMETHEUS / configuration["rule_files"][0]).is_file()


def test_the_proxy_tells_prometheus_alone_what_clients_hear() -> None:
    configuration = read(PROMETHEUS / "prometheus.yml")
    (job,) = [job for job in configuration["scrape_configs"] if job["job_name"] == "proxy"]
    (name, port) = job["static_configs"][0]["targets"][0].split(":")
    proxy = read(ROOT / "docker-compose.yml")["services"][name]
    published = [address.rpartition(":")[2] for address in proxy["ports"]]
    assert port not in published
    sections = re.split(r"\n(?=\w)", (ROOT / "deploy" / "proxy" / "haproxy.cfg").read_text())
    (exporter,) = [section for section in sections if "prometheus-exporter" in section]
    assert re.findall(r"^    bind (\S+)", exporter, re.MULTILINE) == [f":{port}"]
    assert "if { path /metrics }" in exporter
    assert "inside" in proxy["networks"]


def test_the_key_that_prometheus_uses_is_one_of_its_secrets() -> None:
    job = read(PROMETHEUS / "prometheus.yml")["scrape_configs"][0]
    (secret,) = read(ROOT / "docker-compose.yml")["services"]["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
