"""The Kubernetes manifests against the code and the image: no cluster is needed, and none is asked.

Against Kubernetes' own schemas they were checked by hand (docs/operations.md): the package of them is 108 MB.
"""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from app.core.db import sqlalchemy_url
from app.core.settings import Settings
from tests.conftest import checkout
from tests.test_containers import OF_OTHERS, commands, compose, ending, routes, runs, variables

FOLDER = checkout() / "deploy" / "kubernetes"
PODS = ("patchplan-api", "patchplan-worker", "patchplan-trainer", "patchplan-migrate")
LIVING = PODS[:3]
# what uvicorn and a worker take to end: patchplan/cli.py, docs/operations.md
API_ENDS_S, WORKER_ENDS_S = 5, 40


def documents(*names: str) -> list[dict[str, Any]]:
    return [one for name in names for one in yaml.safe_load_all((FOLDER / name).read_text())]


def kustomization() -> dict[str, Any]:
    (found,) = documents("kustomization.yaml")
    return found


def applied() -> dict[tuple[str, str], dict[str, Any]]:
    found = documents(*kustomization()["resources"])
    named = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(named) == len(found)
    return named


def workload(name: str) -> dict[str, Any]:
    (found,) = [one for (_, called), one in applied().items() if called == name and "template" in one["spec"]]
    return found


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = workload(name)["spec"]["template"]["spec"]
    return found


def container(name: str) -> dict[str, Any]:
    (found,) = pod(name)["containers"]
    return dict(found)


def settings() -> dict[str, str]:
    found: dict[str, str] = applied()["ConfigMap", "patchplan-settings"]["data"]
    return found


def test_every_manifest_is_applied_but_the_examples() -> None:
    there = {path.name for path in FOLDER.glob("*.yaml")}
    assert there == {*kustomization()["resources"], "kustomization.yaml", "secret.example.yaml"}
    assert not any(kind == "Secret" for kind, _ in applied())
    for one in applied().values():
        assert one["metadata"]["labels"]["app.kubernetes.io/name"] == "patchplan"


def test_settings_are_settings_there_are() -> None:
    (secret,) = documents("secret.example.yaml")
    given = {**settings(), **secret["stringData"]}
    assert secret["metadata"]["namespace"] == kustomization()["namespace"]
    assert ("Namespace", kustomization()["namespace"]) in applied()
    assert all(isinstance(value, str) for value in given.values())
    assert {name for name in given if not name.startswith(OF_OTHERS)} <= variables()
    ours = {name.removeprefix("PATCHPLAN_").lower(): value for name, value in given.items()}
    read = Settings.model_validate({name: ours[name] for name in ours.keys() & Settings.model_fields.keys()})
    assert sqlalchemy_url(str(read.database_url))
    # pods share no disk
    assert urlsplit(str(read.store_url)).scheme in ("s3", "gs", "az")
    assert not {"PATCHPLAN_DATABASE_URL", "PATCHPLAN_BROKER_URL"} & settings().keys()


@pytest.mark.parametrize("name", PODS)
def test_a_pod_runs_a_command_of_the_image_as_its_user(name: str) -> None:
    program, command, *_ = container(name)["command"]
    assert program == "patchplan"
    assert command in commands()
    image, _, target = container(name)["image"].partition(":")
    assert image in {one["name"] for one in kustomization()["images"]}
    security = pod(name)["securityContext"]
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == ending(target, "USER")
    assert (security["runAsNonRoot"], security["fsGroup"]) == (True, security["runAsGroup"])
    inside = container(name)["securityContext"]
    assert inside == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("name", PODS)
def test_a_pod_reads_the_settings_and_no_others(name: str) -> None:
    maps = container(name)["envFrom"]
    assert [one[kind]["name"] for one in maps for kind in one] == ["patchplan-settings", "patchplan-secrets"]
    # a Service named patchplan would set PATCHPLAN_PORT to a URL
    assert pod(name)["enableServiceLinks"] is False
    assert pod(name)["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", PODS)
