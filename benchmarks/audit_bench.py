"""How fast recorded decisions are judged again on all cores, beside the P-384 verifications that they cannot avoid.

``ledger.audit.decisions``: accepted attestations per second, from gathered inputs to faults, as ``contrast audit``
judges them (as decided then): evidence parsed, 27 checks, outcomes and verdict compared. The limit is bare P-384
verification, a process per core. ``ledger.audit.certificates``: issued certificates checked per second, against the
same limit. The processes have started and know the vendor's chain before the clock runs; the ledger's own reading has
rows of its own.
"""

import hashlib
import json
import os
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.binding import Purpose, workload_subject
from attestation.judge import ChainCache, judge
from attestation.simulated.vendor import VendorChain
from audit.cases import AttestationCase, Case, CertificateCase
from audit.jury import FEW, Jury
from benchmarks.support import Deployment, Pod, launch
from coordinator import ca
from ledger.checkpoint import Checkpoint, origin_of
from manifest.parse import parse_manifest
from wire.extensions import checkpoint_extension, claims_extension, companions_extension, simulated_extension

CASES = 6000
ROUNDS = 3
VERIFICATIONS = 2500


def rows(cases: int = CASES) -> dict[str, dict[str, Any]]:
    """The rows of build/bench.json."""
    attestations, certificates = _material(cases)
    cores = len(os.sched_getaffinity(0))
    return {
        "ledger.audit.decisions": _measure(attestations, cores),
        "ledger.audit.certificates": _measure(certificates, cores),
    }


def _measure(cases: Sequence[Case], cores: int) -> dict[str, Any]:
    rates, limits = [], []
    with Jury(workers=cores) as jury:
        for case in [*cases, *cases][: FEW + 256 * cores]:
            jury.submit(case)
        _demand_no_fault(jury)
        for _ in range(ROUNDS):
            before = _limit(cores)
            began = time.perf_counter()
            for case in cases:
                jury.submit(case)
            _demand_no_fault(jury)
            rates.append(len(cases) / (time.perf_counter() - began))
            limits += [before, _limit(cores)]
    value, limit = statistics.median(rates), statistics.median(limits)
    return {
        "value": round(value, 1),
        "limit": round(limit, 1),
        "ratio": round(value / limit, 3),
        "unit": "decisions/s",
        "limit_is": f"bare P-384 verify, {cores} processes",
        "cases": len(cases),
    }


def _demand_no_fault(jury: Jury) -> None:
    faults = jury.faults()
    if faults:
        raise RuntimeError(f"an honest decision was found wrong: {faults[0]}")


def _material(number: int) -> tuple[list[Case], list[Case]]:
    now = datetime.now(UTC)
    vendor = VendorChain.create(now)
    deployment = Deployment(vendor)
    origin = origin_of(bytes(32))
    manifest = parse_manifest(deployment.request(origin).manifest)
    pod = Pod(launch(vendor, deployment.workload_policy))
    subject, cache = workload_subject(pod.spki, pod.hpke_public), ChainCache()
    mesh_key = ec.generate_private_key(ec.SECP384R1())
    root_key = ec.generate_private_key(ec.SECP384R1())
    root = ca.root_certificate(root_key, origin=origin, now=now, serial=1)
    mesh_ca = ca.mesh_certificate(mesh_key, transition=bytes(32), now=now, serial=2)
    middle = ca.intermediate_certificate(root_key, root, mesh_key, transition=bytes(32), now=now, serial=3)
    issuer = ca.LeafIssuer.of(mesh_key, middle)
    digest = hashlib.sha256
    policy = digest(deployment.workload_policy).digest()
    sans = manifest.policies[policy].sans
    extensions = (
        companions_extension(digest(root).digest(), {}),
        checkpoint_extension(Checkpoint(origin, 3, bytes(32)).text()),
        simulated_extension(),
    )
    attestations: list[Case] = []
    certificates: list[Case] = []
    time_ms = int(now.timestamp() * 1000)
    for seq in range(4, 4 + number):
        nonce = os.urandom(32)
        evidence = pod.guest.evidence(pod.binding(nonce))
        verdict = judge(
            evidence,
            manifest.reference_values,
            report_data=pod.binding(nonce),
            host_data=manifest.policies.keys(),
            now=now,
            cache=cache,
        )
        attestations.append(
            AttestationCase(
                seq=seq,
                time_ms=time_ms,
                kind=evidence.kind.value,
                parts=evidence.parts,
                purpose=Purpose.WORKLOAD.value,
                nonce=nonce,
                subject=subject,
                rules=verdict.rules,
                outcomes=verdict.outcomes,
                verdict=verdict.json(),
                policy=policy,
                manifest_sha256=manifest.digest,
                manifest=manifest.raw,
            )
        )
        if verdict.claims is None:
            raise RuntimeError("the evidence of the benchmark was refused")
        own = (claims_extension(verdict.claims.json()), *extensions)
        leaf = issuer.issue(pod.key.public_key(), sans=sans, extensions=own, now=now, serial=seq)
        dates = (int(leaf.not_valid_before_utc.timestamp()), int(leaf.not_valid_after_utc.timestamp()))
        certificates.append(
            CertificateCase(
                seq=seq,
                time_ms=time_ms,
                certificate=leaf.public_bytes(Encoding.DER),
                subject=subject,
                verdict=verdict.json(),
                sans=sans,
                not_before=dates[0],
                not_after=dates[1],
                mesh_ca_sha256=digest(mesh_ca).digest(),
                mesh_ca=mesh_ca,
                root_ca=digest(root).digest(),
                origin=origin,
                simulated=True,
                secret_id=None,
            )
        )
    return attestations, certificates


def _limit(processes: int) -> float:
    """Bare P-384 verifications per second, a process per core."""
    context = get_context("fork")
    barrier = context.Barrier(processes)
    with context.Pool(processes, initializer=_share, initargs=(barrier,)) as pool:
        return sum(pool.map(_bare, range(processes), chunksize=1))


_BARRIER: list[Any] = []


def _share(barrier: Any) -> None:
    _BARRIER[:] = [barrier]


def _bare(_: int) -> float:
    key, algorithm, message = ec.generate_private_key(ec.SECP384R1()), ec.ECDSA(hashes.SHA384()), os.urandom(672)
    signature, public = key.sign(message, algorithm), key.public_key()
    _BARRIER[0].wait(60)
    began = time.perf_counter()
    for _ in range(VERIFICATIONS):
        public.verify(signature, message, algorithm)
    return VERIFICATIONS / (time.perf_counter() - began)


if __name__ == "__main__":
    print(json.dumps(rows(), indent=2))
