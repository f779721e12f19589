"""How fast the layers of a 1 GiB image are read, beside what its hashes alone cost. No registry and no network.

Row ``policy.layers``: plain layers to users, diff ids, tarfs index and dm-verity roots (``--layers verity``); the limit
is ``veritysetup format`` on the same bytes. Row ``policy.layers.pull``: gzip layers to users and diff ids (guest pull);
the limit is SHA-256 of the stored bytes, decompression, and SHA-256 of the plain bytes in one bare loop. Limits are
measured around every round in the same process; the quotient of the medians counts.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from images.build import CONFIG_TYPE, MANIFEST_TYPE, TAR_TYPE, digest_of
from images.layout import OciLayout
from images.tar import Member, TarWalker
from images.tarfs import TarfsIndex

LAYERS = 4
LAYER = 256 << 20
ROUNDS = 3
_CHUNK = 1 << 20
_MANY = (1 << 10, 4 << 10, 9 << 10, 30 << 10, 200 << 10)  # Sizes of files, about as a Python image has them.


def body() -> bytes:
    """The files of a layer: random and repeated bytes in turn, so that they compress to about half."""
    stream = io.BytesIO()
    random = os.urandom(1 << 20)
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        number = 0
        while stream.tell() < LAYER:
            size = _MANY[number % len(_MANY)]
            start = number * 977 % (1 << 19)
            data = (random[start : start + 512] + b"import os, sys, json, typing\n" * 18)[:1024] * (size // 1024)
            info = tarfile.TarInfo(f"usr/lib/python3/dist-packages/package{number % 97}/module{number}.py")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            number += 1
    return stream.getvalue()


def head(number: int) -> bytes:
    """What makes one layer another than the next: a file in front, without the end of a tar."""
    info = tarfile.TarInfo(f"layer{number}")
    return info.tobuf(tarfile.GNU_FORMAT)


def write(folder: Path, stored: Iterable[bytes], kind: str, diff_ids: Sequence[str]) -> str:
    """An OCI layout with one image; returns its digest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = digest_of(data)
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": list(diff_ids)}}
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": put(json.dumps(config).encode(), CONFIG_TYPE),
        "layers": [put(layer, TAR_TYPE + kind) for layer in stored],
    }
    return str(put(json.dumps(document).encode(), MANIFEST_TYPE)["digest"])


def indexed(raw: bytes) -> bytes:
    """A layer with its index, as the snapshotter would hand it to the kernel."""
    index = TarfsIndex()

    def visit(member: Member) -> bool:
        index.add(member)
        return False

    walker = TarWalker(visit)
    for start in range(0, len(raw), _CHUNK):
        walker.feed(raw[start : start + _CHUNK])
    walker.finish()
    return index.pack(len(raw))


def veritysetup(program: str, devices: Sequence[Path], hashes: Path) -> list[str]:
    """The root hashes of *devices*."""
    found = []
    for device in devices:
        said = subprocess.run(
            [
                program, "format", "--no-superblock", "--hash=sha256", "--data-block-size=4096",
                "--hash-block-size=4096", f"--salt={'0' * 64}", str(device), str(hashes),
            ],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        found.append(next(line.split()[-1] for line in said.splitlines() if line.startswith("Root hash")))
    return found


def bare(files: Sequence[Path]) -> list[str]:
    """Hash, inflate, hash: nothing else."""
    found = []
    for path in files:
        raw, plain, inflate = hashlib.sha256(), hashlib.sha256(), zlib.decompressobj(wbits=31)
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                raw.update(data)
                while data:
                    plain.update(inflate.decompress(data, _CHUNK))
                    data = inflate.unconsumed_tail
                    if inflate.eof:
                        data, inflate = inflate.unused_data, zlib.decompressobj(wbits=31)
        found.append(f"sha256:{plain.hexdigest()}")
    return found


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def row(ours: Callable[[], object], limit: Callable[[], object], size: int, limit_is: str) -> dict[str, float | str]:
    """One row; every round measures the limit, ours and the limit again."""
    spent, bounds = [], []
    for _ in range(ROUNDS):
        bounds.append(timed(limit))
        spent.append(timed(ours))
        bounds.append(timed(limit))
    value, bound = (size / 1e6 / statistics.median(seconds) for seconds in (spent, bounds))
    return {
        "value": round(value, 1), "limit": round(bound, 1), "ratio": round(value / bound, 3), "unit": "MB/s",
        "limit_is": limit_is, "bytes": size,
    }  # fmt: skip


def rows() -> dict[str, dict[str, float | str]]:
    """The rows of build/bench.json."""
    found: dict[str, dict[str, float | str]] = {}
    files = body()
    with tempfile.TemporaryDirectory(prefix="policy-layers-", dir=os.environ.get("CONTRAST_BENCH_DIR")) as name:
        folder = Path(name)
        plain = [head(number) + files for number in range(LAYERS)]
        size = sum(map(len, plain))
        diff_ids = [digest_of(layer) for layer in plain]
        if program := shutil.which("veritysetup", path="/usr/sbin:/sbin:/usr/bin:/bin"):
            found["policy.layers"] = _verity(folder / "plain", plain, diff_ids, program, size)
        packed = gzip.compress(files, 1, mtime=0)
        heads = [gzip.compress(head(number), 1, mtime=0) for number in range(LAYERS)]
        del plain, files
        digest = write(folder / "gzip", (start + packed for start in heads), "+gzip", diff_ids)
        layout = OciLayout(folder / "gzip")
        image = layout.image(digest)
        paths = [folder / "gzip/blobs/sha256" / layer.digest.removeprefix("sha256:") for layer in image.layers]
        if bare(paths) != diff_ids:
            raise RuntimeError("the bare loop reads other bytes")
        found["policy.layers.pull"] = row(
            lambda: layout.scan(image), lambda: bare(paths), size, "SHA-256, inflate, SHA-256 in a bare loop"
        )
    return found


def _verity(
    folder: Path, plain: Sequence[bytes], diff_ids: Sequence[str], program: str, size: int
) -> dict[str, float | str]:
    digest = write(folder, plain, "", diff_ids)
    layout = OciLayout(folder)
    image = layout.image(digest)
    devices = [folder / f"device{number}" for number in range(len(plain))]
    for layer, device in zip(plain, devices, strict=True):
        with device.open("wb") as file:
            file.write(layer)
            file.write(indexed(layer))
    roots = layout.scan(image, verity=True).roots
    if [root.hex() for root in roots or ()] != veritysetup(program, devices, folder / "hashes"):
        raise RuntimeError("veritysetup finds other root hashes")
    return row(
        lambda: layout.scan(image, verity=True),
        lambda: veritysetup(program, devices, folder / "hashes"),
        size,
        "veritysetup format",
    )


if __name__ == "__main__":
    print(json.dumps(rows(), indent=2))
