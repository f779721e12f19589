"""Paths, tiles, bundles and receipts as other clients of tlog-tiles and tlog-proof read them."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle, proof
from ledger.checkpoint import Checkpoint, epoch_name, origin_of, read_checkpoint
from ledger.errors import NoteError, ProofError
from ledger.note import NoteSigner, sign_note
from ledger.proof import TlogProof, parse_proof
from ledger.tiles import (
    Tile,
    bundles_of,
    decode_bundle,
    encode_bundle,
    parse_path,
    split_tile,
    tiles_of,
    width_at,
)  # fmt: skip


def test_published_tile_paths(vectors: Path) -> None:
    """A mirror would ask for other files than we write."""
    cases = json.loads((vectors / "tlog" / "signed-notes" / "tile-paths.json").read_text())
    assert Tile(0, cases[1]["n"]).path() == f"tile/0/{cases[1]['encoded']}"
    for case in cases[2:]:
        tiles = list(tiles_of(case["tree_size"]))
        for level in range(3):
            row = [tile for tile in tiles if tile.level == level]
            assert sum(tile.width == 256 for tile in row) == case.get(f"level{level}_full", 0)
            assert sum(tile.width for tile in row if tile.width < 256) == case.get(f"level{level}_partial", 0)
    # tile/8/0/001 is the sum database's form, with the height in front; here it is level 8, which no log reaches.
    with pytest.raises(ProofError):
        parse_path("tile/8/0/001")


def test_the_published_log_is_read_at_every_size(vectors: Path) -> None:
    """An independent log's tiles and bundles would give another root."""
    folder = vectors / "tlog" / "tessera-log"
    for size in range(1, 16):
        checkpoint = read_checkpoint((folder / f"checkpoint.{size}").read_bytes())
        frontier = merkle.Frontier()
        (bundle,) = bundles_of(size)
        entries = decode_bundle((folder / bundle.path()).read_bytes(), size)
        assert encode_bundle(entries) == (folder / bundle.path()).read_bytes()
        leaves = [merkle.leaf_hash(entry) for entry in entries]
        frontier.extend(leaves)
        (tile,) = tiles_of(size)
        assert split_tile((folder / tile.path()).read_bytes(), size) == leaves
        assert frontier.root() == checkpoint.root


def test_the_published_two_level_log_is_consistent(vectors: Path) -> None:
    """Tiles above the lowest level would be computed in another way."""
    folder = next((vectors / "tlog" / "sunlight-skylight" / "witness" / "mirror").glob("0*"))
    checkpoint = read_checkpoint((folder / "checkpoint").read_bytes())
    tiles = {tile: split_tile((folder / tile.path()).read_bytes(), tile.width) for tile in tiles_of(checkpoint.size)}
    frontier = merkle.Frontier()
    full = merkle.Frontier()
    full.extend(tiles[Tile(0, 0)])
    assert tiles[Tile(1, 0, 1)] == [full.root()]
    for tile, hashes in tiles.items():
        if tile.level == 0:
            frontier.extend(hashes)
    assert (frontier.size, frontier.root()) == (checkpoint.size, checkpoint.root)


@given(st.integers(0, 2**55), st.sampled_from([0, 1, 7, "entries"]), st.integers(1, 256))
def test_every_path_is_read_back(index: int, level: int, width: int) -> None:
    """A route would serve another tile than it was asked for."""
    tile = Tile(level, index, width)
    assert parse_path(tile.path()) == tile


@pytest.mark.parametrize(
    "path",
    [
        "", "tile/0", "tile/0/1", "tile/0/0001", "tile/00/001", "tile/0/x000/001", "tile/0/001.p/256", "tile/0/001.p/0",
        "tile/0/001.p/01", "tile/0/x001/x234", "tile/0/../001", "tile/-1/001", "tile/9/001", "tile/entries/001/",
        "tile/0/001\n", "tile/0/\u0660\u0660\u0661", "x" * 500, "tile/0/" + "x999/" * 6 + "999",
    ],
)  # fmt: skip
def test_a_path_has_one_spelling(path: str) -> None:
    """A stranger's path could leave the log, or name one tile twice for a cache."""
    with pytest.raises(ProofError):
        parse_path(path)


