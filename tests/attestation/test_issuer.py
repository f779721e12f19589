"""Which issuer a guest gets, and the kernel's report interface, on a look-alike directory."""

import asyncio
import errno
import io
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import Any, ClassVar

import pytest
import structlog

from attestation.errors import (
    EndorsementsMissingError,
    IssueError,
    NoSecureProcessorError,
    SimulatedBesideRealError,
)
from attestation.evidence import Evidence, Kind
from attestation.issuer import VARIABLE, SimulatedIssuer, find_issuer
from attestation.judge import judge
from attestation.sev_guest import SevGuestIssuer
from attestation.simulated.socket import serve
from attestation.snp.report import parse_report
from attestation.tsm import TsmIssuer
from tests.support.certificate_table import GUID_ARK, GUID_ASK, GUID_CRL, GUID_VCEK, table
from tests.support.tdx_vectors import find_quote
from tests.support.vendor import HOST_DATA, NOW, launch, reference_values, vendor_chain
from tests.support.vendor_services import Service, amd_only, endorsing, serving

REPORT_DATA = b"\x52" * 64


class ConfigfsPath(PosixPath):
    """A directory that behaves as configfs-tsm: mkdir makes the attributes, rmdir removes them, outblob is computed."""

    aux: ClassVar[bytes | None] = None
    provider: ClassVar[bytes] = b"sev_guest\n"
    failures: ClassVar[list[int]] = []
    foreign_writes: ClassVar[int] = 0
    answer: ClassVar[Callable[[bytes], bytes]]
    requests: ClassVar[list[str]] = []

    def mkdir(self, *args: Any, **kwargs: Any) -> None:
        super().mkdir(*args, **kwargs)
        self.requests.append(self.name)
        for name in ("inblob", "outblob", "provider", "generation"):
            Path(self / name).touch()
        Path(self / "provider").write_bytes(self.provider)
        if self.aux is not None:
            Path(self / "auxblob").write_bytes(self.aux)

    def rmdir(self) -> None:
        shutil.rmtree(Path(self))

    def open(self, *args: Any, **kwargs: Any) -> Any:
        written = Path(self.parent / "inblob").read_bytes()
        if self.name == "generation":
            generation = 0
            if written:
                generation = 1
                if ConfigfsPath.foreign_writes:
                    ConfigfsPath.foreign_writes -= 1
                    generation = 2
            return io.BytesIO(b"%d\n" % generation)
        if self.name == "outblob":
            if self.failures:
                raise OSError(self.failures.pop(0), "look-alike")
            return io.BytesIO(type(self).answer(written))
        return super().open(*args, **kwargs)


@pytest.fixture
def tsm(tmp_path: Path) -> ConfigfsPath:
    vendor = vendor_chain()
    ConfigfsPath.aux = table(
        (GUID_VCEK, vendor.chip.certificate),
        (GUID_ASK, vendor.intermediate),
        (GUID_ARK, vendor.root),
        (GUID_CRL, vendor.crl),
    )
    ConfigfsPath.provider = b"sev_guest\n"
    ConfigfsPath.failures = []
    ConfigfsPath.foreign_writes = 0
    ConfigfsPath.requests = []
    ConfigfsPath.answer = launch(vendor).report
    return ConfigfsPath(tmp_path)


def leftovers(root: Path) -> list[Path]:
    return list(Path(root).iterdir())


def issuer(root: Path) -> tuple[TsmIssuer, list[float]]:
    pauses: list[float] = []
    return TsmIssuer(root, pause=pauses.append), pauses


