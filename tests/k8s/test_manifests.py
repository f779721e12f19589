"""Our own resources and images keep their promises."""

import ast
import re
from pathlib import Path

import kubernetes_validate
import pytest

from k8s.inject import InjectionSettings, injection_edits
from k8s.nodes import Data
from k8s.resources import Workload, read_resources
from k8s.yamlfile import YamlFile

PROJECT = Path(__file__).resolve().parents[2]
COORDINATOR = PROJECT / "k8s" / "coordinator.yml"
VERSIONS = ("1.25", "1.28", "1.31", "1.34", "1.37")


def coordinator_file() -> YamlFile:
    return YamlFile.parse("coordinator.yml", COORDINATOR.read_bytes())


def coordinator() -> Workload:
    (workload,) = read_resources([coordinator_file()]).coordinators
    return workload


@pytest.mark.parametrize("version", VERSIONS)
def test_the_coordinators_resources_are_valid_in_every_supported_kubernetes(version: str) -> None:
    """A misspelt field is ignored by some clusters and refused by others."""
    kinds = []
    for document in coordinator_file().documents:
        data = document.data
        assert isinstance(data, dict)
        kubernetes_validate.validate(data, version, strict=True)
        kinds.append(f"{data['kind']} {data['metadata']['name']}")  # type: ignore[call-overload,index]
    assert kinds == [
        "ServiceAccount coordinator",
        "StatefulSet coordinator",
        "Service coordinator",
        "Service coordinator-ready",
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_injected_deployment_stays_valid(version: str) -> None:
    """What generate writes must be accepted by the cluster it is written for."""
    text = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n"
        "spec:\n  selector:\n    matchLabels: {app: web}\n"
        "  template:\n    metadata:\n      labels: {app: web}\n    spec:\n      runtimeClassName: contrast-cc\n"
        "      containers:\n      - name: web\n        image: i\n"
    )
    file = YamlFile.parse("web.yml", text.encode())
    (workload,) = read_resources([file]).confidential
    raw = file.apply(injection_edits(workload, InjectionSettings(initializer_image="i"), "cA=="))
    kubernetes_validate.validate(YamlFile.parse("web.yml", raw).documents[0].data, version, strict=True)


def test_the_coordinator_has_no_rights_and_no_place_to_lose_a_ledger_in() -> None:
    """It trusts neither the Kubernetes API nor the host's file systems."""
    workload = coordinator()
    pod = workload.pod_spec
    container = workload.items(*workload.pod_path, "containers")[0]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert "volumes" not in pod
    context = container["securityContext"]
    assert isinstance(context, dict)
    assert context["readOnlyRootFilesystem"] is context["runAsNonRoot"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}  # type: ignore[call-overload,index]
    assert container["volumeDevices"] == [{"name": "ledger", "devicePath": "/dev/contrast-ledger"}]
    (claim,) = workload.items("spec", "volumeClaimTemplates")
    assert claim["spec"]["volumeMode"] == "Block"  # type: ignore[call-overload,index]
    assert container["command"] == ["contrast-coordinator"]


def test_services_and_probes_meet_the_ports_of_the_coordinator() -> None:
    """Readers must reach a Coordinator in recovery, workloads only one that can issue."""
    services = {service.name: service for service in read_resources([coordinator_file()]).services}
    assert services["coordinator"].get("spec", "publishNotReadyAddresses") is True
    assert services["coordinator-ready"].get("spec", "publishNotReadyAddresses") is None
    labels = coordinator().mapping("spec", "template", "metadata", "labels")
    for service in services.values():
        assert service.mapping("spec", "selector").items() <= labels.items()
        assert {port["port"] for port in service.items("spec", "ports")} == {1313, 7777}
    container = coordinator().items(*coordinator().pod_path, "containers")[0]
    probes: dict[str, Data] = {name: container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    for name, probe in probes.items():
        assert probe["httpGet"] == {"path": f"/probe/{name}", "port": 9102}  # type: ignore[call-overload,index]


@pytest.mark.parametrize("name", ["coordinator", "initializer"])
def test_an_image_holds_what_its_program_imports_and_installs_nothing_unpinned(name: str) -> None:
    """A package left out fails in the guest only; an unpinned one lets a registry choose what is trusted."""
    text = (PROJECT / "k8s" / f"Containerfile.{name}").read_text()
    copied = set(re.findall(r"^COPY (\w+) /opt/contrast/\1$", text, re.MULTILINE))
    packages = {folder.parent.name for folder in PROJECT.glob("*/__init__.py")}
    imported = {
        module.split(".")[0]
        for package in copied
        for source in (PROJECT / package).rglob("*.py")
        for node in ast.walk(ast.parse(source.read_text()))
        for module in ([node.module or ""] if isinstance(node, ast.ImportFrom) else
                       [alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
    }  # fmt: skip
    assert name in copied
    assert imported & packages <= copied
    assert f"COPY requirements/{name}.txt" in text
    assert (PROJECT / "requirements" / f"{name}.txt").is_file()
    assert "--require-hashes" in text
    assert text.count("pip install") == 1
    assert "ARG BASE\n" in text
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}
    assert "*@sha256:*" in text
    assert "PYTHONSAFEPATH=1" in text
    assert "\nUSER 65532:65532\n" in text
    assert f'ENTRYPOINT ["contrast-{name}"]' in text
    assert "\nVOLUME" not in text
