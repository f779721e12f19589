"""A look-alike of configfs-tsm as a real file system (FUSE), in a process of its own: run with the mount point.

``python -m tests.support.configfs DIRECTORY VENDOR_DIRECTORY`` mounts and stays in the foreground. mkdir makes the
kernel's attributes, rmdir removes them, each write counts the generation up, outblob is made when it is read.
"""
# ruff: noqa: ARG002 - the arguments of file system operations are FUSE's.

import errno
import stat
import sys
from pathlib import Path
from typing import Any

_MODES = {
    "inblob": 0o200,
    "outblob": 0o400,
    "auxblob": 0o400,
    "provider": 0o400,
    "generation": 0o400,
    "privlevel": 0o200,
}


class Report:
    """One directory of a request."""

    def __init__(self) -> None:
        self.generation = 0
        self.inblob = b""
        self.outblob: tuple[int, bytes] = (-1, b"")


def operations(base: type, fault: type[OSError], guest: Any, aux: bytes) -> Any:
    """The file system's operations, on mfusepy's *base*, failing with its *fault*."""

    class Tsm(base):  # type: ignore[misc]
        use_ns = True

        def __init__(self) -> None:
            self.reports: dict[str, Report] = {}
            self.busy = 0

        def _split(self, path: str) -> tuple[Report, str]:
            parts = path.strip("/").split("/")
            report = self.reports.get(parts[0])
            if report is None or len(parts) > 2 or (len(parts) == 2 and parts[1] not in _MODES):
                raise fault(errno.ENOENT)
            return report, parts[1] if len(parts) == 2 else ""

        def _content(self, report: Report, name: str) -> bytes:
            if name == "generation":
                return b"%d\n" % report.generation
            if name == "provider":
                return b"sev_guest\n"
            if name == "auxblob":
                return aux
            if len(report.inblob) != 64:
                raise fault(errno.EINVAL)
            if self.busy < 2:  # The first two readers of a mount meet a busy processor.
                self.busy += 1
                raise fault(errno.EBUSY)
            if report.outblob[0] != report.generation:
                report.outblob = report.generation, guest.report(report.inblob)
            return report.outblob[1]

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
            _, name = self._split(path)
            if not name:
                return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
            return {"st_mode": stat.S_IFREG | _MODES[name], "st_nlink": 1, "st_size": 0}

        def readdir(self, path: str, fh: int) -> list[str]:
            if path == "/":
                return [".", "..", *self.reports]
            self._split(path)
            return [".", "..", *_MODES]

        def mkdir(self, path: str, mode: int) -> int:
            name = path.strip("/")
            if "/" in name:
                raise fault(errno.EPERM)
            if name in self.reports:
                raise fault(errno.EEXIST)
            self.reports[name] = Report()
            return 0

        def rmdir(self, path: str) -> int:
            _, name = self._split(path)
            if name:
                raise fault(errno.ENOTDIR)
            del self.reports[path.strip("/")]
            return 0

        def unlink(self, path: str) -> int:
            raise fault(errno.EPERM)

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            raise fault(errno.EPERM)

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:
            return 0

        def open(self, path: str, flags: int) -> int:
            self._split(path)
            return 0

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            report, name = self._split(path)
            return self._content(report, name)[offset : offset + size]

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            report, name = self._split(path)
            if name != "inblob" or offset or len(data) > 64:
                raise fault(errno.EINVAL)
            report.inblob = bytes(data)
            report.generation += 1
            return len(data)

    return Tsm()


def main() -> None:
    import mfusepy  # noqa: PLC0415 needs libfuse: only this process does

    from attestation.simulated.processor import GuestLaunch, SecureProcessor  # noqa: PLC0415
    from attestation.simulated.vendor import VendorChain  # noqa: PLC0415
    from tests.support.certificate_table import GUID_ARK, GUID_ASK, GUID_CRL, GUID_VCEK, table  # noqa: PLC0415
    from tests.support.vendor import HOST_DATA, MEASUREMENT  # noqa: PLC0415

    mount, vendor = Path(sys.argv[1]), VendorChain.load(Path(sys.argv[2]))
    guest = SecureProcessor(vendor).launch(GuestLaunch(measurement=MEASUREMENT, host_data=HOST_DATA))
    aux = table(
        (GUID_VCEK, vendor.chip.certificate),
        (GUID_ASK, vendor.intermediate),
        (GUID_ARK, vendor.root),
        (GUID_CRL, vendor.crl),
    )
    # direct_io: sizes of attributes are not known before they are read, as in configfs.
    mfusepy.FUSE(
        operations(mfusepy.Operations, mfusepy.FuseOSError, guest, aux),
        str(mount),
        foreground=True,
        nothreads=True,
        direct_io=True,
    )


if __name__ == "__main__":
    main()