def publish(service: Service) -> None:
    """What a key service has of the simulated vendor."""
    vendor = vendor_chain()
    chip, tcb = vendor.chip.chip_id.hex(), vendor.chip.tcb
    query = f"blSPL={tcb.bootloader:02}&teeSPL={tcb.tee:02}&snpSPL={tcb.snp:02}&ucodeSPL={tcb.microcode:02}"
    service.add(f"/vcek/v1/Milan/{chip}?{query}", vendor.chip.certificate)
    pem = "".join(ssl.DER_cert_to_PEM_cert(each) for each in (vendor.intermediate, vendor.root))
    service.add("/vcek/v1/Milan/cert_chain", pem.encode())
    service.add("/vcek/v1/Milan/crl", vendor.crl)


async def test_the_kernels_interface_gives_whole_evidence(tsm: ConfigfsPath) -> None:
    evidence = await issuer(tsm)[0].issue(REPORT_DATA)
    assert evidence.kind is Kind.SNP
    # The same parts under a simulated anchor: the bytes must be judged as they are.
    verdict = judge(
        Evidence(Kind.SIMULATED, evidence.parts),
        [reference_values(vendor_chain())],
        report_data=REPORT_DATA,
        host_data={HOST_DATA},
        now=NOW,
    )
    assert verdict.accepted
    assert leftovers(tsm) == []


async def test_each_request_has_a_directory_of_its_own(tsm: ConfigfsPath) -> None:
    tsm_issuer, _ = issuer(tsm)
    first, second = await asyncio.gather(tsm_issuer.issue(b"1" * 64), tsm_issuer.issue(b"2" * 64))
    assert parse_report(first.part("report") or b"").report_data == b"1" * 64
    assert parse_report(second.part("report") or b"").report_data == b"2" * 64
    assert len(set(tsm.requests)) == 2
    assert leftovers(tsm) == []


async def test_a_busy_processor_is_asked_again_with_growing_pauses(tsm: ConfigfsPath) -> None:
    ConfigfsPath.failures = [errno.EBUSY, errno.EAGAIN, errno.EBUSY]
    tsm_issuer, pauses = issuer(tsm)
    await tsm_issuer.issue(REPORT_DATA)
    assert pauses == sorted(pauses)
    assert len(pauses) == 3
    assert leftovers(tsm) == []


async def test_a_processor_busy_for_ever_is_given_up(tsm: ConfigfsPath) -> None:
    ConfigfsPath.failures = [errno.EBUSY] * 100
    tsm_issuer, pauses = issuer(tsm)
    with pytest.raises(IssueError, match="attempt 8 of 8"):
        await tsm_issuer.issue(REPORT_DATA)
    assert len(pauses) == 7
    assert leftovers(tsm) == []


async def test_another_failure_is_not_retried(tsm: ConfigfsPath) -> None:
    ConfigfsPath.failures = [errno.EIO]
    tsm_issuer, pauses = issuer(tsm)
    with pytest.raises(IssueError, match="attempt 1 of 8"):
        await tsm_issuer.issue(REPORT_DATA)
    assert pauses == []
    assert leftovers(tsm) == []


async def test_a_report_that_somebody_overwrote_is_thrown_away(tsm: ConfigfsPath) -> None:
    ConfigfsPath.foreign_writes = 2
    tsm_issuer, pauses = issuer(tsm)
    await tsm_issuer.issue(REPORT_DATA)
    assert len(pauses) == 2
    ConfigfsPath.foreign_writes = 100
    with pytest.raises(IssueError, match="another process wrote"):
        await tsm_issuer.issue(REPORT_DATA)


async def test_a_report_without_endorsements_goes_out_as_it_is(tsm: ConfigfsPath) -> None:
    """Whoever judges it completes it: two hundred pods then make one question, not two hundred."""
    ConfigfsPath.aux = None
    assert [role for role, _ in (await issuer(tsm)[0].issue(REPORT_DATA)).parts] == ["report"]
    ConfigfsPath.aux = table((GUID_VCEK, vendor_chain().chip.certificate))
    assert [role for role, _ in (await issuer(tsm)[0].issue(REPORT_DATA)).parts] == ["report", "vek"]


