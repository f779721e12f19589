"""The whole local run on each simulated product, by real processes, from `dev init` to the audit."""

import json
from pathlib import Path
from typing import Any

import pytest

from attestation.simulated.vendor import PROVIDER
from tests.support.story import Story

SIMULATED = "--allow-simulated"
VALUES = ("--reference-values", ".contrast-dev/reference-values.json")
PRODUCTS = {
    "Milan": ("--product", "Milan"),
    "Genoa": ("--product", "Genoa"),
    "Turin": ("--product", "Turin"),
    "VLEK": ("--product", "Turin", "--vlek"),
}


def read(path: Path) -> Any:
    return json.loads(path.read_bytes())


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_deployment_runs_and_is_audited_on_each_simulated_product(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    """A layout of TCB, chip id or certificate that one program alone reads otherwise would end here."""
    story = Story(tmp_path_factory.mktemp("product"))
    try:
        play(story, PRODUCTS[name], provider=PROVIDER if name == "VLEK" else None)
    finally:
        story.close()


def play(story: Story, options: tuple[str, ...], *, provider: str | None) -> None:
    product = options[1]
    said = story.contrast("dev", "init", *options)
    assert f"a {product} and signs with {'a VLEK' if provider else 'a VCEK'}" in said
    story.run("python", "build_images.py")
    story.contrast("generate", "deployment/")
    (entry,) = read(story.root / "manifest.json")["ReferenceValues"]["simulated"]
    assert entry["ProductName"] == product
    assert entry.get("AllowedProviders") == ([provider] if provider else None)
    assert ("FMCVersion" in entry["MinimumTCB"]) == (product == "Turin")
    story.start_coordinator()
    story.contrast("set", "-c", story.coordinator, "-m", "manifest.json", SIMULATED, "deployment/")
    story.contrast("dev", "run", "--load-balancer", story.host, "--detach", "deployment/")
    story.contrast("verify", "-c", story.coordinator, "-m", "manifest.json", SIMULATED, "--full")
    assert json.loads(story.web("/ready"))["ready"] is True
    verdicts = [
        read(story.root / "verify/ledger/blob" / entry["event"]["verdict"])
        for entry in json.loads(story.contrast("ledger", "show", "verify/ledger", "--json"))["entries"]
        if entry["type"] in ("epoch.opened", "attestation.accepted")
    ]
    assert len(verdicts) == 6  # The Coordinator's own, and one for each pod.
    for verdict in verdicts:
        assert verdict["accepted"]
        claims = verdict["claims"]
        assert (claims["product"], claims["provider"]) == (product, provider)
        assert claims["endorsement"] == ("VLEK" if provider else "VCEK")
        assert ("fmc" in claims["reported_tcb"]) == (product == "Turin")
    said = story.contrast("audit", "verify/ledger", SIMULATED, *VALUES, "--json")
    audited = json.loads(said[said.index("\n{") : said.rindex("}") + 1])
    assert (audited["ok"], audited["then"]) == (True, "proven")
