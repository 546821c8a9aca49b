"""What the dashboard and the alerts ask is what a real scrape of the API and of a worker has."""

import json
import re
import urllib.request
from datetime import timedelta

import httpx
import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, update
from structlog.testing import capture_logs

from app.core import queue
from app.core.db import session_scope
from app.plans.tables import Plan
from app.webhooks.tables import DeliveryState
from tests.conftest import Live, checkout, free_port
from tests.workers.conftest import queue_plan
from workers import metrics
from workers.desk import Desk
from workers.leases import Leases
from workers.metrics import serve_metrics

DEPLOY = checkout() / "deploy"
OF_WORKERS = {"patchplan_forwards_total", "patchplan_forward_tiles", "patchplan_work_done_total"}


def expressions() -> list[str]:
    panels = json.loads((DEPLOY / "grafana" / "patchplan.json").read_text())["panels"]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())["groups"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return asked + [rule["expr"] for group in rules for rule in group["rules"]]


def scrape(text: str) -> dict[str, list[dict[str, str]]]:
    """Labels of the samples by the sample's name."""
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def value(client: TestClient, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    raise AssertionError(f"{name}{labels} was not exposed")


def test_every_metric_and_label_that_is_asked_for_is_exposed(client: TestClient, plan_desk: Desk) -> None:
    queue_plan(client)
    queue.send("plans")
    plan_desk.work()
    # one process here, so that a scrape has what API and workers have
    exposed = scrape(client.get("/metrics").text)
    asked = expressions()
    assert len(asked) > 30
    for expression in asked:
        names = re.findall(r"\bpatchplan_\w+", expression)
        assert names, expression
        assert set(names) <= exposed.keys(), expression
        for name, matchers in re.findall(r"\b(patchplan_\w+)\{([^}]*)\}", expression):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', matchers)))
            assert labels <= set().union(*exposed[name]), expression
        grouped = {
            label for each in re.findall(r"\bby \(([^)]*)\)", expression) for label in each.split(", ")
        }
        assert grouped <= {label for name in names for one in exposed[name] for label in one}, expression


def test_statuses_states_and_tables_that_are_asked_for_exist(client: TestClient) -> None:
    exposed = scrape(client.get("/metrics").text)
    for expression in expressions():
        for name, matchers in re.findall(
            r"\b(patchplan_work_rows|patchplan_webhook_\w+)\{([^}]*)\}", expression
        ):
            for label, wanted in re.findall(r'(\w+)!?="([^"]*)"', matchers):
                assert wanted in {one[label] for one in exposed[name]}, expression


def test_the_dashboards_datasource_is_chosen_where_it_is_opened() -> None:
    board = json.loads((DEPLOY / "grafana" / "patchplan.json").read_text())
    assert [one["type"] for one in board["templating"]["list"]] == ["datasource"]
    for panel in board["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_alerts_say_what_is_wrong() -> None:
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())["groups"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"])
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert {"summary", "description"} == rule["annotations"].keys()


def test_a_worker_serves_its_own_metrics() -> None:
    port = free_port()
    serve_metrics(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert all(f"# TYPE {name} " in text for name in OF_WORKERS)
    assert {
        next(iter(one.describe())).name
        for one in (metrics.FORWARDS, metrics.WORK_DONE, metrics.FORWARD_ITEMS)
    } == {name.removesuffix("_total") for name in OF_WORKERS}


def test_a_second_worker_of_the_address_works_on_without() -> None:
    port = free_port()
    serve_metrics(port)
    with capture_logs() as lines:
        serve_metrics(port)
        serve_metrics(None)
    assert [line["event"] for line in lines] == ["metrics_not_served"]


def test_work_waits_until_a_worker_holds_it(client: TestClient, leases: Leases) -> None:
    def oldest() -> float:
        return value(client, "patchplan_work_oldest_seconds", table="plans")

    assert oldest() == 0
    queue_plan(client)
    hour = timedelta(hours=1)
    with session_scope() as session:
        session.execute(update(Plan).values(created_at=func.clock_timestamp() - hour))
    assert oldest() == pytest.approx(3600, abs=60)
    leases.take(Plan, 1)
    assert oldest() == 0
    # its worker died
    with session_scope() as session:
        session.execute(update(Plan).values(lease_expires_at=func.clock_timestamp() - timedelta(seconds=1)))
    assert oldest() == pytest.approx(3600, abs=60)


def test_webhooks_are_counted_by_state(client: TestClient) -> None:
    for state in DeliveryState:
        assert value(client, "patchplan_webhook_deliveries", state=state) == 0
    assert value(client, "patchplan_webhook_overdue_seconds") == 0


def test_parts_that_answer_are_told_from_those_that_do_not(client: TestClient) -> None:
    assert value(client, "patchplan_part_up", part="database") == 1
    assert value(client, "patchplan_part_up", part="worker") == 0


def test_the_api_of_a_running_service_has_all_but_the_workers_own(live: Live) -> None:
    answer = httpx.get(f"{live.url}/metrics", timeout=30)
    types = set(re.findall(r"^# TYPE (patchplan_\w+)", answer.text, re.MULTILINE))
    asked = {name for each in expressions() for name in re.findall(r"\bpatchplan_\w+", each)}
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert bases - OF_WORKERS <= types
    assert not OF_WORKERS & types
    assert 'patchplan_part_up{part="worker"} 1.0' in answer.text
