"""Checks 6 to 13: who vouches for the report. Certificates are hints until they hold under a trusted root."""

from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from attestation.cache import ChainCache
from attestation.errors import CertificateError
from attestation.evidence import Evidence, Kind
from attestation.reference import SnpReferenceValues
from attestation.snp.anchors import AMD_ROOTS, Anchor
from attestation.snp.case import Case, Expected
from attestation.snp.chain import Chain, chain_key, crl_fault, link_fault, parse_chain
from attestation.snp.endorsement import EndorsementKind
from attestation.snp.report import REPORT_SIZE, SIGNING_KEY_VLEK
from attestation.snp.standing import Standing, likeness, still_stands
from attestation.verdict import Claims, Verdict

_ECDSA: Final = ec.ECDSA(SHA384())


class Endorsements:
    """The chain of one piece of evidence and its arithmetic, each done at most once however many entries ask."""

    def __init__(self, evidence: Evidence, cache: ChainCache | None) -> None:
        self._evidence = evidence
        self._cache = cache
        self._raw = evidence.part("report") or b""
        self._key = b"" if cache is None else chain_key(evidence)
        self._chain = None if cache is None else cache.get(self._key)
        self._is_verified = self._chain is not None
        self._faults: tuple[str | None, str | None] | None = None
        self._signature_holds: bool | None = None

    def chain(self) -> Chain:
        """The parsed chain.

        Raises:
            CertificateError: see :func:`parse_chain`.
        """
        if self._chain is None:
            self._chain = parse_chain(self._evidence)
        return self._chain

    def faults(self) -> tuple[str | None, str | None]:
        """What is wrong with the signatures of (the links, the revocation list)."""
        chain = self.chain()
        if self._is_verified:
            return None, None
        if self._faults is None:
            crl = chain.crl
            self._faults = link_fault(chain), None if crl is None else crl_fault(chain, crl)
            if self._faults == (None, None) and self._cache is not None:
                self._cache.put(self._key, chain)
        return self._faults

    def standing(self, values: SnpReferenceValues, expected: Expected) -> Standing | None:
        """What is remembered of a like report under this chain and entry, if this report is accepted, too."""
        if self._cache is None or self._chain is None or len(self._raw) != REPORT_SIZE:
            return None
        found = self._cache.standings.get(self._standing_key(values))
        if found is None or found.values is not values:
            return None
        return found if still_stands(found, self._chain, self._raw, expected, self.signature_holds) else None

    def remember(self, verdict: Verdict, values: SnpReferenceValues, claims: Claims, now: datetime) -> None:
        """Keep what was found of a report that has been accepted."""
        if self._cache is not None:
            standing = Standing(values, self.chain().is_listed(now), verdict.outcomes, verdict.texts, claims)
            self._cache.standings.put(self._standing_key(values), standing)

    def _standing_key(self, values: SnpReferenceValues) -> tuple[Kind, bytes, int, bytes]:
        return self._evidence.kind, self._key, id(values), likeness(self._raw)

    def signature_holds(self, r: int, s: int, signed: bytes) -> bool:
        """(11) Whether the leaf's key signed bytes 000..29F of the report, as they came."""
        if self._signature_holds is None:
            signature = encode_dss_signature(r, s)
            try:
                self.chain().endorsement.key.verify(signature, signed, _ECDSA)
            except InvalidSignature:
                self._signature_holds = False
            else:
                self._signature_holds = True
        return self._signature_holds


def endorsement_checks(case: Case, endorsements: Endorsements) -> bool:
    """Checks 6, 8, 9, 12 and 13, and what the chain adds to 5. False where there is no chain to go on with."""
    try:
        chain = endorsements.chain()
    except CertificateError as error:
        reason = str(error)
        case.decide(
            9, False, reason, "root, intermediate and leaf certificate in strict DER with AMD's extensions, each once"
        )
        return False
    case.decide(9, True, "strict DER", "strict DER with AMD's extensions, each once")
    _anchor(case, chain)
    _leaf(case, chain)
    _tcb(case, chain)
    _chip(case, chain)
    return True


def signature_checks(case: Case, endorsements: Endorsements) -> None:
    """Checks 7, 10 and 11."""
    chain = endorsements.chain()
    links, crl = endorsements.faults()
    now = case.expected.now
    # (7) Every link with AMD's parameters exactly (the reader knows no others), at the injected time.
    is_valid = chain.is_valid(now)
    case.decide(
        7,
        links is None and is_valid,
        lambda: links or f"valid from {_minute(chain.not_before)} to {_minute(chain.not_after)}",
        # An accepted verdict names no time of judgement, so that an audit gets the same bytes from the recorded time.
        lambda: "three RSASSA-PSS signatures, valid when judged" + ("" if is_valid else f", at {_minute(now)}"),
    )
    _revocation(case, chain, crl)
    holds = endorsements.signature_holds(case.report.r, case.report.s, case.report.signed)
    case.decide(
        11,
        holds,
        lambda: f"signature {'holds' if holds else 'does not hold'}",
        lambda: f"a signature of the {chain.endorsement.kind}'s key over bytes 000 to 29F",
    )


