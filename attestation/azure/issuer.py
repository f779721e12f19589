"""Evidence through the virtual TPM of an Azure confidential VM: its NV index, its PCRs, a quote. Judges nothing."""

import asyncio
import os
from pathlib import Path
from typing import Final

from attestation.azure.hcl import MAX_BLOB
from attestation.azure.tpm import POLICY_PCR, Transport, nv_read, pcr_read, quote, quote_extra
from attestation.codec import pack
from attestation.collateral.endorse import Endorser
from attestation.errors import EvidenceError, IssueError, TpmError
from attestation.evidence import Evidence, Kind

HCL_INDEX: Final = 0x01400001
AK_HANDLE: Final = 0x81000003
DEVICE: Final = Path("/dev/tpmrm0")
QUOTED: Final = (0, 1, 2, 3, 4, 5, 6, 7, POLICY_PCR, 9, 11, 12, 14)
_MAX_ANSWER: Final = 4096


class AzureIssuer:
    """The TPM behind *send*; the guest's policy digest is what PCR 8 was extended with when it was launched.

    Args:
        policy: SHA-256 of the guest's policy, 32 bytes.
        send: gives a command to the TPM; by default through the kernel's resource manager.
        endorser: as for :class:`attestation.tsm.TsmIssuer`.
    """

    def __init__(self, policy: bytes, *, send: Transport | None = None, endorser: Endorser | None = None) -> None:
        self._policy = policy
        self._send = send or _device
        self._endorser = endorser

    @property
    def kind(self) -> Kind:
        """Azure, and nothing else."""
        return Kind.AZURE

    async def issue(self, report_data: bytes) -> Evidence:
        """See :class:`attestation.issuer.Issuer`."""
        evidence = await asyncio.to_thread(self._issue, report_data)
        return evidence if self._endorser is None else await self._endorser.complete(evidence)

    def _issue(self, report_data: bytes) -> Evidence:
        try:
            blob = nv_read(self._send, HCL_INDEX, limit=MAX_BLOB)
            attest, signature = quote(self._send, AK_HANDLE, quote_extra(report_data), QUOTED)
            values = pcr_read(self._send, QUOTED)
            return Evidence.make(
                Kind.AZURE,
                {
                    "hcl": blob,
                    "quote": attest,
                    "signature": signature,
                    "pcrs": pack([[index, values[index]] for index in sorted(values)]),
                    "policy": self._policy,
                    "bound": report_data,
                },
            )
        except (TpmError, EvidenceError, OSError) as error:
            raise IssueError(f"the virtual TPM gave no usable evidence: {error}") from None


def _device(command: bytes) -> bytes:
    descriptor = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(descriptor, command)
        return os.read(descriptor, _MAX_ANSWER)
    finally:
        os.close(descriptor)
