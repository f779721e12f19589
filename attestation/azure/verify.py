"""Evidence of an Azure confidential VM: a report about a paravisor, the paravisor's TPM, and a quote by that TPM.

The checks are those of an SEV-SNP report (``snp.verify``), each with what the virtual TPM adds to it:

11  and the TPM's attestation key, which the report names, signed the quote
21  and the PCRs that the entry names have the values that it names, and are what was quoted
24  the policy that PCR 8 was extended with, once, is one that somebody vetted; HOSTDATA is Azure's own
25  the report is about the runtime data that came along, and the quote about this exchange
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from attestation.azure.hcl import HclReport, parse_hcl
from attestation.azure.tpm import (
    POLICY_PCR,
    TpmQuote,
    extended,
    parse_quote,
    parse_signature,
    pcr_digest,
    quote_extra,
)
from attestation.cache import ChainCache
from attestation.codec import unpack
from attestation.errors import CodecError, HclError, TpmError
from attestation.evidence import Evidence, Kind
from attestation.findings import Findings, refusal
from attestation.reference import AzureReferenceValues
from attestation.snp import verify as snp_verify
from attestation.snp.case import Expected
from attestation.verdict import CHECK_NAMES, RULES_VERSION, Check, Claims, Outcome, Verdict

_SNP_ROLES: Final = ("vek", "intermediate", "root", "crl")
_MANDATORY: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 18, 20, 21, 24, 25)


@dataclass(frozen=True, slots=True)
class _Parts:
    hcl: HclReport
    quote: TpmQuote
    quoted: bytes
    signature: bytes
    pcrs: dict[int, bytes]
    policy: bytes
    bound: bytes


def verify(
    evidence: Evidence,
    entries: Sequence[tuple[int, AzureReferenceValues]],
    expected: Expected,
    *,
    cache: ChainCache | None,
    thorough: bool,
) -> Verdict:
    """Judge *evidence* by every entry; the first that is satisfied decides, else the one that came nearest.

    Args:
        evidence: of kind ``azure-snp``.
        entries: reference values with their index in the caller's list, at least one.
        expected: what the evidence must be bound to, and the time.
        cache: verified chains.
        thorough: make all checks whatever failed before.
    """
    try:
        parts = _read(evidence)
    except (HclError, TpmError, CodecError) as error:
        check = Check(1, CHECK_NAMES[0], Outcome.FAILED, str(error), "a paravisor's blob, a TPM's quote and its PCRs")
        return refusal(evidence.kind, [check], entries[0][0])
    verdicts = []
    for index, values in entries:
        verdict = _try_entry(evidence, parts, index, values, expected, cache=cache, thorough=thorough)
        if verdict.accepted:
            return verdict
        verdicts.append(verdict)
    return min(verdicts, key=lambda verdict: len(verdict.failures))


def _read(evidence: Evidence) -> _Parts:
    quoted = evidence.part("quote") or b""
    pcrs = _read_pcrs(evidence.part("pcrs") or b"")
    return _Parts(
        parse_hcl(evidence.part("hcl") or b""),
        parse_quote(quoted),
        quoted,
        parse_signature(evidence.part("signature") or b""),
        pcrs,
        evidence.part("policy") or b"",
        evidence.part("bound") or b"",
    )


def _read_pcrs(raw: bytes) -> dict[int, bytes]:
    """Values by index. Raises TpmError, CodecError."""
    pairs = unpack(raw)
    if not isinstance(pairs, list | tuple):
        raise TpmError("the PCRs are no array")
    pcrs: dict[int, bytes] = {}
    for pair in pairs:
        match pair:
            case [int() as index, bytes() as value] if len(value) == 32 and index not in pcrs:
                pcrs[index] = value
            case _:
                raise TpmError("the PCRs are not pairs of index and 32 bytes, each index once")
    return pcrs


def _try_entry(
    evidence: Evidence,
    parts: _Parts,
    index: int,
    values: AzureReferenceValues,
    expected: Expected,
    *,
    cache: ChainCache | None,
    thorough: bool,
) -> Verdict:
    snp = {role: data for role, data in evidence.parts if role in _SNP_ROLES}
    report = Evidence.make(Kind.SNP, {"report": parts.hcl.report, **snp})
    # The report's own REPORT_DATA and HOSTDATA are the paravisor's; ours stand in the quote and in a PCR.
    own = Expected(parts.hcl.binding, (parts.hcl.report[0xC0:0xE0],), expected.now)
    inner = snp_verify.verify(report, [(index, values.snp)], own, cache=cache, thorough=thorough)
    findings = Findings()
    for check in inner.checks[:26]:
        findings.note(check)
    if inner.checks[24].outcome is Outcome.PASSED:
        _quote_checks(findings, parts, values, expected)
    accepted = findings.conclude(_MANDATORY + ((10,) if values.snp.crl == "required" else ()))
    accepted = accepted and inner.accepted
    claims = None
    if accepted and isinstance(inner.claims, Claims):
        claims = inner.claims.of_azure(parts.policy)
    outcomes, texts = bytes(findings.outcomes), tuple(findings.texts)
    return Verdict(evidence.kind, RULES_VERSION, accepted, outcomes, texts, claims, index)


def _quote_checks(findings: Findings, parts: _Parts, values: AzureReferenceValues, expected: Expected) -> None:
    # (25) The report is about these keys (judged above); the quote is about this exchange.
    binds = parts.bound == expected.report_data and parts.quote.extra == quote_extra(parts.bound)
    findings.decide(25, binds, lambda: f"quote about {parts.quote.extra.hex()}", quote_extra(expected.report_data).hex)
    # (11) By the key that the report names, over the very bytes.
    findings.decide(11, _is_signed(parts), "the TPM's signature does not hold", "a signature of the key HCLAkPub")
    # (21) The PCRs are those that were quoted, and those that the entry names are as it names them.
    is_quoted = tuple(sorted(parts.pcrs)) == parts.quote.selected and pcr_digest(parts.pcrs) == parts.quote.digest
    differing = [pcr.index for pcr in values.pcrs if parts.pcrs.get(pcr.index) != pcr.value]
    findings.decide(
        21,
        is_quoted and not differing,
        lambda: f"PCRs that differ: {', '.join(map(str, differing))}" if is_quoted else "PCRs that were not quoted",
        lambda: f"PCRs {', '.join(str(pcr.index) for pcr in values.pcrs)} as the entry names them, quoted",
    )
    # (24) A PCR only grows: extended once with this policy, it holds no other.
    is_measured = parts.pcrs.get(POLICY_PCR) == extended(parts.policy)
    findings.forget(24)
    findings.decide(
        24,
        is_measured and parts.policy in expected.host_data,
        lambda: f"policy {parts.policy.hex()}, {'' if is_measured else 'NOT '}what PCR {POLICY_PCR} holds",
        lambda: f"the digest of a policy that is named, alone in PCR {POLICY_PCR}",
    )


def _is_signed(parts: _Parts) -> bool:
    modulus, exponent = parts.hcl.ak
    try:
        key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
        key.verify(parts.signature, parts.quoted, padding.PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True
