"""`contrast ledger export`: a whole ledger as files that any web server serves; what it writes is not judged here."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import click

from cli.counting import counting
from cli.errors import LocalFileError
from cli.fetch import blobs_of
from cli.options import PATHS
from cli.session import Session, example, json_option
from cli.sources import open_source
from coordinator.events import CONTROL_TYPES, EventError, LedgerCreated, ManifestSet, decode_event
from ledger.checkpoint import read_checkpoint
from ledger.entry import parse_entry
from ledger.errors import LedgerContentError
from ledger.source import Source
from ledger.tiles import TILE_WIDTH, bundles_of, encode_bundle, tiles_of
from manifest.errors import ManifestError
from manifest.parse import parse_manifest

_MODE: Final = 0o644


class Sink(Protocol):
    """Where files of an export go."""

    def write(self, name: str, data: bytes) -> None:
        """Write the file *name*, once."""


@click.command(
    short_help="Write the whole ledger to a new directory or tar.",
    epilog=example(
        """contrast ledger export ledger/ public/
contrast ledger export https://coordinator.example.com:1313 ledger.tar"""
    ),
)
@click.argument("source")
@click.argument("dest", type=PATHS)
@json_option
@click.pass_obj
def export(session: Session, *, source: str, dest: Path) -> None:
    """Write the whole ledger of SOURCE to the new directory or tar DEST.

    Served by any web server it is the same log: C2SP tlog-tiles, which mirrors and monitors read, with entry/ for
    control events, blob/ for everything that events name, policy/ for the runtime policies, and tlog-policy for
    programs that check cosignatures. The same ledger gives the same bytes. Nothing is judged: `contrast audit` does.
    """
    with open_source(source) as opened, counting("entries", quiet=session.output.json_mode) as count:
        size = read_checkpoint(opened.checkpoint()).size
        with _Destination(dest) as unfinished:
            missing = write_export(opened, unfinished, progress=lambda done: count(done, size))
    session.output.document(
        {"ok": True, "size": size, "written": str(dest), "missing": [each.hex() for each in missing]}
    )
    session.output.say(f"{size} entries written to {dest}")
    for digest in missing:
        session.output.warn(f"the source withholds blob {digest.hex()}: it is missing in the export, too")


def write_export(source: Source, sink: Sink, *, progress: Callable[[int], None] = lambda _: None) -> list[bytes]:
    """Write everything that *source* holds into *sink*, in a fixed order, the checkpoint last.

    Returns:
        The blobs that events name and *source* has not.

    Raises:
        LedgerError: an entry, tile or blob is missing or malformed.
    """
    raw = source.checkpoint()
    size = read_checkpoint(raw).size
    named: dict[bytes, None] = {}
    manifests: list[bytes] = []
    for bundle in bundles_of(size):
        first = bundle.index * TILE_WIDTH
        entries = list(source.entries(first, first + bundle.width))
        if len(entries) != bundle.width:
            raise LedgerContentError(first + len(entries), "the record is missing")
        sink.write(bundle.path(), encode_bundle(entries))
        for seq, entry_raw in enumerate(entries, first):
            entry = parse_entry(entry_raw, seq)
            if entry.body.type in CONTROL_TYPES:
                sink.write(f"entry/{seq}", entry_raw)
            try:
                event, _ = decode_event(entry)
            except EventError:
                continue  # An auditor of the export refuses it, with its number.
            named.update(dict.fromkeys(blobs_of(event)))
            if isinstance(event, ManifestSet):
                manifests.append(event.manifest)
            if isinstance(event, LedgerCreated):
                sink.write("tlog-policy", _tlog_policy(event))
        progress(first + bundle.width)
    for tile in tiles_of(size):
        if tile.level != "entries":
            sink.write(tile.path(), source.tile(tile.level, tile.index, tile.width))
    policies = _policies(source, manifests)
    missing = []
    for digest in sorted({*named, *policies}):
        data = source.blob(digest)
        if data is None:
            missing.append(digest)
            continue
        sink.write(f"blob/{digest.hex()}", data)
        if digest in policies:
            sink.write(f"policy/{digest.hex()}.rego", data)
    sink.write("checkpoint", raw)
    return missing


def _policies(source: Source, manifests: list[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for digest in manifests:
        try:
            found |= set(parse_manifest(source.blob(digest) or b"", recorded=True).policies)
        except ManifestError:
            continue  # An auditor of the export refuses it.
    return found


def _tlog_policy(event: LedgerCreated) -> bytes:
    """The log for programs that read c2sp.org/tlog-policy; who asks for witnesses adds them."""
    return f"log {event.verifier_keys[0]}\nquorum none\n".encode()


class _Destination:
    """A directory or tar that appears under its name only when it is whole."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise LocalFileError(f"{path} exists already: name a new directory or tar")
        self._path = path
        self._part = path.with_name(path.name + ".part")
        if self._part.exists():
            raise LocalFileError(f"{self._part} exists: another export runs, or one broke off; remove it")
        self._tar: tarfile.TarFile | None = None

    def __enter__(self) -> Sink:
        if self._path.suffix == ".tar":
            # The oldest format there is: no times below a second, no extended headers that would differ.
            self._tar = tarfile.open(self._part, "w:", format=tarfile.USTAR_FORMAT)
        else:
            self._part.mkdir()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._tar is not None:
            self._tar.close()
        if kind is not None:
            shutil.rmtree(self._part) if self._part.is_dir() else self._part.unlink(missing_ok=True)
            return
        if self._path.is_dir():
            self._path.rmdir()
        self._part.rename(self._path)

    def write(self, name: str, data: bytes) -> None:
        """Write one file, the same way whenever and by whomever."""
        if self._tar is not None:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), _MODE
            self._tar.addfile(info, io.BytesIO(data))
            return
        path = self._part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
