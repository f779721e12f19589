"""The examples in docs/formats.md, made again. If one differs, a public format has changed, or its description lies."""

import hashlib
import re
import textwrap
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.binding import Purpose, epoch_subject, report_data, workload_subject
from coordinator import events
from coordinator.admission import Challenges
from coordinator.events import Link, pack_event
from coordinator.keys import Seed, public_bytes
from ledger.checkpoint import Checkpoint, epoch_name, origin_of
from ledger.codec import pack
from ledger.contradiction import ForkEvidence
from ledger.cose import build_receipt, cose_line
from ledger.entry import Body, Entry, sign, signing_input
from ledger.merkle import node_hash
from ledger.note import NoteSigner, ed25519_key, sign_note
from ledger.proof import TlogProof
from ledger.twin_epochs import make_epoch_evidence
from manifest.authorise import genesis_previous, transition
from manifest.authorise import signing_input as owner_input
from tests.conftest import PROJECT
from wire.bundle import Bundle
from wire.extensions import checkpoint_extension, companions_extension
from wire.sealing import fork_input, recovery_input, secret_check, secret_info, seed_info

SEED = Seed(bytes(range(64)), bytes(range(32)))
EPOCH = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
LEDGER = SEED.ledger_key()
ORIGIN = origin_of(public_bytes(LEDGER))
H1, H2, H3 = (hashlib.sha256(bytes([number])).digest() for number in (1, 2, 3))
LINK = Link(2, H3)


def _payload(event: events.Event) -> bytes:
    return pack_event(event, LINK)[1]


def _body() -> Body:
    kind, payload = pack_event(_CERTIFICATE)
    return Body(public_bytes(EPOCH), 4, 1_700_000_000_123, H1, kind, payload, H2)


def _entry() -> bytes:
    entry = Entry.unsigned(_body())
    return entry.signed(sign(entry.body_hash, EPOCH)).raw


def _cose_lines() -> str:
    checkpoint = Checkpoint(ORIGIN, 5, H1)
    return cose_line(LEDGER, ORIGIN, checkpoint) + cose_line(EPOCH, epoch_name(ORIGIN), checkpoint)


_CERTIFICATE = events.CertificateIssued(
    certificate=H1,
    attestation_seq=3,
    sans=("web", "web.default.svc"),
    not_before=1_700_000_000,
    not_after=1_731_536_000,
)
_EVIDENCE = ("simulated", (("report", H1), ("vek", H2)))


def _note(size: int, root: bytes, epoch: Ed25519PrivateKey) -> str:
    signers = [NoteSigner(ORIGIN, LEDGER), NoteSigner(epoch_name(ORIGIN), epoch)]
    return sign_note(Checkpoint(ORIGIN, size, root).text(), signers)


def _fork_evidence() -> bytes:
    first, second = _note(5, H1, EPOCH), _note(9, H2, EPOCH)
    return ForkEvidence(first=first, second=second, prefix_root=H3, consistency=(H1, H2)).text()


def _opening(epoch: Ed25519PrivateKey) -> TlogProof:
    """The receipt of an entry that opens *epoch* on H1, in a tree of two leaves, the first of which is H2."""
    body = Body(public_bytes(epoch), 1, 1_700_000_000_123, H1, "epoch.opened", b"\x90", b"")
    unsigned = Entry.unsigned(body)
    entry = unsigned.signed(sign(unsigned.body_hash, epoch))
    return TlogProof(1, (H2,), _note(2, node_hash(H2, entry.leaf_hash), epoch), entry.raw)


def _epoch_fork_evidence() -> bytes:
    made = make_epoch_evidence(_opening(EPOCH), _opening(Ed25519PrivateKey.from_private_bytes(b"\x03" * 32)))
    assert made is not None
    return made.text()