async def test_who_has_an_endorser_completes_its_own_evidence(tsm: ConfigfsPath) -> None:
    """A Coordinator's evidence must be whole: its verifiers may be offline."""
    ConfigfsPath.aux = None
    vendor = vendor_chain()
    async with serving() as service, endorsing(amd_only, service) as endorser:
        guest = TsmIssuer(tsm, endorser=endorser, pause=lambda _: None)
        with pytest.raises(EndorsementsMissingError, match="no VCEK"):
            await guest.issue(REPORT_DATA)
        publish(service)
    async with serving(service) as again, endorsing(amd_only, again) as endorser:
        evidence = await TsmIssuer(tsm, endorser=endorser, pause=lambda _: None).issue(REPORT_DATA)
    verdict = judge(
        Evidence(Kind.SIMULATED, evidence.parts),
        [reference_values(vendor)],
        report_data=REPORT_DATA,
        host_data={HOST_DATA},
        now=NOW,
    )
    assert verdict.accepted, verdict.failures


async def test_a_quote_comes_out_of_the_same_interface(tsm: ConfigfsPath, vectors: Path) -> None:
    """Zero bytes of the kernel's buffer are no part of it; anything else behind it is refused."""
    quote = find_quote(vectors, "go-tdx-guest-cf77a6e9")
    ConfigfsPath.provider, ConfigfsPath.aux = b"tdx_guest\n", None
    ConfigfsPath.answer = lambda _: quote.raw + bytes(3186)
    guest = TsmIssuer(tsm, kind=Kind.TDX, pause=lambda _: None)
    assert guest.kind is Kind.TDX
    evidence = await guest.issue(quote.parsed.report_data)
    assert evidence == Evidence.make(Kind.TDX, {"quote": quote.raw})
    with pytest.raises(IssueError, match="other 64 bytes"):
        await guest.issue(REPORT_DATA)
    ConfigfsPath.answer = lambda _: quote.raw + b"\0x"
    with pytest.raises(IssueError, match="behind it"):
        await guest.issue(quote.parsed.report_data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provider": b"tdx_guest\n"}, "quoting service's answer is unusable"),
        ({"provider": b"\xff" * 60}, "wanted sev_guest or tdx_guest"),
        ({"answer": lambda _: bytes(1184)}, "version 0"),
        ({"answer": lambda data: launch(vendor_chain()).report(data)[:-1]}, "1183 bytes"),
        ({"answer": lambda _: launch(vendor_chain()).report(b"\1" * 64)}, "other 64 bytes"),
        ({"answer": lambda _: bytes(40_000)}, "more than 32768"),
    ],
    ids=["tdx", "odd", "zeros", "short", "other", "long"],
)
async def test_an_unusable_answer_is_an_error_in_words(
    tsm: ConfigfsPath, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    for name, value in change.items():
        monkeypatch.setattr(ConfigfsPath, name, staticmethod(value) if callable(value) else value)
    with pytest.raises(IssueError, match=message):
        await issuer(tsm)[0].issue(REPORT_DATA)
    assert leftovers(tsm) == []


BAD_TABLES = {
    "torn": b"\1" * 24,
    "without end": table((GUID_VCEK, b"x"), end=False),
    "outside": GUID_VCEK + (1 << 20).to_bytes(4, "little") + b"\1\0\0\0" + bytes(24),
    "twice": table((GUID_VCEK, b"x"), (GUID_VCEK, b"y")),
    "half a PEM": table((GUID_ASK, b"-----BEGIN CERTIFICATE-----\nMII")),
    "too long": table((GUID_VCEK, bytes(200_000))),
    "a part too long": table((GUID_VCEK, bytes(100_000))),
}


@pytest.mark.parametrize("bad", BAD_TABLES.values(), ids=BAD_TABLES.keys())
async def test_a_bad_table_of_the_host_costs_the_hints_in_it_and_not_the_report(tsm: ConfigfsPath, bad: bytes) -> None:
    """The table is untrusted anyway: a host that garbles it must not keep its guests from starting, and is named."""
    ConfigfsPath.aux = bad
    with structlog.testing.capture_logs() as logged:
        evidence = await issuer(tsm)[0].issue(REPORT_DATA)
    assert [role for role, _ in evidence.parts] == ["report"]
    (line,) = logged
    assert (line["log_level"], "table" in line["event"], bool(line["reason"])) == ("warning", True, True)
    assert leftovers(tsm) == []


@pytest.mark.parametrize("bad", BAD_TABLES.values(), ids=BAD_TABLES.keys())
async def test_a_guest_with_a_bad_table_is_accepted_with_certificates_from_elsewhere(
    tsm: ConfigfsPath, bad: bytes
) -> None:
    ConfigfsPath.aux = bad
    vendor = vendor_chain()
    async with serving() as service, endorsing(amd_only, service) as endorser:
        publish(service)
        evidence = await TsmIssuer(tsm, endorser=endorser, pause=lambda _: None).issue(REPORT_DATA)
    assert judge(
        Evidence(Kind.SIMULATED, evidence.parts),
        [reference_values(vendor)],
        report_data=REPORT_DATA,
        host_data={HOST_DATA},
        now=NOW,
    ).accepted


async def test_an_attribute_is_never_created(tmp_path: Path) -> None:
    """A directory that is no configfs must not be filled with files that look like one."""
    with pytest.raises(IssueError, match="report interface"):
        await TsmIssuer(tmp_path).issue(REPORT_DATA)


def test_a_real_processor_goes_first(tmp_path: Path) -> None:
    root = tmp_path / "report"
    root.mkdir()
    found = find_issuer({}, tsm_root=root, dev=tmp_path)
    assert isinstance(found, TsmIssuer)
    assert found.kind is Kind.SNP
    (tmp_path / "tdx_guest").touch()
    assert find_issuer({}, tsm_root=root, dev=tmp_path).kind is Kind.TDX


@pytest.mark.parametrize("real", ["report", "sev-guest", "tdx_guest"])
def test_a_simulated_processor_beside_a_real_one_is_refused(tmp_path: Path, real: str) -> None:
    """Otherwise who controls the environment could replace hardware by a key on disk."""
    (tmp_path / real).mkdir()
    with pytest.raises(SimulatedBesideRealError, match=f"unset {VARIABLE}"):
        find_issuer({VARIABLE: "/tmp/x"}, tsm_root=tmp_path / "report", dev=tmp_path)


def test_a_processor_without_the_kernels_interface_says_what_to_mount(tmp_path: Path) -> None:
    (tmp_path / "tdx_guest").touch()
    with pytest.raises(NoSecureProcessorError, match="mount configfs"):
        find_issuer({}, tsm_root=tmp_path / "report", dev=tmp_path)


def test_an_older_kernels_device_serves_where_configfs_does_not(tmp_path: Path) -> None:
    (tmp_path / "sev-guest").touch()
    found = find_issuer({}, tsm_root=tmp_path / "report", dev=tmp_path)
    assert isinstance(found, SevGuestIssuer)
    assert found.kind is Kind.SNP


@pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}])
def test_no_processor_at_all_says_what_to_do(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(NoSecureProcessorError, match="contrast dev guest"):
        find_issuer(environ, tsm_root=tmp_path / "report", dev=tmp_path)


async def test_a_named_simulated_processor_is_used(tmp_path: Path) -> None:
    path = tmp_path / "s"
    found = find_issuer({VARIABLE: str(path)}, tsm_root=tmp_path / "report", dev=tmp_path)
    assert isinstance(found, SimulatedIssuer)
    assert found.kind is Kind.SIMULATED
    async with serve(launch(vendor_chain()), path):
        evidence = await found.issue(REPORT_DATA)
    assert evidence.kind is Kind.SIMULATED
