"""Exports: what is written is a log that tlog clients read, and what is read is checked like an open ledger."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import merkle
from ledger.checkpoint import read_checkpoint
from ledger.entry import parse_entry
from ledger.errors import LedgerContentError, LedgerEmptyError, LedgerError
from ledger.log import Log, open_log
from ledger.memory import MemoryStore
from ledger.source import DirectorySource, StoreSource, write_export
from ledger.tiles import bundles_of, decode_bundle, split_tile, tiles_of
from ledger.verify import replay_source
from tests.support.ledgers import chain, filled, store_of


@pytest.fixture(scope="module")
def log() -> Log:
    return filled(MemoryStore(), 600)


@pytest.fixture
def export(log: Log, tmp_path: Path) -> Path:
    write_export(log, tmp_path / "log")
    return tmp_path / "log"


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 600])
def test_an_export_verifies_at_every_shape(tmp_path: Path, size: int) -> None:
    """A reader would refuse the export of an honest Coordinator."""
    log = filled(MemoryStore(), size)
    raw = write_export(log, tmp_path)
    seen: list[int] = []
    verified = replay_source(DirectorySource(tmp_path), visit=lambda entry: seen.append(entry.body.seq))
    assert seen == list(range(size))
    assert (verified.size, verified.root, verified.head) == (size, log.root, log.head)
    assert verified.checkpoint_raw == raw == (tmp_path / "checkpoint").read_bytes()
    assert replay_source(StoreSource(log), workers=1).root == log.root
    assert not list(tmp_path.rglob("*.part"))


def test_the_export_is_a_tiled_log_to_others(export: Path, log: Log) -> None:
    """A mirror without code of ours could not read it."""
    checkpoint = read_checkpoint((export / "checkpoint").read_bytes())
    entries = [
        entry for tile in bundles_of(600) for entry in decode_bundle((export / tile.path()).read_bytes(), tile.width)
    ]
    hashes = [each for tile in tiles_of(600) if tile.level == 0
              for each in split_tile((export / tile.path()).read_bytes(), tile.width)]  # fmt: skip
    assert hashes == [merkle.leaf_hash(entry) for entry in entries]
    frontier = merkle.Frontier()
    frontier.extend(hashes)
    assert (checkpoint.size, checkpoint.root) == (600, frontier.root()) == (600, log.root)
    assert sorted(str(path.relative_to(export)) for path in export.rglob("tile/*/*") if path.is_file()) == [
        "tile/0/000", "tile/0/001", "tile/entries/000", "tile/entries/001"
    ]  # fmt: skip


def test_blobs_and_wanted_entries_stand_beside_the_log(log: Log, tmp_path: Path) -> None:
    """Manifests could not be read from an export, or control events only with everything else."""
    write_export(log, tmp_path, wanted=lambda kind: kind == "note.taken")
    source = DirectorySource(tmp_path)
    assert len(list((tmp_path / "entry").iterdir())) == 600
    assert source.entry(7) == (tmp_path / "entry" / "7").read_bytes() == log.entry(7).raw
    for digest in log.store.blob_digests():
        assert source.blob(digest) == log.blob(digest) == StoreSource(log).blob(digest)
    assert source.blob(bytes(32)) is None
    assert StoreSource(log).entry(7) == log.entry(7).raw


def test_an_entry_is_found_without_its_own_file(export: Path, log: Log) -> None:
    """An export without single entries would be half usable."""
    assert not (export / "entry").exists()
    assert DirectorySource(export).entry(300) == log.entry(300).raw
    assert list(DirectorySource(export).entries(250, 260)) == log.entries(250, 260)
    with pytest.raises(LedgerContentError, match="beyond the size"):
        DirectorySource(export).entry(9999)


def flip(path: Path, at: int = -5) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def bloat(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(10**9)


def remove(path: Path) -> None:
    path.unlink()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [flip, cut, grow, bloat, remove, pipe], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize(
    ("name", "seq"),
    [("tile/entries/001", range(256, 512)), ("tile/0/001", [256, None]), ("tile/0/002.p/88", [512, None]),
     ("tile/1/000.p/2", [0, None]), ("checkpoint", [None])],
)  # fmt: skip
def test_a_damaged_file_is_named(
    export: Path, damage: Callable[[Path], None], name: str, seq: list[int | None]
) -> None:
    """A changed export would pass, hang the reader, or fill its memory."""
    damage(export / name)
    if name == "checkpoint" and damage is flip:
        flip(export / name, 90)  # the signatures are the caller's; the text is ours
    with pytest.raises((LedgerContentError, LedgerEmptyError)) as caught:
        replay_source(DirectorySource(export))
    bad = getattr(caught.value, "seq", None)
    assert bad is None or bad in seq


def test_a_shortened_export_is_refused(export: Path, log: Log) -> None:
    """A history with its newest part cut off would pass with the newer checkpoint."""
    short = store_of(chain(300), MemoryStore())
    write_export(open_log(short), export.with_name("short"))
    (export.with_name("short") / "checkpoint").write_text(log.finished or "")
    with pytest.raises(LedgerContentError):
        replay_source(DirectorySource(export.with_name("short")))


def test_another_checkpoint_of_the_same_size_is_refused(tmp_path: Path) -> None:
    """A fork's checkpoint could be put over this history."""
    write_export(open_log(store_of(chain(5), MemoryStore())), tmp_path / "one")
    write_export(filled(MemoryStore(), 5), tmp_path / "two")
    (tmp_path / "two" / "checkpoint").replace(tmp_path / "one" / "checkpoint")
    with pytest.raises(LedgerContentError, match="the checkpoint says"):
        replay_source(DirectorySource(tmp_path / "one"), check_tiles=False)


def test_no_ledger_says_so(tmp_path: Path) -> None:
    """An empty directory would be an empty, valid history."""
    with pytest.raises(LedgerEmptyError, match="the file checkpoint is missing"):
        replay_source(DirectorySource(tmp_path))
    with pytest.raises(LedgerEmptyError):
        StoreSource(Log.empty(MemoryStore())).checkpoint()


def test_an_export_that_cannot_be_written_says_so(log: Log, tmp_path: Path) -> None:
    """A full or forbidden disk would look like a finished export."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerError, match="free space or name another"):
        write_export(log, tmp_path / "file" / "log")


def test_exported_entries_are_entries(export: Path) -> None:
    """Bytes would change between store and export."""
    assert [parse_entry(raw).body.seq for raw in DirectorySource(export).entries(0, 600)] == list(range(600))
