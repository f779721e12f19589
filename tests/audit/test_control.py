"""Attacks on the control chain. If one of these passes, `verify` believes a history of manifests that never was."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.control import judge_control
from audit.replay import replay
from audit.report import Report
from cli.fetch_control import fetch_control
from coordinator.events import CONTROL_TYPES, NO_LINK, AttestationRefused, Link, pack_event
from coordinator.keys import public_bytes
from coordinator.refusals import RuleBrokenError, UnprovenError
from ledger.checkpoint import Checkpoint, epoch_name
from ledger.entry import ZERO_HASH, Body, Entry, parse_entry, sign
from ledger.errors import LedgerError
from ledger.merkle import Frontier
from ledger.note import NoteSigner, sign_note
from ledger.source import DirectorySource
from tests.support.deployment import COORDINATOR_POLICY, digest, other_vendor, values_of, vendor
from tests.support.dishonest import Ledger, ListSource, Written, honest_ledger


@pytest.fixture(scope="module")
def honest() -> Ledger:
    return honest_ledger()


def head_of(source: ListSource) -> Link:
    """The last control event, as an honest Coordinator would attest it."""
    entries = [parse_entry(raw) for raw in source.raws]
    last = [entry for entry in entries if entry.body.type in CONTROL_TYPES][-1]
    return Link(last.body.seq, last.body_hash)


def judged(source: ListSource, head: Link | None = None) -> Report:
    return judge_control(source, head or head_of(source))


def refused(source: ListSource, *, because: str, head: Link | None = None) -> None:
    """The one place where these tests touch the interface."""
    with pytest.raises((RuleBrokenError, LedgerError, UnprovenError), match=because):
        judged(source, head)


def test_an_honest_ledger_is_proven_from_its_control_events(honest: Ledger) -> None:
    source = honest.source()
    report = judge_control(
        source,
        head_of(source),
        reference_values=[values_of(vendor())],
        coordinator_policies={digest(COORDINATOR_POLICY)},
    )
    assert report.ok
    assert not report.full
    whole = replay(source, reference_values=[values_of(vendor())])
    assert (report.manifests, report.epochs, report.mesh_ca) == (whole.manifests, whole.epochs, whole.mesh_ca)
    assert report.checkpoint == whole.checkpoint
    assert report.state.control_head == whole.state.control_head
    assert set(report.counts) == {one.event.type for one in honest.written if one.event.type in CONTROL_TYPES}


def test_a_coordinator_that_the_verifier_does_not_accept_is_named_here_too(honest: Ledger) -> None:
    source = honest.source()
    report = judge_control(source, head_of(source), reference_values=[values_of(other_vendor())])
    assert {finding.code for finding in report.findings} == {"coordinator_refused"}


def test_a_forged_link_is_found(honest: Ledger) -> None:
    """Whoever holds an epoch's key can write any entry; the head that was attested commits to every hash below."""
    forged = honest.changed(honest.find("manifest.set", 1), generation=3).source()
    refused(forged, because="control chain is broken", head=head_of(honest.source()))


def test_a_manifest_left_out_in_between_is_found(honest: Ledger) -> None:
    """The link of the next event leads over it, and its hash is no longer the one that was attested.

    Who holds every epoch's key *and* attests the head could leave one out; that is what the whole replay is for.
    """
    shorter = relinked(honest, leave_out=honest.find("manifest.set", 1))
    refused(shorter, because="control chain is broken", head=head_of(honest.source()))
    assert judged(shorter).state.generation == 1
    with pytest.raises(RuleBrokenError, match="control chain is broken"):
        replay(shorter)


def test_an_event_that_is_no_control_event_is_not_taken_for_one(honest: Ledger) -> None:
    source = honest.source()
    entry = parse_entry(source.raws[honest.find("certificate.issued")])
    refused(source, because="none of its own", head=Link(entry.body.seq, entry.body_hash))


def test_an_unknown_type_in_the_chain_is_refused(honest: Ledger) -> None:
    """What this version cannot read could be what changes everything."""
    key, last = honest.epochs[honest.written[-1].signer], honest.written[-1]
    source = honest.source()
    head = head_of(source)
    before = parse_entry(source.raws[-1])
    kind, payload = pack_event(honest.written[2].event, head)
    body = Body(last.signer, len(source.raws), last.time_ms, before.body_hash, "seed.given", payload, b"")
    unsigned = Entry.unsigned(body)
    unknown = unsigned.signed(sign(unsigned.body_hash, key))
    assert kind == "manifest.set"
    longer = finished(honest, (*source.raws, unknown.raw))
    refused(longer, because="this version does not know", head=Link(unknown.body.seq, unknown.body_hash))


def test_a_checkpoint_by_an_epoch_that_is_not_open_at_its_size_does_not_count(honest: Ledger) -> None:
    refused(honest.source(signer=honest.written[0].signer), because="epoch")


def test_a_checkpoint_without_the_ledger_key_does_not_count(honest: Ledger) -> None:
    source = honest.source()
    refused(finished(honest, source.raws, ledger_key=Ed25519PrivateKey.generate()), because="ledger key|signature")


def test_a_proof_from_another_tree_is_found(honest: Ledger) -> None:
    """Tiles are the host's: those of another ledger prove nothing here."""
    source = honest.source()
    other = honest.changed(honest.find("certificate.issued"), not_after=2**40).source()
    mixed = Mixed(source.raws, source.blobs, source.note, other)
    refused(mixed, because="not in the tree")


def test_a_head_beyond_the_checkpoint_is_refused(honest: Ledger) -> None:
    source = honest.source()
    head = head_of(source)
    cut = finished(honest, source.raws[: head.seq])
    refused(replace(source, note=cut.note), because="covers entries", head=head)


