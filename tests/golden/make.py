"""Make tests/golden/ledger-v1: a small genuine ledger of format version 1, exported. Run once per released format.

    .venv/bin/python -m tests.golden.make tests/golden/ledger-v2

A golden ledger is never made again: what was written once must replay for ever. Its vendor and keys are thrown away.
"""

import asyncio
import contextlib
import json
import sys
from pathlib import Path

from coordinator.events import CONTROL_TYPES
from ledger.memory import MemoryStore
from ledger.source import write_export
from manifest.model import Policy
from tests.coordinator.test_evidence import until
from tests.support.acts import certificate, recover, set_manifest
from tests.support.coordinator import Running, coordinator
from tests.support.deployment import VAULT_POLICY, Deployment, Pod
from wire.problem import RemoteRefusedError


async def make(folder: Path) -> None:
    """Every event that version 1 knows, told by a real Coordinator."""
    store = MemoryStore()
    async with coordinator(store) as running:
        shares = await set_manifest(running)
        await certificate(running, Pod())
        await certificate(running, Pod(VAULT_POLICY))
        with contextlib.suppress(RemoteRefusedError):
            await certificate(running, Pod(b"# a policy that no manifest names"))
        await until(lambda: running.service.state.refused == 1)
    async with coordinator(store) as running:
        await recover(running, shares)
        await set_manifest(running, Deployment().with_policy(b"# new", Policy(sans=("new", "spiffe://mesh/new"))))
        await certificate(running, Pod(VAULT_POLICY))
        write_export(running.service.ledger, folder, wanted=CONTROL_TYPES.__contains__)
        (folder / "expected.json").write_text(json.dumps(expected(running), indent=2) + "\n")


def expected(running: Running) -> dict[str, object]:
    """What replaying must give, in words that a later version can still compare."""
    state, ledger = running.service.state, running.service.ledger
    current = state.current
    return {
        "origin": state.origin,
        "size": ledger.size,
        "root": ledger.root.hex(),
        "head": ledger.head.hex(),
        "generation": state.generation,
        "transition": state.transition.hex(),
        "control_head": [state.control_head.seq, state.control_head.body_hash.hex()],
        "manifest": current.manifest.hex() if current else None,
        "mesh_ca": current.mesh_ca.hex() if current else None,
        "root_ca": state.root_ca.hex(),
        "attestations": state.attestations,
        "certificates": state.certificates,
        "secrets": state.secrets,
        "refused": state.refused,
        "recoveries": state.recoveries,
        "open_epochs": [epoch.key.hex() for epoch in state.open_epochs],
        "types": [ledger.entry(seq).body.type for seq in range(ledger.size)],
    }


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1])))
