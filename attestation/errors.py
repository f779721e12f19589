"""What can go wrong with evidence, as types with a code; judging itself raises nothing, it refuses."""

from typing import ClassVar


class AttestationError(Exception):
    """The root of everything this package raises."""

    code: ClassVar[str] = "attestation_failed"


class CodecError(AttestationError):
    """Bytes that are not one value in canonical MessagePack (docs/formats.md, section 1)."""

    code = "not_canonical"


class EvidenceError(AttestationError):
    """Evidence whose shape is wrong: unknown kind or role, parts missing, doubled, out of order or too large."""

    code = "evidence_malformed"


class ReportError(AttestationError):
    """Bytes that are not an attestation report; ``check`` is the number of the check that says so."""

    code = "report_malformed"

    def __init__(self, message: str, *, check: int = 1) -> None:
        super().__init__(message)
        self.check = check


class QuoteError(AttestationError):
    """Bytes that are not a TDX quote; ``check`` is the number of the check that says so."""

    code = "quote_malformed"

    def __init__(self, message: str, *, check: int = 1) -> None:
        super().__init__(message)
        self.check = check


class CollateralError(AttestationError):
    """Intel's collateral for quotes, or an answer with a part of it, that cannot be read."""

    code = "collateral_malformed"


class HclError(AttestationError):
    """Bytes that are not a blob of Azure's paravisor."""

    code = "hcl_malformed"


class TpmError(AttestationError):
    """Bytes that are not what a TPM says, or a TPM that refuses."""

    code = "tpm_malformed"


class CertificateError(AttestationError):
    """A certificate or revocation list that is not strict DER, or does not hold what the vendor writes."""

    code = "certificate_malformed"


class CertificateTableError(AttestationError):
    """A certificate table (GHCB, auxblob) that points outside itself or holds something else than certificates."""

    code = "certificate_table_malformed"


class UnknownFormatError(AttestationError):
    """Bytes that are nothing that this package reads."""

    code = "format_unknown"


class ReferenceValueError(AttestationError):
    """A reference value that no report could or should satisfy."""

    code = "reference_value_invalid"


class IssueError(AttestationError):
    """The secure processor gave no usable evidence."""

    code = "evidence_not_issued"


class NoSecureProcessorError(IssueError):
    """There is no secure processor here, neither a real one nor a simulated one."""

    code = "no_secure_processor"


class SimulatedBesideRealError(IssueError):
    """A simulated processor is named where a real one exists."""

    code = "simulated_beside_real"


class FetchError(AttestationError):
    """A vendor's service gave no usable answer.

    Attributes:
        status: HTTP status, None where nobody answered.
        may_pass: whether trying again later can help.
        retry_after_s: how long the service asked to wait.
    """

    code = "collateral_unreachable"

    def __init__(
        self, message: str, *, status: int | None = None, may_pass: bool = False, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.may_pass = may_pass
        self.retry_after_s = retry_after_s


class EndorsementsMissingError(IssueError):
    """The report is there, but the host gave no certificates to judge it by."""

    code = "endorsements_missing"
