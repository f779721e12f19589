"""A small ledger, exported: one manifest, one certificate, with the evidence that was judged for it."""

import asyncio
from pathlib import Path

from attestation.reference import ReferenceValues
from ledger.source import write_export
from tests.support.coordinator import coordinator
from tests.support.deployment import Deployment, Pod
from wire.routes import Port


def export_story(directory: Path) -> tuple[Path, int, tuple[ReferenceValues, ...]]:
    """Where it was exported, the seq of its `attestation.accepted`, and the reference values of its manifest."""
    return asyncio.run(_export(directory))


async def _export(directory: Path) -> tuple[Path, int, tuple[ReferenceValues, ...]]:
    deployment = Deployment()
    async with coordinator() as running:
        _, statement = await running.statement()
        async with running.client() as client:
            await client.set_manifest(deployment.request(statement.origin or ""))
        async with running.client(Port.MESH) as client:
            challenge = await client.challenge()
            await client.certificate(Pod().request(challenge.nonce))
        log = running.service.ledger
        write_export(log, directory, wanted=lambda _: True)
        types = [log.entry(seq).body.type for seq in range(log.size)]
    return directory, types.index("attestation.accepted"), deployment.values
