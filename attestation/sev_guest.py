"""Evidence through ``/dev/sev-guest``, for kernels before configfs-tsm. One ioctl on a thread; nothing is judged here.

Structures and numbers are those of the kernel's ``linux/sev-guest.h``; a test holds them against it.
"""

import asyncio
import ctypes
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from attestation.collateral.endorse import Endorser
from attestation.errors import IssueError
from attestation.evidence import Evidence, Kind
from attestation.snp.report import REPORT_SIZE
from attestation.tsm import snp_evidence

SNP_GET_EXT_REPORT: Final = 0xC0205302
MESSAGE_VERSION: Final = 1
_ATTEMPTS: Final = 8
_FIRST_PAUSE_S: Final = 0.05
_PAGE: Final = 4096
MAX_TABLE: Final = 4 * _PAGE  # The kernel takes no more: SEV_FW_BLOB_MAX_SIZE.
_INVALID_LENGTH, _BUSY = 1, 2  # What the hypervisor says: the table needs more room; come again.


class ReportRequest(ctypes.Structure):
    """``struct snp_ext_report_req``, the plain request at its head."""

    _fields_ = (
        ("user_data", ctypes.c_uint8 * 64),
        ("vmpl", ctypes.c_uint32),
        ("reserved", ctypes.c_uint8 * 28),
        ("certs_address", ctypes.c_uint64),
        ("certs_len", ctypes.c_uint32),
    )


class ReportResponse(ctypes.Structure):
    """``struct snp_report_resp``, with what SNP ABI, table 25, says of its bytes."""

    _fields_ = (
        ("status", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("reserved", ctypes.c_uint8 * 24),
        ("report", ctypes.c_uint8 * REPORT_SIZE),
        ("unused", ctypes.c_uint8 * (4000 - 32 - REPORT_SIZE)),
    )


class GuestRequest(ctypes.Structure):
    """``struct snp_guest_request_ioctl``."""

    _fields_ = (
        ("msg_version", ctypes.c_uint8),
        ("req_data", ctypes.c_uint64),
        ("resp_data", ctypes.c_uint64),
        ("fw_error", ctypes.c_uint32),
        ("vmm_error", ctypes.c_uint32),
    )


Ioctl = Callable[[int, int, GuestRequest], object]


def _ioctl(descriptor: int, number: int, request: GuestRequest) -> object:
    return fcntl.ioctl(descriptor, number, request)


class SevGuestIssuer:
    """The secure processor behind the device *path*.

    Args:
        path: normally ``/dev/sev-guest``.
        endorser: as for :class:`attestation.tsm.TsmIssuer`.
        vmpl: the privilege level to ask for.
        ioctl: the system call.
        pause: waits, in seconds; on a thread.
    """

    def __init__(
        self,
        path: Path,
        *,
        endorser: Endorser | None = None,
        vmpl: int = 0,
        ioctl: Ioctl = _ioctl,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._endorser = endorser
        self._vmpl = vmpl
        self._ioctl = ioctl
        self._pause = pause

    @property
    def kind(self) -> Kind:
        """SNP: the device speaks for nothing else."""
        return Kind.SNP

    async def issue(self, report_data: bytes) -> Evidence:
        """See :class:`attestation.issuer.Issuer`."""
        report, table = await asyncio.to_thread(self._issue, report_data)
        evidence = snp_evidence(report, table, report_data)
        return evidence if self._endorser is None else await self._endorser.complete(evidence)

    def _issue(self, report_data: bytes) -> tuple[bytes, bytes]:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise IssueError(f"{self._path} cannot be opened: {error.strerror}; run as a user who may") from None
        try:
            return self._request(descriptor, report_data)
        finally:
            os.close(descriptor)

    def _request(self, descriptor: int, report_data: bytes) -> tuple[bytes, bytes]:
        room, pause = MAX_TABLE, _FIRST_PAUSE_S
        for attempt in range(1, _ATTEMPTS + 1):
            table = ctypes.create_string_buffer(max(room, 1))
            wanted = ReportRequest(
                vmpl=self._vmpl, certs_address=ctypes.addressof(table) if room else 0, certs_len=room
            )
            wanted.user_data[:] = report_data
            answer = ReportResponse()
            request = GuestRequest(
                msg_version=MESSAGE_VERSION, req_data=ctypes.addressof(wanted), resp_data=ctypes.addressof(answer)
            )
            try:
                self._ioctl(descriptor, SNP_GET_EXT_REPORT, request)
            except OSError as error:
                if request.vmm_error == _INVALID_LENGTH and 0 <= wanted.certs_len <= MAX_TABLE and attempt < _ATTEMPTS:
                    room = wanted.certs_len
                    continue
                if request.vmm_error == _BUSY and attempt < _ATTEMPTS:
                    self._pause(pause)
                    pause *= 2
                    continue
                raise IssueError(
                    f"{self._path} failed at attempt {attempt} of {_ATTEMPTS}: {error.strerror}, firmware error "
                    f"{request.fw_error:#x}, hypervisor error {request.vmm_error:#x}; see the kernel log of the guest"
                ) from None
            if answer.status != 0 or answer.size != REPORT_SIZE:
                raise IssueError(f"the firmware answered with status {answer.status:#x} and {answer.size} bytes")
            raw = table.raw[:room]
            return bytes(answer.report), raw if any(raw) else b""
        raise IssueError(f"{self._path} was asked {_ATTEMPTS} times in vain")