def test_a_pod_writes_where_the_containers_do(name: str) -> None:
    mounts = {one["name"]: one["mountPath"] for one in container(name)["volumeMounts"]}
    assert mounts == {"data": ending("cpu", "VOLUME"), "tmp": compose()["services"]["api"]["tmpfs"][0]}
    assert {one["name"] for one in pod(name)["volumes"]} == set(mounts)
    assert all(one["emptyDir"]["sizeLimit"] for one in pod(name)["volumes"])


@pytest.mark.parametrize("name", PODS)
def test_a_pod_says_what_it_needs(name: str) -> None:
    needs = container(name)["resources"]
    assert {"cpu", "memory"} <= needs["requests"].keys()
    assert "memory" in needs["limits"]


def test_the_kinds_of_worker_are_those_of_the_containers() -> None:
    services = compose()["services"]
    for name in ("api", "worker", "trainer", "migrate"):
        assert container(f"patchplan-{name}")["command"] == services[name]["command"]


@pytest.mark.parametrize("name", LIVING)
def test_ports_agree(name: str) -> None:
    (port,) = container(name)["ports"]
    api = name == "patchplan-api"
    wanted = ending("cpu", "EXPOSE") if api else settings()["PATCHPLAN_WORKER_METRICS_PORT"]
    assert port["containerPort"] == int(wanted)
    notes = workload(name)["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/port"] == str(port["containerPort"])
    assert notes["prometheus.io/path"] == "/metrics"
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        if "httpGet" in container(name)[kind]:
            assert container(name)[kind]["httpGet"]["port"] == port["name"]
            # a worker answers on its port whatever is asked
            assert container(name)[kind]["httpGet"]["path"] in (routes() if api else {"/metrics"})


def test_the_service_finds_the_api() -> None:
    service, budget = (applied()[kind, "patchplan-api"] for kind in ("Service", "PodDisruptionBudget"))
    labels = workload("patchplan-api")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == labels
    (port,) = container("patchplan-api")["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    # one may go, or a node could never be emptied
    assert workload("patchplan-api")["spec"]["replicas"] > budget["spec"]["minAvailable"]


@pytest.mark.parametrize("name", LIVING)
def test_a_workload_selects_its_own_pods(name: str) -> None:
    spec = workload(name)["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    component = spec["selector"]["matchLabels"]["app.kubernetes.io/component"]
    assert name == f"patchplan-{component}"


def test_the_api_is_asked_nothing_that_its_parts_answer() -> None:
    # with /readyz a broker that is away would take every API out of the Service at once
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container("patchplan-api")[kind]["httpGet"]["path"] == "/healthz"


@pytest.mark.parametrize("name", ["worker", "trainer"])
def test_a_worker_is_ready_when_it_hears_and_alive_without(name: str) -> None:
    probes = container(f"patchplan-{name}")
    python, option, code = probes["readinessProbe"]["exec"]["command"]
    assert (python, option) == ("python", "-c")
    runs(code)
    # the very check of the containers
    check = compose()["services"][name]["healthcheck"]["test"]
    assert code.split() == check[3].split()
    assert "exec" not in probes["livenessProbe"]


def test_pods_end_in_time() -> None:
    drained = container("patchplan-api")["lifecycle"]["preStop"]["exec"]["command"]
    assert drained[0] == "sleep"
    assert pod("patchplan-api")["terminationGracePeriodSeconds"] > int(drained[1]) + API_ENDS_S
    for name in ("patchplan-worker", "patchplan-trainer"):
        grace = pod(name)["terminationGracePeriodSeconds"]
        assert grace > max(WORKER_ENDS_S, float(settings()["PATCHPLAN_LEASE_S"]))


def test_gpus_are_an_option_of_both_kinds_of_worker() -> None:
    (component,) = documents("gpu/kustomization.yaml")
    assert component["kind"] == "Component"
    assert "components" not in kustomization()
    (patch,) = component["patches"]
    for name in LIVING:
        found = re.fullmatch(patch["target"]["name"], name)
        assert (found is not None) == (name != "patchplan-api")
    steps = {step["path"]: step["value"] for step in yaml.safe_load(patch["patch"])}
    assert steps["/spec/template/spec/containers/0/image"] == "patchplan:cuda"
    assert steps["/spec/template/spec/containers/0/resources/limits/nvidia.com~1gpu"] == "1"