EXAMPLES: dict[str, Callable[[], bytes]] = {
    "canonical": lambda: pack([1, b"\x00\xff", "é", [True, None], 2**63 - 1]),
    "signing-input": lambda: signing_input(H1),
    "body": lambda: _body().pack(),
    "entry": _entry,
    "ledger.created": lambda: _payload(
        events.LedgerCreated(
            origin="contrast.invalid/x", verifier_keys=("a", "b"), root_ca=H1, seed_shares=((H2, b"\x05\x06"),)
        )
    ),
    "epoch.opened": lambda: _payload(
        events.EpochOpened(
            epoch_key=H1,
            tls_certificate=H2,
            hpke_key=H3,
            anchor_seq=2,
            subject=H1,
            evidence=_EVIDENCE,
            policy=H2,
            rules=1,
            verdict=H3,
        )
    ),
    "manifest.set": lambda: _payload(
        events.ManifestSet(
            generation=2,
            manifest=H1,
            previous=H2,
            transition=H3,
            signatures=((b"\x01", b"\x02"),),
            intermediate=H1,
            mesh_ca=H2,
            closed_epochs=(H3,),
        )
    ),
    "ledger.recovered": lambda: _payload(
        events.LedgerRecovered(
            epoch_key=H1, share_owner=H2, statement=H3, size=5, root=H1, signature=b"\x07", closed_epochs=(H2,)
        )
    ),
    "ledger.fork_accepted": lambda: _payload(
        events.ForkAccepted(share_owner=H1, heads=((5, H2), (9, H3)), signature=b"\x07")
    ),
    "attestation.accepted": lambda: _payload(
        events.AttestationAccepted(
            purpose="workload",
            evidence=_EVIDENCE,
            nonce=H1,
            subject=b"\x00\x01\x02",
            rules=1,
            outcomes=b"\x01" * 27,
            verdict=H2,
            policy=H3,
            manifest_seq=2,
        )
    ),
    "attestation.refused": lambda: _payload(
        events.AttestationRefused(
            refusal="unknown_policy", count=3, first_ms=1, last_ms=2, seen="policy 00", wanted="one of 4"
        )
    ),
    "certificate.issued": lambda: _payload(_CERTIFICATE),
    "secret.released": lambda: _payload(
        events.SecretReleased(secret_id="db", policy=H1, attestation_seq=3, certificate=H2, check=H3)
    ),
    "origin": ORIGIN.encode,
    "finished-checkpoint": lambda: sign_note(
        Checkpoint(ORIGIN, 5, H1).text(), [NoteSigner(ORIGIN, LEDGER), NoteSigner(epoch_name(ORIGIN), EPOCH)]
    ).encode(),
    "cose-line": lambda: cose_line(LEDGER, ORIGIN, Checkpoint(ORIGIN, 5, H1)).encode(),
    "cose-receipt": lambda: build_receipt(
        (Checkpoint(ORIGIN, 5, H1).text() + "\n" + _cose_lines()).encode(),
        3,
        [H2, H3],
        ledger_key=ed25519_key(ORIGIN, public_bytes(LEDGER)),
        epoch_keys=[ed25519_key(epoch_name(ORIGIN), public_bytes(EPOCH))],
    ),
    "fork-evidence": _fork_evidence,
    "epoch-fork-evidence": _epoch_fork_evidence,
    "report-data": lambda: report_data(Purpose.WORKLOAD, H1, workload_subject(b"\x30\x00", H2)),
    "workload-subject": lambda: workload_subject(b"\x30\x00", H2),
    "epoch-subject": lambda: epoch_subject(ORIGIN, 0, H1, H2, H3),
    "challenge": lambda: Challenges(b"\x02" * 32).make(now_ms=5, random=b"\x03" * 8),
    "key ledger-ed25519": lambda: public_bytes(LEDGER),
    "key ledger-mldsa44": lambda: hashlib.sha256(SEED.ledger_mldsa_key().public_key().public_bytes_raw()).digest(),
    "key root-ca": lambda: _private(SEED.root_ca_key().private_numbers().private_value),
    "key mesh-ca": lambda: _private(SEED.mesh_ca_key(H1).private_numbers().private_value),
    "key workload-secret": lambda: SEED.workload_secret("db"),
    "secret-check": lambda: secret_check(SEED.workload_secret("db")),
    "secret-info": lambda: secret_info(ORIGIN, H1),
    "seed-info": lambda: seed_info(ORIGIN, H1, 5, H2),
    "genesis": lambda: genesis_previous(ORIGIN),
    "transition": lambda: transition(H1, genesis_previous(ORIGIN)),
    "owner-input": lambda: owner_input(ORIGIN, transition(H1, genesis_previous(ORIGIN))),
    "bundle": lambda: Bundle(
        leaf=b"\x01", intermediate=b"\x02", mesh_ca=b"\x03", root_ca=b"\x04", receipt=b"\x05"
    ).pack(),
    "recovery-input": lambda: recovery_input(ORIGIN, H1, 5, H2, H3),
    "fork-input": lambda: fork_input(ORIGIN, H1, H2, [(5, H3)]),
    "extension checkpoint": lambda: checkpoint_extension(Checkpoint(ORIGIN, 5, H1).text()).value,
    "extension companions": lambda: companions_extension(H1, {"db": H2}).value,
}


def _private(value: int) -> bytes:
    return value.to_bytes(48)


def _documented() -> dict[str, bytes]:
    text = (PROJECT / "docs/formats.md").read_text("utf-8")
    blocks = re.findall(r"^```example ([^\n]+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len({name for name, _ in blocks}) == len(blocks)
    return {name: bytes.fromhex("".join(body.split())) for name, body in blocks}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_in_the_formats_is_what_the_code_writes(name: str) -> None:
    assert _documented().get(name) == EXAMPLES[name]()


def test_every_documented_example_is_made_again() -> None:
    assert set(_documented()) == set(EXAMPLES)


def rendered() -> str:
    """The examples as they stand in docs/formats.md, for whoever adds one."""
    blocks = []
    for name, make in EXAMPLES.items():
        body = "\n".join(textwrap.wrap(make().hex(), 128))
        blocks.append(f"```example {name}\n{body}\n```")
    return "\n".join(blocks) + "\n"
