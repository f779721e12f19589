"""What a disk may hold after the power failed: recorded writes and syncs, replayed with unsynced ones lost at will."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.strace import run_victim

PAGE = 4096
_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)(.*)$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})*)>")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the victim did to its ledger's file, or said."""

    what: str  # write, durable write, sync, truncate, rename, directory sync, say
    offset: int = 0
    data: bytes = b""


@dataclass(slots=True)
class Disk:
    """The file: what is surely there, and the pages that the device may or may not have written."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    named: bool = False  # its name is in the directory, perhaps not yet for good
    named_for_good: bool = False

    def take(self, step: Step) -> None:
        if step.what == "rename":
            self.named = True
        elif step.what == "directory sync":
            self.named_for_good = self.named
        elif step.what == "write":
            # In pieces of a page: a device need not write the whole of a call, nor keep its order.
            end, at = step.offset + len(step.data), step.offset
            while at < end:
                upto = min(end, (at // PAGE + 1) * PAGE)
                self.pending.append((at, step.data[at - step.offset : upto - step.offset]))
                at = upto
        elif step.what == "durable write":
            put(self.durable, step.offset, step.data)
        elif step.what == "truncate":
            self.pending.append((step.offset, b""))
        elif step.what == "sync":
            for at, piece in self.pending:
                put(self.durable, at, piece)
            self.pending.clear()

    def after_power_loss(self, survives: Callable[[int], bool]) -> bytes | None:
        """The file when of the pending pieces only those survive that *survives* says yes to; None without a name."""
        if not self.named_for_good and not (self.named and survives(63)):
            return None
        image = bytearray(self.durable)
        for number, (at, piece) in enumerate(self.pending):
            if survives(number):
                put(image, at, piece)
        return bytes(image)


def put(image: bytearray, at: int, piece: bytes) -> None:
    if len(image) < at + len(piece):
        image.extend(bytes(at + len(piece) - len(image)))
    image[at : at + len(piece)] = piece


def record(mode: str, path: Path, trace: Path) -> list[Step]:
    """Let the victim work on the ledger at *path*; what it did to data.mdb, in order."""
    calls = "trace=write,writev,pwrite64,pwritev,fdatasync,fsync,ftruncate,truncate,lseek,openat,rename"
    run_victim(mode, path, ["-y", "-xx", "-s", "1000000", "-o", str(trace), "-e", calls])
    return list(_steps(trace.read_text().splitlines(), path))


def _steps(lines: Sequence[str], path: Path) -> list[Step]:
    # The file is made under another name and renamed; as an inode it is the same one.
    files = {str(path / "data.mdb").encode(), str(path / "new" / "data.mdb").encode()}
    steps: list[Step] = []
    at: dict[int, int] = {}
    synchronous: set[int] = set()
    for line in lines:
        call = _CALL.match(line)
        if call is None or call[3] == "-1":
            continue
        name, arguments, result, rest = call.groups()
        if name == "openat":
            found = _DESCRIPTOR.match(result + rest)
            if found and _bytes(found[2]) in files and "SYNC" in arguments:
                synchronous.add(int(result))
            continue
        if name == "truncate":
            if _bytes(_STRING.findall(arguments)[0]) in files:
                steps.append(Step("truncate", int(arguments.rpartition(",")[2])))
            continue
        if name == "rename":
            if _bytes(_STRING.findall(arguments)[1]) in files:
                steps.append(Step("rename"))
            continue
        target = _DESCRIPTOR.match(arguments)
        if target is None:
            continue
        number, data = int(target[1]), b"".join(_bytes(each) for each in _STRING.findall(arguments[target.end() :]))
        if number == 1 and name == "write":
            steps.append(Step("say", data=data))
        if name == "fsync" and _bytes(target[2]) == str(path).encode():
            steps.append(Step("directory sync"))
        if _bytes(target[2]) not in files:
            continue
        kind = "durable write" if number in synchronous else "write"
        match name:
            case "lseek":
                at[number] = int(result)
            case "write" | "writev":
                assert len(data) == int(result)
                steps.append(Step(kind, at.get(number, 0), data))
                at[number] = at.get(number, 0) + len(data)
            case "pwrite64":
                assert len(data) == int(result)
                steps.append(Step(kind, int(arguments.rpartition(",")[2]), data))
            case "fdatasync" | "fsync":
                steps.append(Step("sync"))
            case "ftruncate":
                steps.append(Step("truncate", int(arguments.rpartition(",")[2])))
            case _:
                raise AssertionError(name)
    return steps


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
