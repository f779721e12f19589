"""Evidence through the kernel's configfs-tsm (Linux 6.7 and later). File I/O on a thread; nothing is judged here.

One directory per request: the kernel makes its attributes, we write the 64 bytes and read the report back. A generation
counter tells whether somebody else wrote to the same directory in between.
"""

import asyncio
import errno
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from attestation.collateral.endorse import Endorser
from attestation.errors import CertificateTableError, EvidenceError, IssueError, QuoteError, ReportError
from attestation.evidence import Evidence, Kind
from attestation.snp.report import SIGNING_KEY_VLEK, parse_report
from attestation.snp.table import MAX_TABLE_SIZE, parse_certificate_table
from attestation.tdx.quote import MAX_QUOTE, parse_quote, quote_size

_ATTEMPTS: Final = 8
_FIRST_PAUSE_S: Final = 0.05  # Doubled each time: about 6 s in all, while the firmware or another guest is busy.
_BUSY: Final = frozenset((errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT))
log = structlog.get_logger("attestation")

_PROVIDERS: Final = {"sev_guest": Kind.SNP, "tdx_guest": Kind.TDX}


class TsmIssuer:
    """The secure processor behind *root*, normally ``/sys/kernel/config/tsm/report``.

    Args:
        root: the kernel's report directory.
        kind: what the processor is expected to be.
        endorser: adds what the host did not give; without one the evidence stays as it is, and whoever judges it must
            complete it.
        pause: waits, in seconds; on a thread.
    """

    def __init__(
        self,
        root: Path,
        *,
        kind: Kind = Kind.SNP,
        endorser: Endorser | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._root = root
        self._kind = kind
        self._endorser = endorser
        self._pause = pause

    @property
    def kind(self) -> Kind:
        """SNP or TDX."""
        return self._kind

    async def issue(self, report_data: bytes) -> Evidence:
        """See :class:`attestation.issuer.Issuer`."""
        evidence = await asyncio.to_thread(self._issue, report_data)
        return evidence if self._endorser is None else await self._endorser.complete(evidence)

    def _issue(self, report_data: bytes) -> Evidence:
        pause = _FIRST_PAUSE_S
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                provider, report, table = self._request(report_data)
                break
            except OSError as error:
                if error.errno not in _BUSY or attempt == _ATTEMPTS:
                    raise IssueError(
                        f"the kernel's report interface {self._root} failed at attempt {attempt} of {_ATTEMPTS}: "
                        f"{error}; see the kernel log of the guest"
                    ) from None
            except _OverwrittenError:
                if attempt == _ATTEMPTS:
                    raise IssueError(
                        f"another process wrote to our request in {self._root} each of {_ATTEMPTS} times"
                    ) from None
            self._pause(pause)
            pause *= 2
        else:
            raise IssueError("no attempt was made")
        return _evidence(provider, report, table, report_data)

    def _request(self, report_data: bytes) -> tuple[str, bytes, bytes]:
        directory = self._root / f"contrast-{os.getpid()}-{secrets.token_hex(8)}"
        directory.mkdir()
        try:
            before = _number(directory / "generation")
            _write(directory / "inblob", report_data)
            report = _read(directory / "outblob", MAX_QUOTE)
            try:
                # One byte more than is read of a table: that it is too long is for its reader to say.
                table = _read(directory / "auxblob", MAX_TABLE_SIZE, may_be_longer=True)
            except FileNotFoundError:  # The kernel leaves the attribute out where the host gave nothing.
                table = b""
            provider = _read(directory / "provider", 64).decode("ascii", "replace").strip()
            # The counter grows by one for each attribute written: ours, and nobody else's.
            if _number(directory / "generation") != before + 1:
                raise _OverwrittenError
            return provider, report, table
        finally:
            _remove(directory)


class _OverwrittenError(Exception):
    """Another process wrote to the directory of our request."""


def _evidence(provider: str, report: bytes, table: bytes, report_data: bytes) -> Evidence:
    match _PROVIDERS.get(provider):
        case Kind.SNP:
            return snp_evidence(report, table, report_data)
        case Kind.TDX:
            return tdx_evidence(report, report_data)
        case _:
            raise IssueError(f"the secure processor is {provider[:32]!r}, wanted {' or '.join(_PROVIDERS)}")


def snp_evidence(report: bytes, table: bytes, report_data: bytes) -> Evidence:
    """Evidence of a report and the certificate table that the host gave, which may be empty.

    The table is the host's, and what is in it are hints that others give, too: one that cannot be used counts as none,
    so that a host's mistake costs a question to the vendor and not the guest. The report is the processor's.

    Raises:
        IssueError: it is no report, or about other bytes than those asked for.
    """
    try:
        parsed = parse_report(report)
        if parsed.report_data != report_data:
            raise IssueError("the report is about other 64 bytes than those we asked for")
        bare = Evidence.make(Kind.SNP, {"report": report})
    except (ReportError, EvidenceError) as error:
        raise IssueError(f"the secure processor's answer is unusable: {error}") from None
    try:
        certificates = (
            parse_certificate_table(table, prefer_vlek=parsed.signing_key == SIGNING_KEY_VLEK) if table else {}
        )
        return Evidence.make(Kind.SNP, {"report": report, **certificates})
    except (CertificateTableError, EvidenceError) as error:
        log.warning("certificate table of the host unusable, certificates are asked for elsewhere", reason=str(error))
        return bare


def tdx_evidence(raw: bytes, report_data: bytes) -> Evidence:
    """Evidence of a quote; zero bytes behind it are the kernel's buffer, and no part of it.

    Raises:
        IssueError: it is no quote, or about other bytes than those asked for.
    """
    try:
        size = quote_size(raw)
        if any(raw[size:]):
            raise IssueError("the quote has something else than zero bytes behind it")
        quote = parse_quote(raw[:size])
        if quote.report_data != report_data:
            raise IssueError("the quote is about other 64 bytes than those we asked for")
        return Evidence.make(Kind.TDX, {"quote": quote.raw})
    except (QuoteError, EvidenceError) as error:
        raise IssueError(f"the quoting service's answer is unusable: {error}") from None


def _number(path: Path) -> int:
    text = _read(path, 32).decode("ascii", "replace").strip()
    if not text.isdigit():
        raise IssueError(f"{path} says {text!r}, wanted a number")
    return int(text)


def _read(path: Path, limit: int, *, may_be_longer: bool = False) -> bytes:
    """The content of *path*, up to *limit* bytes; one more of what may be longer, of anything else an error."""
    with path.open("rb", buffering=0) as file:
        content = bytearray()
        while chunk := file.read(limit + 1 - len(content)):
            content += chunk
            if len(content) > limit:
                if may_be_longer:
                    break
                raise IssueError(f"{path} gives more than {limit} bytes")
    return bytes(content)


def _write(path: Path, data: bytes) -> None:
    # In one write, and never creating: an attribute that is not there is the kernel's word, not a file to make.
    descriptor = os.open(path, os.O_WRONLY)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.EIO, "the kernel took a part of the write only")
    finally:
        os.close(descriptor)


def _remove(directory: Path) -> None:
    # configfs removes the attributes with the directory, and refuses to remove them one by one.
    try:
        directory.rmdir()
    except OSError as error:
        raise IssueError(
            f"{directory} cannot be removed ({error}); remove it by hand, or the next ones pile up"
        ) from None
