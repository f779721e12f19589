"""Opening: everything is replayed, and the first bad record is named."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import merkle
from ledger.entry import Entry
from ledger.errors import LedgerContentError, LedgerEmptyError, ProofError
from ledger.log import Log, open_log
from ledger.memory import MemoryStore
from ledger.replay import CHUNK
from ledger.store import Head
from tests.support.ledger_machine import ORIGIN
from tests.support.ledgers import batch_of, chain, filled, sealed, store_of

STRANGER = Ed25519PrivateKey.from_private_bytes(bytes([3] * 32))


def opened(entries: list[Entry], **changes: object) -> Log:
    return open_log(store_of(entries, MemoryStore(), **changes), workers=1)


def check_refused(entries: list[Entry], seq: int | None, because: str, **changes: object) -> None:
    with pytest.raises(LedgerContentError, match=because) as caught:
        opened(entries, **changes)
    assert caught.value.seq == seq


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_good_ledger_opens_and_every_entry_is_visited_in_order(workers: int) -> None:
    """The state would be folded from a part of the history."""
    entries = chain(CHUNK + 50)
    seen: list[Entry] = []
    log = open_log(store_of(entries, MemoryStore()), visit=seen.append, workers=workers)
    assert seen == entries
    assert (log.size, log.head, log.last_time_ms) == (len(entries), entries[-1].body_hash, entries[-1].body.time_ms)
    assert log.origin == ORIGIN
    assert log.finished is not None


def test_an_empty_store_is_no_ledger() -> None:
    """A ledger would be created because a store happens to be empty."""
    with pytest.raises(LedgerEmptyError, match="first accepted manifest"):
        open_log(MemoryStore())


def test_what_the_visitor_refuses_stops_the_opening() -> None:
    """A record that breaks the domain's rules would be passed over."""

    def refuse(entry: Entry) -> None:
        if entry.body.seq == 3:
            raise LedgerContentError(3, "not by the rules")

    with pytest.raises(LedgerContentError, match="entry 3: not by the rules"):
        open_log(store_of(chain(5), MemoryStore()), visit=refuse)


def replaced(entries: list[Entry], seq: int, entry: Entry) -> list[Entry]:
    return [*entries[:seq], entry, *entries[seq + 1 :]]


def test_a_resigned_record_breaks_the_chain() -> None:
    """Who holds an epoch key could rewrite one record in the middle."""
    entries = chain(9)
    other = sealed(replace(entries[4].body, payload=b"other"))
    check_refused(replaced(entries, 4, other), 5, "was changed, dropped or put in")


def test_a_record_signed_by_a_stranger_is_named_though_all_else_fits() -> None:
    """The host could write records itself."""
    entries = chain(9)
    for seq in (0, 4, 8):
        signature = STRANGER.sign(b"contrast/event/v1\x00" + entries[seq].body_hash)
        check_refused(replaced(entries, seq, entries[seq].signed(signature)), seq, "does not verify")


def test_the_first_bad_record_is_named_even_if_a_later_one_is_worse() -> None:
    """A person would look at the wrong record."""
    entries = chain(9)
    entries[2] = entries[2].signed(bytes(64))
    raws = [entry.raw for entry in entries]
    raws[5] = b"junk"
    store = MemoryStore()
    store.append(batch_of(raws, head_hash=entries[-1].body_hash))
    with pytest.raises(LedgerContentError) as caught:
        open_log(store, workers=2)
    assert caught.value.seq == 2


def test_time_does_not_go_back() -> None:
    """A certificate would be recorded before the revocation that forbids it."""
    entries = chain(4)
    late = sealed(replace(entries[3].body, time_ms=entries[2].body.time_ms - 1))
    check_refused([*entries[:3], late], 3, "is before")


@pytest.mark.parametrize("first", [1, 5])
def test_a_history_begins_at_its_beginning(first: int) -> None:
    """The oldest manifests could be cut off."""
    check_refused(chain(9)[first:], 0, "it was moved, or one is missing")


def test_a_first_record_with_a_predecessor_is_refused() -> None:
    """A tail could be presented as a whole ledger by renumbering."""
    entry = sealed(replace(chain(1)[0].body, prev=bytes([1] * 32)))
    check_refused([entry], 0, "was changed, dropped or put in")


def test_the_head_names_the_last_record() -> None:
    """A record at the end could be exchanged for another one."""
    entries = chain(3)
    check_refused(entries, 2, "names as its last", head=Head(3, bytes(32)))


def test_nodes_too_many_or_too_few_are_named() -> None:
    """A half written commit would pass."""
    good = batch_of([entry.raw for entry in chain(4)], head_hash=bytes(32))
    check_refused(chain(4), 3, "tree node 6", nodes=good.nodes[:-1])
    check_refused(chain(4), 4, "not whole", nodes=[*good.nodes, bytes(32)])
    check_refused(chain(4), 2, "tree node 3", nodes=[*good.nodes[:3], bytes(32), *good.nodes[4:]])