def test_an_entry_signed_by_another_key_than_its_signer_is_found(honest: Ledger) -> None:
    source = honest.source()
    second = honest.find("manifest.set", 1)
    entry = parse_entry(source.raws[second])
    raw = Entry.seal(entry.body, bytes(64)).raw
    raws = (*source.raws[:second], raw, *source.raws[second + 1 :])
    refused(finished(honest, raws), because="signature")


def test_an_epoch_that_recovered_nothing_is_found_with_other_events_in_between(honest: Ledger) -> None:
    recovered = honest.find("ledger.recovered")
    refused(honest.without(recovered).source(), because="recovered nothing|no open epoch")
    cut = replace(honest, written=honest.written[:recovered])
    refused(cut.source(signer=honest.written[0].signer), because="recovered nothing")


def test_a_recovery_from_a_head_of_another_tree_is_found(honest: Ledger) -> None:
    """The share owner's signature binds the head; changing an entry before it leaves the control events as they are."""
    refusal = AttestationRefused(refusal="debug", count=1, first_ms=1, last_ms=1, seen="", wanted="")
    seq = honest.find("ledger.recovered") - 2
    one = honest.written[seq]
    changed = honest.swapped(seq, Written(one.signer, one.time_ms, b"", refusal))
    refused(changed.source(), because="another ledger|does not accept this epoch|anchor")


@pytest.mark.parametrize("which", ["manifest", "mesh_ca", "intermediate"])
def test_a_missing_document_is_unproven(honest: Ledger, which: str) -> None:
    event: Any = honest.written[honest.find("manifest.set")].event
    blobs = {key: blob for key, blob in honest.blobs.items() if key != getattr(event, which)}
    refused(replace(honest, blobs=blobs).source(), because="unproven")


def test_a_missing_policy_of_the_manifest_in_force_is_unproven_and_older_ones_are_not_read(honest: Ledger) -> None:
    current = digest(b"# new")
    blobs = {key: blob for key, blob in honest.blobs.items() if key != current}
    refused(replace(honest, blobs=blobs).source(), because="policy of|manifest in force")


def test_what_is_downloaded_is_enough_and_no_more(honest: Ledger, tmp_path: Path) -> None:
    """A laptop must not fetch a million entries to learn who could have had the seed."""
    source = honest.source()
    asked: list[str] = []

    async def get(path: str) -> bytes:
        asked.append(path)
        return served(source, path)

    head = head_of(source)
    fetched = asyncio.run(fetch_control(get, source.note, head, remembered=5, hints=(2, 10**9, 2, 8)))
    assert judge_control(fetched, head).ok
    fetched.write(tmp_path)
    assert judge_control(DirectorySource(tmp_path), head).ok
    assert len(asked) == len(set(asked))
    assert not [path for path in asked if path.startswith("tile/entries")]
    entries = {int(path.removeprefix("entry/")) for path in asked if path.startswith("entry/")}
    controls = {seq for seq, one in enumerate(honest.written) if one.event.type in CONTROL_TYPES}
    assert controls <= entries
    assert len(entries - controls) <= 2  # A wrong hint, and the anchor of the second epoch.


@pytest.mark.parametrize("seq", [3, 4])
def test_a_download_that_is_led_astray_ends(honest: Ledger, seq: int) -> None:
    source = honest.source()

    async def get(path: str) -> bytes:
        return served(source, path)

    with pytest.raises(RuleBrokenError, match="none of its own"):
        asyncio.run(fetch_control(get, source.note, Link(seq, bytes(32))))


def served(source: ListSource, path: str) -> bytes:
    """A file of *source* in the layout of an export."""
    kind, _, rest = path.partition("/")
    if kind == "entry":
        return source.entry(int(rest))
    if kind == "blob":
        return source.blobs[bytes.fromhex(rest)]
    assert path.startswith("tile/0/000"), path
    return source.tile(0, 0, len(source.raws))


def finished(ledger: Ledger, raws: tuple[bytes, ...], *, ledger_key: Ed25519PrivateKey | None = None) -> ListSource:
    """*raws* under a checkpoint of the newest epoch."""
    frontier = Frontier()
    frontier.extend(parse_entry(raw).leaf_hash for raw in raws)
    text = Checkpoint(ledger.origin, len(raws), frontier.root()).text()
    signers = [
        NoteSigner(ledger.origin, ledger_key or ledger.seed.ledger_key()),
        NoteSigner(epoch_name(ledger.origin), ledger.epochs[ledger.written[-1].signer]),
    ]
    return ListSource(raws, ledger.blobs, sign_note(text, signers).encode())


def relinked(ledger: Ledger, *, leave_out: int) -> ListSource:
    """The whole ledger, with links that lead over one control event: what a forger with every epoch key could write."""
    raws: list[bytes] = []
    prev, link = ZERO_HASH, NO_LINK
    for seq, one in enumerate(ledger.written):
        kind, payload = pack_event(one.event, link)
        body = Body(one.signer, seq, one.time_ms, prev, kind, payload, one.request_id)
        unsigned = Entry.unsigned(body)
        entry = unsigned.signed(sign(unsigned.body_hash, ledger.epochs[one.signer]))
        raws.append(entry.raw)
        prev = entry.body_hash
        if kind in CONTROL_TYPES and seq != leave_out:
            link = Link(seq, entry.body_hash)
    assert public_bytes(ledger.epochs[ledger.written[-1].signer]) == ledger.written[-1].signer
    return finished(ledger, tuple(raws))


@dataclass(frozen=True, slots=True)
class Mixed(ListSource):
    """Entries and checkpoint of one ledger, tiles of another."""

    other: ListSource

    def tile(self, level: int, index: int, width: int) -> bytes:
        return self.other.tile(level, index, width)
