"""The tree against every published vector, and against the recursive definition of RFC 6962."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle
from ledger.errors import ProofError
from ledger.merkle import EMPTY_ROOT, Frontier, node_hash

LEAVES = [merkle.leaf_hash(number.to_bytes(2, "big")) for number in range(600)]


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(mth(leaves[:split]), mth(leaves[split:]))


def grown(size: int) -> tuple[list[bytes], bytes]:
    frontier = Frontier()
    nodes = frontier.extend(LEAVES[:size])
    return nodes, frontier.root()


NODES, _ = grown(600)


def node(level: int, index: int) -> bytes:
    return NODES[merkle.node_position(level, index)]


def unbase64(text: str | None) -> bytes:
    return base64.b64decode(text) if text else b""


def probe_inclusion(case: dict[str, Any], path: list[bytes]) -> None:
    leaf, root = unbase64(case["leafHash"]), unbase64(case["root"])
    merkle.verify_inclusion(leaf, case["leafIdx"], case["treeSize"], path, root)


def probe_consistency(case: dict[str, Any], path: list[bytes]) -> None:
    roots = unbase64(case["root1"]), unbase64(case["root2"])
    merkle.verify_consistency(case["size1"], case["size2"], *roots, path)


def probe_subtree_inclusion(case: dict[str, Any], path: list[bytes]) -> None:
    merkle.verify_subtree_inclusion(
        unbase64(case["leafHash"]), case["leafIdx"], start=case["start"], end=case["end"], path=path,
        root=unbase64(case["root"]),
    )  # fmt: skip


def probe_subtree_consistency(case: dict[str, Any], path: list[bytes]) -> None:
    merkle.verify_subtree_consistency(
        start=case["start"], end=case["end"], size=case["size"], subtree_root=unbase64(case["root1"]),
        root=unbase64(case["root2"]), path=path,
    )  # fmt: skip


PROBES: dict[str, Callable[[dict[str, Any], list[bytes]], None]] = {
    "inclusion": probe_inclusion,
    "consistency": probe_consistency,
    "subtreeinclusion": probe_subtree_inclusion,
    "subtreeconsistency": probe_subtree_consistency,
}


@pytest.mark.parametrize("kind", PROBES)
def test_published_probes_are_judged_as_published(vectors: Path, kind: str) -> None:
    """A hostile proof would pass, or an honest client's proof would be refused."""
    probe = PROBES[kind]
    wrong = []
    files = sorted((vectors / "tlog" / "rfc6962-merkle" / kind).rglob("*.json"))
    for file in files:
        case = json.loads(file.read_text())
        try:
            probe(case, [unbase64(step) for step in case.get("proof") or []])
            refused = False
        except ProofError:
            refused = True
        if refused is not case["wantErr"]:
            wrong.append(f"{file.relative_to(vectors)}: {case['desc']}")
    assert not wrong
    assert len(files) >= 90


def test_roots_are_those_of_the_definition() -> None:
    """Our roots would be nobody else's."""
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    for size in range(1, 130):
        frontier.append(LEAVES[size - 1])
        assert frontier.size == size
        assert frontier.root() == mth(LEAVES[:size])
        assert merkle.range_root(0, size, node) == frontier.root()


def test_nodes_stand_in_the_order_of_completion() -> None:
    """Appending would not be strictly increasing, and a stored node would be found under another's position."""
    for size in (1, 2, 3, 8, 255, 600):
        nodes, _ = grown(size)
        assert len(nodes) == merkle.node_count(size)
        for level in range(size.bit_length()):
            for index in range(size >> level):
                first = index << level
                assert nodes[merkle.node_position(level, index)] == mth(LEAVES[first : first + (1 << level)])


@given(st.integers(1, 600), st.data())
def test_every_inclusion_proof_verifies_and_no_other_index(size: int, data: st.DataObject) -> None:
    """A receipt would fail at its holder, or prove another entry."""
    index = data.draw(st.integers(0, size - 1))
    path = merkle.inclusion_path(index, size, node)
    root = merkle.range_root(0, size, node)
    merkle.verify_inclusion(LEAVES[index], index, size, path, root)
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        with pytest.raises(ProofError):
            merkle.verify_inclusion(LEAVES[other], index, size, path, root)
        with pytest.raises(ProofError):
            merkle.verify_inclusion(LEAVES[index], other, size, path, root)


@given(st.integers(1, 600), st.data())
def test_every_consistency_proof_verifies_and_no_changed_one(new: int, data: st.DataObject) -> None:
    """A remembered head would raise a false alarm, or a rewritten history would pass."""
    old = data.draw(st.integers(1, new))
    path = merkle.consistency_path(old, new, node)
    roots = merkle.range_root(0, old, node), merkle.range_root(0, new, node)
    merkle.verify_consistency(old, new, *roots, path)
    with pytest.raises(ProofError):
        merkle.verify_consistency(old, new, bytes(32), roots[1], path)
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        changed = [*path[:at], bytes(32), *path[at + 1 :]]
        with pytest.raises(ProofError):
            merkle.verify_consistency(old, new, *roots, changed)


def test_a_frontier_continues_from_its_peaks() -> None:
    """A reopened ledger would grow into another tree."""
    for size in range(40):
        frontier = Frontier(size, [node(level, index) for level, index in merkle.peaks_of(size)])
        copy = frontier.copy()
        frontier.extend(LEAVES[size:50])
        assert frontier.root() == mth(LEAVES[:50])
        assert copy.root() == mth(LEAVES[:size])
    with pytest.raises(ValueError, match="peaks"):
        Frontier(3, [bytes(32)])


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (0, 2**64)])
def test_no_proof_outside_of_the_tree(index: int, size: int) -> None:
    """An index beyond the end would be answered."""
    with pytest.raises(ProofError):
        merkle.root_of_inclusion(bytes(32), index, size, [])
    if size < 4:
        with pytest.raises(ProofError):
            merkle.inclusion_path(index, size, node)


def test_nothing_is_proven_from_size_zero() -> None:
    """A client that remembers nothing would believe that something was proven."""
    with pytest.raises(ProofError, match="nothing is proven"):
        merkle.verify_consistency(0, 5, EMPTY_ROOT, mth(LEAVES[:5]), [])
    with pytest.raises(ProofError):
        merkle.consistency_path(6, 5, node)
    assert merkle.consistency_path(5, 5, node) == []
