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

from attestation.errors import CertificateTableError, EndorsementsMissingError, EvidenceError, IssueError, ReportError
from attestation.evidence import Evidence, Kind
from attestation.snp.report import SIGNING_KEY_VLEK, parse_report
from attestation.snp.table import MAX_TABLE_SIZE, parse_certificate_table

_ATTEMPTS: Final = 8
_FIRST_PAUSE_S: Final = 0.05  # Doubled each time: about 6 s in all, while the firmware or another guest is busy.
_MAX_QUOTE: Final = 32_768
_BUSY: Final = frozenset((errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT))
_PROVIDERS: Final = {"sev_guest": Kind.SNP, "tdx_guest": Kind.TDX}
_NEEDED: Final = {"vek": "VCEK or VLEK", "intermediate": "ASK or ASVK", "root": "ARK"}


class TsmIssuer:
    """The secure processor behind *root*, normally ``/sys/kernel/config/tsm/report``."""

    def __init__(self, root: Path, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._root = root
        self._pause = pause

    @property
    def kind(self) -> Kind:
        """SNP: the one kind of real evidence that this version issues."""
        return Kind.SNP

    async def issue(self, report_data: bytes) -> Evidence:
        """See :class:`attestation.issuer.Issuer`."""
        return await asyncio.to_thread(self._issue, report_data)

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
            report = _read(directory / "outblob", _MAX_QUOTE)
            try:
                table = _read(directory / "auxblob", MAX_TABLE_SIZE)
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
    if _PROVIDERS.get(provider) is not Kind.SNP:
        raise IssueError(f"the secure processor is {provider[:32]!r}; this version issues evidence of sev_guest only")
    try:
        parsed = parse_report(report)
        certificates = (
            parse_certificate_table(table, prefer_vlek=parsed.signing_key == SIGNING_KEY_VLEK) if table else {}
        )
        if parsed.report_data != report_data:
            raise IssueError("the report is about other 64 bytes than those we asked for")
        missing = [name for role, name in _NEEDED.items() if role not in certificates]
        if missing:
            raise EndorsementsMissingError(
                f"the report came without {', '.join(missing)}: the host must provide the certificate table "
                "(VCEK or VLEK and its chain, for example with `snphost import`). "
                "A client of AMD's key service, which could fetch them here, comes with a later version"
            )
        return Evidence.make(Kind.SNP, {"report": report, **certificates})
    except (ReportError, CertificateTableError, EvidenceError) as error:
        raise IssueError(f"the secure processor's answer is unusable: {error}") from None


def _number(path: Path) -> int:
    text = _read(path, 32).decode("ascii", "replace").strip()
    if not text.isdigit():
        raise IssueError(f"{path} says {text!r}, wanted a number")
    return int(text)


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        content = bytearray()
        while chunk := file.read(limit + 1 - len(content)):
            content += chunk
            if len(content) > limit:
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