def test_widths_follow_the_size() -> None:
    """A tile that does not exist yet would be served."""
    assert [width_at(Tile("entries", index), 300) for index in range(3)] == [256, 44, 0]
    assert [width_at(Tile(1, 0), size) for size in (255, 256, 70_000)] == [0, 1, 256]
    assert list(tiles_of(0)) == list(bundles_of(0)) == []


@pytest.mark.parametrize(
    ("raw", "width"), [(b"", 1), (b"\x00", 1), (b"\x00\x02a", 1), (b"\x00\x01ab", 1), (b"\x00\x01a", 2)]
)
def test_a_bundle_holds_exactly_its_entries(raw: bytes, width: int) -> None:
    """A bundle cut short or with bytes appended would pass."""
    with pytest.raises(ProofError):
        decode_bundle(raw, width)
    with pytest.raises(ProofError):
        split_tile(raw, width)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_a_bundle_is_read_back(entries: list[bytes]) -> None:
    """Entries would change on their way through a mirror."""
    assert decode_bundle(encode_bundle(entries), len(entries)) == entries


LEDGER = Ed25519PrivateKey.from_private_bytes(bytes(32))
EPOCH = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))
ORIGIN = origin_of(LEDGER.public_key().public_bytes_raw())
SIGNERS = [NoteSigner(ORIGIN, LEDGER), NoteSigner(epoch_name(ORIGIN), EPOCH)]
LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(5)]


def receipt(index: int = 2, signers: list[NoteSigner] = SIGNERS) -> TlogProof:
    frontier = merkle.Frontier()
    nodes = frontier.extend(LEAVES)
    path = merkle.inclusion_path(index, 5, lambda level, at: nodes[merkle.node_position(level, at)])
    note = sign_note(Checkpoint(ORIGIN, 5, frontier.root()).text(), signers)
    return TlogProof(index, tuple(path), note, b"extra bytes")


def verified(given_proof: TlogProof, leaf: bytes) -> Checkpoint:
    return proof.verify(given_proof, leaf, ledger_key=SIGNERS[0].key, epoch_keys=[SIGNERS[1].key])


def test_a_receipt_is_read_back_and_proves_its_entry() -> None:
    """A certificate's holder could not show that it is recorded."""
    for index in range(5):
        again = parse_proof(receipt(index).text().encode())
        assert again == receipt(index)
        assert verified(again, LEAVES[index]).size == 5
        with pytest.raises(ProofError):
            verified(again, LEAVES[index - 1])


def test_a_receipt_needs_both_signatures() -> None:
    """A receipt could be made with the seed alone."""
    for signers in (SIGNERS[:1], SIGNERS[1:]):
        with pytest.raises(NoteError):
            verified(receipt(signers=signers), LEAVES[2])


def test_a_receipt_has_the_published_form() -> None:
    """Other tlog clients could not read our receipts."""
    lines = receipt().text().split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1] == "extra " + base64.b64encode(b"extra bytes").decode()
    assert lines[2] == "index 2"
    assert lines[6] == ""
    assert "\n".join(lines[7:]) == receipt().checkpoint_raw


HASH_LINE = base64.b64encode(bytes(32)).decode() + "\n"


def changed(old: str, new: str) -> bytes:
    text = receipt().text()
    assert old in text
    return text.replace(old, new, 1).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\xff", changed("@v1", "@v2"), changed("index 2", "index 02"), changed("index 2", "index -2"),
        changed("index 2", "index \u0662"), changed("index 2", "index 9223372036854775808"), changed("index 2\n", ""),
        changed("extra ", "extra  "), changed("extra ZXh0cmEgYnl0ZXM=", "extra "), changed("=\n", "\n"),
        changed("index 2\n", "index 2\n" + "AAAA\n"), changed("index 2\n", "index 2\n" + HASH_LINE * 64),
        receipt().text().split("\n\n")[0].encode(), b"x" * 2_100_000,
    ],
)  # fmt: skip
def test_a_malformed_receipt_is_refused(raw: bytes) -> None:
    """A stranger's receipt would be read in two ways, or end the program."""
    with pytest.raises(ProofError):
        parse_proof(raw)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_receipt_or_a_proof_error(raw: bytes) -> None:
    """A stranger's bytes would end the program."""
    with pytest.raises(ProofError):
        parse_proof(b"c2sp.org/tlog-proof@v1\n" + raw.replace(b"\n\n", b"\n"))
