"""The example's YAML: valid, kept in step with ours, and as odd as people's files are."""

from pathlib import Path

import kubernetes_validate
import pytest

from k8s.resources import ResourceSet, load_folder, read_resources

PROJECT = Path(__file__).resolve().parents[2]
DEPLOYMENT = PROJECT / "examples" / "emojivoto" / "deployment"
SERVICES = ("emoji", "voting", "web", "vote-bot")


@pytest.fixture(scope="module")
def resources() -> ResourceSet:
    return read_resources(load_folder([DEPLOYMENT]))


@pytest.mark.parametrize("version", ["1.28", "1.31"])
def test_every_document_is_valid_kubernetes(resources: ResourceSet, version: str) -> None:
    """The example is what people copy."""
    for file in resources.files:
        for document in file.documents:
            if document.data is not None:
                assert isinstance(document.data, dict)
                kubernetes_validate.validate(document.data, version, strict=True)


def test_the_coordinators_file_is_ours() -> None:
    """A second copy that is not held to the first goes its own way."""

    def lines(path: Path) -> list[str]:
        return [line.partition(" # ")[0] for line in path.read_text(encoding="utf-8").splitlines()]

    assert lines(DEPLOYMENT / "coordinator.yml") == lines(PROJECT / "k8s" / "coordinator.yml")


def test_the_story_finds_what_it_needs(resources: ResourceSet) -> None:
    assert {workload.name for workload in resources.confidential} == {*SERVICES, "coordinator"}
    assert [workload.name for workload in resources.coordinators] == ["coordinator"]
    replicas = {workload.name: workload.replicas for workload in resources.confidential}
    assert replicas == {"emoji": 2, "voting": 1, "web": 1, "vote-bot": 1, "coordinator": 1}
    secrets = {workload.name for workload in resources.confidential if workload.workload_secret_id}
    assert secrets == {"voting"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_pod_gives_up_what_it_does_not_need(resources: ResourceSet, name: str) -> None:
    (workload,) = [found for found in resources.confidential if found.name == name]
    pod = workload.pod_spec
    assert pod["enableServiceLinks"] is pod["automountServiceAccountToken"] is False
    (container,) = workload.items(*workload.pod_path, "containers")
    security = container["securityContext"]
    assert isinstance(security, dict)
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["runAsUser"] == 65532
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_the_files_are_odd_enough() -> None:
    """Insertion is tried out on them: several documents, comments, quotes, flow style, line ends of Windows."""
    raw = {path.name: path.read_bytes() for path in DEPLOYMENT.glob("*.yml")}
    assert raw["vote-bot.yml"].count(b"\r\n") == raw["vote-bot.yml"].count(b"\n")
    assert b"{name: emoji, labels: {app: emoji}}" in raw["emoji.yml"]
    assert raw["voting.yml"].startswith(b"---")
    assert raw["voting.yml"].endswith(b"...\n")
    assert raw["web.yml"].index(b"spec: #") < raw["web.yml"].rindex(b"metadata:")
    assert b"runtimeClassName" not in raw["operations.yml"]