def test_a_draft_is_of_this_ledger_and_of_its_last_signer() -> None:
    """A tail could be put behind the last checkpoint, unsigned."""
    entries = chain(4)
    check_refused(entries, 3, "no checkpoint covers it", draft=None)
    check_refused(entries, None, "not signed by the newest epoch", draft=b"junk")
    shorter = batch_of([entry.raw for entry in entries[:3]], head_hash=bytes(32))
    check_refused(entries, None, "the draft checkpoint says", draft=shorter.draft)
    foreign = batch_of([entry.raw for entry in entries], head_hash=bytes(32), epoch=STRANGER)
    check_refused(entries, None, "not signed by the newest epoch", draft=foreign.draft)


def test_a_finished_note_is_of_an_earlier_state_of_this_ledger() -> None:
    """A rolled back ledger would pass with the newer checkpoint beside it."""
    entries = chain(4)
    shorter = batch_of([entry.raw for entry in entries[:3]], head_hash=bytes(32))
    assert opened(entries, finished=shorter.finished).finished == (shorter.finished or b"").decode()
    assert opened(entries, finished=None).finished is None
    longer = batch_of([entry.raw for entry in chain(5)], head_hash=bytes(32))
    check_refused(entries, 4, "a finished checkpoint says that there are 5", finished=longer.finished)
    other = batch_of([entry.raw for entry in chain(3, key=STRANGER)], head_hash=bytes(32))
    check_refused(entries, None, "the finished checkpoint says", finished=other.finished)
    check_refused(entries, None, "malformed", finished=b"junk")


@settings(max_examples=60)
@given(st.integers(0, 11), st.integers(0, 300), st.integers(1, 255))
def test_any_changed_byte_of_any_record_is_found(seq: int, at: int, change: int) -> None:
    """The past could be changed byte by byte."""
    entries = chain(12)
    raws = [entry.raw for entry in entries]
    changed = bytearray(raws[seq])
    changed[at % len(changed)] ^= change
    raws[seq] = bytes(changed)
    store = MemoryStore()
    store.append(
        batch_of(raws, head_hash=entries[-1].body_hash)
    )  # the host mends tree and checkpoint as well as it can
    with pytest.raises(LedgerContentError) as caught:
        open_log(store, workers=1)
    assert caught.value.seq is not None
    assert seq <= caught.value.seq <= seq + 1


def test_a_missing_record_does_not_hide_a_bad_one_before_it() -> None:
    """A person would restore the end of the file and miss the forgery."""
    entries = chain(CHUNK + 5)
    entries[CHUNK - 2] = entries[CHUNK - 2].signed(bytes(64))
    store = MemoryStore()
    store_of(entries, store)
    del store._entries[CHUNK:]
    with pytest.raises(LedgerContentError) as caught:
        open_log(store, workers=1)
    assert caught.value.seq == CHUNK - 2


def test_proofs_and_tiles_come_from_the_stored_tree() -> None:
    """What readers are given would not fit the checkpoint."""
    log = filled(MemoryStore(), 600)
    leaves = [log.entry(seq).leaf_hash for seq in (0, 255, 256, 599)]
    for seq, leaf in zip((0, 255, 256, 599), leaves, strict=True):
        merkle.verify_inclusion(leaf, seq, 600, log.proof(seq), log.root)
        merkle.verify_inclusion(leaf, seq, 599 + (seq == 599), log.proof(seq, 599 + (seq == 599)),
                                log.root_at(599 + (seq == 599)))  # fmt: skip
    merkle.verify_consistency(77, 600, log.root_at(77), log.root, log.consistency(77))
    merkle.verify_consistency(77, 300, log.root_at(77), log.root_at(300), log.consistency(77, 300))
    frontier = merkle.Frontier()
    tile = log.tile(0, 0)
    frontier.extend([tile[at : at + 32] for at in range(0, len(tile), 32)])
    assert frontier.root() == log.tile(1, 0, 2)[:32] == log.root_at(256)
    assert log.bundle(2, 88).startswith(len(log.entry(512).raw).to_bytes(2, "big") + log.entry(512).raw)


def test_nothing_is_served_beyond_the_end() -> None:
    """A reader would be given what is not confirmed, or the server fail."""
    log = filled(MemoryStore(), 300)
    calls: list[Callable[[], object]] = [
        lambda: log.entry(300), lambda: log.entry(-1), lambda: log.entries(299, 301), lambda: log.entries(5, 4),
        lambda: log.entries(0, 5000), lambda: log.proof(300), lambda: log.proof(0, 301),
        lambda: log.consistency(1, 301), lambda: log.consistency(5, 4), lambda: log.tile(0, 1, 45),
        lambda: log.tile(0, 2, 1), lambda: log.tile(1, 0, 2), lambda: log.tile(2, 0, 1), lambda: log.tile(0, 0, 0),
        lambda: log.bundle(1, 45), lambda: log.bundle(2, 1), lambda: log.root_at(301), lambda: log.root_at(-1),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ProofError):
            call()


def test_blobs_are_hashed_again(tmp_path: Path) -> None:
    """The storage could change a manifest or a certificate."""
    store = MemoryStore()
    log = filled(store, 3)
    digest = hashlib.sha256(b"blob 1").digest()
    assert log.blob(digest) == b"blob 1"
    assert log.blob(bytes(32)) is None
    store._blobs[digest] = b"blob 2"
    with pytest.raises(LedgerContentError, match=digest.hex()):
        log.blob(digest)
    assert not list(tmp_path.iterdir())