def _anchor(case: Case, chain: Chain) -> None:
    """(6) The root is compared with what is pinned, never taken as it came."""
    values = case.values
    if values.trust_anchor is None:
        wanted = AMD_ROOTS[case.product.chain]
        label = f"ARK-{case.product.chain}"
    else:
        wanted = Anchor(values.trust_anchor, values.trust_anchor_spki)
        label = "the simulated anchor"
    seen = chain.anchor
    case.decide(
        6,
        seen.certificate == wanted.certificate and wanted.spki in (None, seen.spki),
        lambda: f"root {seen.certificate.hex()}, key {(seen.spki or b'').hex()}",
        lambda: f"{label} {wanted.certificate.hex()}" + ("" if wanted.spki is None else f", key {wanted.spki.hex()}"),
    )


def _leaf(case: Case, chain: Chain) -> None:
    endorsement, product, report = chain.endorsement, case.product, case.report
    root, intermediate, _ = chain.certificates
    # (8) A VLEK passed off as a VCEK would move an identity from a chip to a provider.
    is_vlek = report.signing_key == SIGNING_KEY_VLEK
    kind = EndorsementKind.VLEK if is_vlek else EndorsementKind.VCEK
    middle = f"SEV-VLEK-{product.chain}" if is_vlek else f"SEV-{product.chain}"
    case.decide(
        8,
        endorsement.kind is kind
        and intermediate.common_name == middle
        and root.common_name == f"ARK-{product.chain}"
        and (endorsement.hwid is None) == is_vlek
        and (endorsement.provider is not None) == is_vlek,
        lambda: (
            f"{endorsement.kind} {'with' if endorsement.hwid else 'without'} hwID, "
            f"{'with' if endorsement.provider else 'without'} CSP_ID, under {intermediate.common_name}"
        ),
        lambda: (
            f"{kind} {'with CSP_ID and without hwID' if is_vlek else 'with hwID and without CSP_ID'}, under {middle}"
        ),
    )
    # (5) What the chain adds: the only word on the product of a version 2 report, and a second one on the others.
    if endorsement.product_name.partition("-")[0] != product.chain:
        case.decide(5, False, f"a certificate for {endorsement.product_name}", product.chain)


def _tcb(case: Case, chain: Chain) -> None:
    """(12) The key signs for one TCB only; another part or an absent one is another key."""
    certified, reported = chain.endorsement.tcb, case.tcbs.reported
    case.decide(12, certified == reported, lambda: f"certificate for {certified}", lambda: f"reported {reported}")


def _chip(case: Case, chain: Chain) -> None:
    """(13) The report speaks for the chip that the certificate names, or for a provider that the entry names."""
    endorsement, report, values = chain.endorsement, case.report, case.values
    if endorsement.kind is EndorsementKind.VLEK:
        provider = endorsement.provider or ""
        case.decide(
            13,
            provider in values.allowed_providers,
            lambda: f"provider {provider}",
            lambda: (
                f"provider one of {', '.join(values.allowed_providers) or 'none: this entry names no VLEK provider'}"
            ),
        )
        return
    hwid = endorsement.hwid or b""
    if not any(report.chip_id):
        case.decide(
            13,
            values.allow_masked_chip_id,
            "the chip id is masked",
            "a chip id, or an entry that allows masked ones",
        )
        return
    case.decide(
        13,
        len(hwid) == case.product.chip_id_size and report.chip_id == hwid.ljust(64, b"\0"),
        lambda: f"chip {report.chip_id.hex()}",
        lambda: f"chip {hwid.hex()}, as in the certificate",
    )


def _revocation(case: Case, chain: Chain, fault: str | None) -> None:
    """(10) A list by the same root, fresh, not naming the intermediate; ``warn`` forgives absence and age only."""
    crl, now, is_required = chain.crl, case.expected.now, case.values.crl == "required"
    serial = chain.intermediate.certificate.serial

    def wanted() -> str:
        demand = f"a list of the root, fresh when judged, that does not name serial {serial:#x}"
        if not is_required:
            return f"{demand}; its absence or age is tolerated"
        return demand if is_fresh else f"{demand}; judged at {_minute(now)}"

    def seen() -> str:
        if crl is None:
            return "no revocation list came with the report"
        if fault is not None:
            return fault
        if serial in crl.revoked:
            return f"serial {serial:#x} is revoked"
        return f"a list from {_minute(crl.this_update)} to {_minute(crl.next_update)}, without {serial:#x}"

    is_fresh = chain.is_listed(now)
    is_refused = crl is not None and (fault is not None or serial in crl.revoked)
    if is_refused or is_required:
        case.decide(10, is_fresh and not is_refused, seen, wanted)
    elif is_fresh:
        case.decide(10, True, seen, wanted)
    else:
        case.skip(10, seen, wanted)


def _minute(moment: datetime) -> str:
    """A moment for a verdict: UTC whatever zone it was given in, so that the same moment gives the same bytes."""
    return moment.astimezone(UTC).isoformat(timespec="minutes").removesuffix("+00:00") + "Z"
