"""Who may import whom. The packages' independence is what lets an auditor trust a verifier that holds no server."""

import ast
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT

ALLOWED: dict[str, set[str]] = {
    "ledger": set(),
    "attestation": set(),
    "k8s": set(),
    "images": set(),
    "manifest": {"attestation"},
    "wire": {"attestation"},
    "policy": {"k8s", "images"},
    "coordinator": {"ledger", "attestation", "manifest", "wire"},
    "audit": {"ledger", "attestation", "manifest", "coordinator", "wire"},
    "initializer": {"wire", "attestation", "ledger"},
    "localnode": {"images", "policy", "k8s", "attestation"},
    "witness": {"ledger"},
    "cli": {
        "attestation",
        "audit",
        "coordinator",
        "images",
        "k8s",
        "ledger",
        "localnode",
        "manifest",
        "policy",
        "wire",
        "witness",
    },
}
"""Package -> which of ours it may import, besides itself."""

COORDINATOR_PURE = {
    "coordinator.ca",
    "coordinator.ca_rules",
    "coordinator.commands",
    "coordinator.decide",
    "coordinator.documents",
    "coordinator.epoch_rules",
    "coordinator.errors",
    "coordinator.events",
    "coordinator.keys",
    "coordinator.owner_rules",
    "coordinator.refusals",
    "coordinator.rules",
    "coordinator.state",
    "coordinator.times",
    "coordinator.workload_rules",
}
"""What of the Coordinator an auditor and the CLI may use: it opens no socket and no file."""

INITIALIZER_OF_LEDGER = {
    "ledger.checkpoint",
    "ledger.codec",
    "ledger.entry",
    "ledger.errors",
    "ledger.merkle",
    "ledger.note",
    "ledger.proof",
}
WIRE_OF_AUDIT = {"wire.extensions", "wire.sealing"}
"""An auditor reads certificates and recovery signatures; it speaks to nobody."""

SINGLE_PLACES: dict[str, set[str]] = {
    "lmdb": {"ledger/lmdb_store.py", "ledger/witness_store.py"},
    "msgpack": {"ledger/codec.py", "attestation/codec.py"},
    "ruamel": {"k8s/"},
    "click": {"cli/"},
    "rich": {"cli/"},
    "regopy": {"policy/evaluate.py"},
    "prometheus_client": {"coordinator/"},
    "zstandard": {"images/layers.py"},
    "dcap_qvl": {"attestation/tdx/"},
    "sevsnpmeasure": {"cli/measure.py"},
}
"""Library -> the only files or folders that may import it."""


def _modules(package: str) -> Iterator[tuple[Path, str]]:
    for path in sorted((PROJECT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                for name in node.names:
                    yield path, name.name
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                module = node.module or ""
                if module in ALLOWED:  # ``from package import module``
                    yield from ((path, f"{module}.{alias.name}") for alias in node.names)
                else:
                    yield path, module


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_a_package_that_imports_against_the_direction_is_found(package: str) -> None:
    wrong = [
        f"{path.relative_to(PROJECT)} imports {module}"
        for path, module in _modules(package)
        if (top := module.partition(".")[0]) in ALLOWED and top != package and top not in ALLOWED[package]
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("package", "of", "allowed"),
    [
        ("audit", "coordinator", COORDINATOR_PURE),
        ("cli", "coordinator", COORDINATOR_PURE),
        ("initializer", "ledger", INITIALIZER_OF_LEDGER),
        ("audit", "wire", WIRE_OF_AUDIT),
    ],
)
def test_only_the_pure_half_of_a_package_is_used_elsewhere(package: str, of: str, allowed: set[str]) -> None:
    wrong = [
        f"{path.relative_to(PROJECT)} imports {module}"
        for path, module in _modules(package)
        if module.partition(".")[0] == of and module not in allowed
    ]
    assert not wrong


@pytest.mark.parametrize("module", sorted(COORDINATOR_PURE))
def test_the_coordinators_pure_half_reads_no_clock_no_file_and_no_socket(module: str) -> None:
    path = PROJECT / (module.replace(".", "/") + ".py")
    banned = {"os", "pathlib", "asyncio", "socket", "time", "random", "secrets", "aiohttp", "structlog", "lmdb"}
    tree = ast.parse(path.read_text("utf-8"))
    seen = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not seen & banned


@pytest.mark.parametrize("library", sorted(SINGLE_PLACES))
def test_a_library_is_imported_in_its_single_place_only(library: str) -> None:
    wrong = [
        str(path.relative_to(PROJECT))
        for package in ALLOWED
        for path, module in _modules(package)
        if module.partition(".")[0] == library
        and not any(str(path.relative_to(PROJECT)).startswith(place) for place in SINGLE_PLACES[library])
    ]
    assert not wrong


def test_aiohttps_client_is_used_in_its_few_places_only() -> None:
    """One speaks to Coordinators and pins them; the others believe nothing that they read: docs/adr/0011."""
    users = {
        str(path.relative_to(PROJECT))
        for package in ALLOWED
        for path in (PROJECT / package).rglob("*.py")
        if "ClientSession" in path.read_text("utf-8")
    }
    ours = {"wire/client.py", "wire/files.py", "wire/witnesses.py", "wire/session.py"}
    strangers = {"attestation/fetch.py", "images/transport.py"}
    assert users <= ours | strangers
    makers = {name for name in users if "ClientSession(" in (PROJECT / name).read_text("utf-8")}
    assert makers <= {"wire/session.py"} | strangers


def test_nothing_else_that_is_installed_claims_our_packages_names() -> None:
    """The packages are top-level on purpose; a namesake would shadow one of them."""
    claims = {
        name: owners
        for name, owners in importlib.metadata.packages_distributions().items()
        if name in ALLOWED and set(owners) != {"contrast-coordinator"}
    }
    assert not claims
    assert not set(ALLOWED) & set(sys.stdlib_module_names)
