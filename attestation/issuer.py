"""Where a guest gets evidence about itself: the real secure processor, else a simulated one that somebody named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from attestation.azure.issuer import AzureIssuer
from attestation.collateral.azure import VTPM_VARIABLE
from attestation.collateral.endorse import Endorser
from attestation.errors import NoSecureProcessorError, SimulatedBesideRealError
from attestation.evidence import Evidence, Kind
from attestation.sev_guest import SevGuestIssuer
from attestation.simulated.socket import request_evidence
from attestation.tsm import TsmIssuer

VARIABLE: Final = "CONTRAST_SIMULATED_PROCESSOR"
AZURE_VARIABLE: Final = VTPM_VARIABLE
TSM_ROOT: Final = Path("/sys/kernel/config/tsm/report")
_DEVICES: Final = ("sev-guest", "tdx_guest")


class Issuer(Protocol):
    """Something that gives evidence about the guest that this process runs in."""

    @property
    def kind(self) -> Kind:
        """What kind of evidence it gives."""

    async def issue(self, report_data: bytes) -> Evidence:
        """Evidence that carries *report_data* (64 bytes), with everything it takes to judge it.

        Raises:
            IssueError: the processor did not answer, or not completely; the message says what to do.
        """


class SimulatedIssuer:
    """The simulated processor behind a Unix socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def kind(self) -> Kind:
        """Simulated, and never anything else."""
        return Kind.SIMULATED

    async def issue(self, report_data: bytes) -> Evidence:
        """See :class:`Issuer`."""
        return await request_evidence(self._path, report_data)


def find_issuer(
    environ: Mapping[str, str],
    *,
    tsm_root: Path = TSM_ROOT,
    dev: Path = Path("/dev"),
    endorser: Endorser | None = None,
) -> Issuer:
    """The issuer of this guest.

    Args:
        environ: where ``CONTRAST_SIMULATED_PROCESSOR`` may name the socket of a simulated processor, and
            ``CONTRAST_AZURE_VTPM_POLICY`` may ask for Azure's virtual TPM.
        tsm_root: the kernel's report directory in configfs.
        dev: where device nodes are.
        endorser: completes evidence where the host gave no certificates; without one it goes out as it is, and whoever
            judges it completes it.

    Raises:
        SimulatedBesideRealError: a simulated processor is named on real hardware.
        NoSecureProcessorError: there is none at all, or the kernel offers it by no interface that we speak.
    """
    simulated, azure = environ.get(VARIABLE, ""), environ.get(AZURE_VARIABLE, "")
    if azure:
        return _azure(azure, simulated, endorser)
    devices = [dev / name for name in _DEVICES if (dev / name).exists()]
    has_tsm = tsm_root.is_dir()
    if has_tsm or devices:
        real = tsm_root if has_tsm else devices[0]
        if simulated:
            raise SimulatedBesideRealError(
                f"this machine has a real secure processor ({real}) and {VARIABLE} names a simulated one; "
                f"unset {VARIABLE}: simulated evidence is never used where real evidence exists"
            )
        if has_tsm:
            kind = Kind.TDX if dev / "tdx_guest" in devices else Kind.SNP
            return TsmIssuer(tsm_root, kind=kind, endorser=endorser)
        if real.name == "sev-guest":
            return SevGuestIssuer(real, endorser=endorser)
        raise NoSecureProcessorError(
            f"{real} exists, but the kernel's report interface {tsm_root} does not: mount configfs "
            "(`mount -t configfs none /sys/kernel/config`) on a kernel of 6.7 or later"
        )
    if simulated:
        return SimulatedIssuer(Path(simulated))
    raise NoSecureProcessorError(
        f"no secure processor here: no {tsm_root}, no {', no '.join(str(dev / name) for name in _DEVICES)}. "
        "Run this in a confidential guest, or, for development, in a simulated one (`contrast dev guest`), which sets "
        f"{VARIABLE}"
    )


def _azure(policy: str, simulated: str, endorser: Endorser | None) -> Issuer:
    if simulated:
        raise SimulatedBesideRealError(
            f"{AZURE_VARIABLE} asks for Azure's virtual TPM and {VARIABLE} names a simulated processor; "
            f"unset {VARIABLE}"
        )
    try:
        digest = bytes.fromhex(policy)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise NoSecureProcessorError(f"{AZURE_VARIABLE} is no SHA-256 in hex: it names the policy of this guest")
    return AzureIssuer(digest, endorser=endorser)
