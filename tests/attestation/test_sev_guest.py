"""``/dev/sev-guest``: structures and numbers against the kernel's header, and a look-alike of the driver."""

import ctypes
import errno
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from attestation.errors import IssueError
from attestation.sev_guest import (
    MAX_TABLE,
    SNP_GET_EXT_REPORT,
    GuestRequest,
    ReportRequest,
    ReportResponse,
    SevGuestIssuer,
)
from attestation.snp.report import parse_report
from tests.support.certificate_table import GUID_ARK, GUID_ASK, GUID_VCEK, table
from tests.support.vendor import launch, vendor_chain

REPORT_DATA = b"\x52" * 64
HEADER = Path("/usr/include/linux/sev-guest.h")
_PROGRAM = """
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <linux/sev-guest.h>
int main(void) {
  printf("%zu %zu %zu %zu %zu %zu %zu %zu %lu\\n",
    sizeof(struct snp_guest_request_ioctl), offsetof(struct snp_guest_request_ioctl, req_data),
    offsetof(struct snp_guest_request_ioctl, resp_data), offsetof(struct snp_guest_request_ioctl, exitinfo2),
    sizeof(struct snp_ext_report_req), offsetof(struct snp_ext_report_req, certs_address),
    offsetof(struct snp_ext_report_req, certs_len), sizeof(struct snp_report_resp), (unsigned long)SNP_GET_EXT_REPORT);
}
"""


class Driver:
    """What the kernel does with one ioctl, by the addresses that it is given."""

    def __init__(self, certificates: bytes = b"") -> None:
        self.certificates = certificates
        self.guest = launch(vendor_chain())
        self.busy = 0
        self.status = 0
        self.needs = 0
        self.error: int | None = None
        self.answer: Callable[[bytes], bytes] = self.guest.report
        self.asked: list[int] = []

    def __call__(self, _descriptor: int, number: int, request: GuestRequest) -> int:
        assert number == SNP_GET_EXT_REPORT
        assert request.msg_version == 1
        wanted = ReportRequest.from_address(request.req_data)
        answer = ReportResponse.from_address(request.resp_data)
        assert bytes(wanted.reserved) == bytes(28)
        self.asked.append(wanted.certs_len)
        if self.error is not None:
            request.fw_error = 0x27
            raise OSError(self.error, "look-alike")
        if self.busy:
            self.busy -= 1
            request.vmm_error = 2
            raise OSError(errno.EAGAIN, "busy")
        if self.needs:
            wanted.certs_len, self.needs = self.needs, 0
            request.vmm_error = 1
            raise OSError(errno.EIO, "length")
        if wanted.certs_len:
            ctypes.memmove(wanted.certs_address, self.certificates, len(self.certificates))
        answer.status, answer.size = self.status, 1184
        report = self.answer(bytes(wanted.user_data))
        ctypes.memmove(ctypes.addressof(answer) + 32, report, min(len(report), 1184))
        return 0


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "sev-guest"
    path.touch()
    return path


def issuer(device: Path, driver: Driver) -> tuple[SevGuestIssuer, list[float]]:
    pauses: list[float] = []
    return SevGuestIssuer(device, ioctl=driver, pause=pauses.append), pauses


def test_structures_and_number_are_the_kernels(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not HEADER.is_file():
        pytest.skip(f"no C compiler, or no {HEADER} (linux-libc-dev) to compare with")
    (tmp_path / "sizes.c").write_text(_PROGRAM)
    subprocess.run([compiler, "-o", tmp_path / "sizes", tmp_path / "sizes.c"], check=True)
    output = subprocess.run([tmp_path / "sizes"], check=True, stdout=subprocess.PIPE).stdout
    assert list(map(int, output.split())) == [
        ctypes.sizeof(GuestRequest),
        GuestRequest.req_data.offset,
        GuestRequest.resp_data.offset,
        GuestRequest.fw_error.offset,
        ctypes.sizeof(ReportRequest),
        ReportRequest.certs_address.offset,
        ReportRequest.certs_len.offset,
        ctypes.sizeof(ReportResponse),
        SNP_GET_EXT_REPORT,
    ]


def test_sizes_are_those_of_the_abi_wherever_this_runs() -> None:
    assert (ctypes.sizeof(GuestRequest), ctypes.sizeof(ReportRequest), ctypes.sizeof(ReportResponse)) == (32, 112, 4000)
    number = 3 << 30 | ctypes.sizeof(GuestRequest) << 16 | ord("S") << 8 | 2
    assert number == SNP_GET_EXT_REPORT


async def test_a_report_comes_with_the_hosts_certificates(device: Path) -> None:
    vendor = vendor_chain()
    driver = Driver(
        table((GUID_VCEK, vendor.chip.certificate), (GUID_ASK, vendor.intermediate), (GUID_ARK, vendor.root))
    )
    evidence = await issuer(device, driver)[0].issue(REPORT_DATA)
    assert parse_report(evidence.part("report") or b"").report_data == REPORT_DATA
    assert evidence.part("vek") == vendor.chip.certificate
    assert evidence.part("root") == vendor.root


async def test_a_host_without_certificates_leaves_the_report(device: Path) -> None:
    evidence = await issuer(device, Driver())[0].issue(REPORT_DATA)
    assert [role for role, _ in evidence.parts] == ["report"]


async def test_a_busy_hypervisor_is_asked_again(device: Path) -> None:
    driver = Driver()
    driver.busy = 3
    guest, pauses = issuer(device, driver)
    await guest.issue(REPORT_DATA)
    assert len(pauses) == 3
    assert pauses == sorted(pauses)
    driver.busy = 100
    with pytest.raises(IssueError, match="attempt 8 of 8"):
        await guest.issue(REPORT_DATA)


async def test_a_table_of_another_length_is_asked_for_again(device: Path) -> None:
    driver = Driver()
    driver.needs = 8192
    await issuer(device, driver)[0].issue(REPORT_DATA)
    assert driver.asked == [MAX_TABLE, 8192]
    driver.needs = 1 << 30
    with pytest.raises(IssueError, match="hypervisor error 0x1"):
        await issuer(device, driver)[0].issue(REPORT_DATA)


async def test_a_refusal_of_the_firmware_is_told_with_its_number(device: Path) -> None:
    driver = Driver()
    driver.error = errno.EIO
    with pytest.raises(IssueError, match="firmware error 0x27"):
        await issuer(device, driver)[0].issue(REPORT_DATA)
    driver.error, driver.status = None, 0x16
    with pytest.raises(IssueError, match="status 0x16"):
        await issuer(device, driver)[0].issue(REPORT_DATA)


async def test_a_report_about_something_else_is_refused(device: Path) -> None:
    driver = Driver()
    driver.answer = lambda _: driver.guest.report(bytes(64))
    with pytest.raises(IssueError, match="other 64 bytes"):
        await issuer(device, driver)[0].issue(REPORT_DATA)


async def test_a_device_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(IssueError, match="cannot be opened"):
        await SevGuestIssuer(tmp_path / "none").issue(REPORT_DATA)
