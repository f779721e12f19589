"""`contrast ledger compare` and `check-evidence`: two histories of one ledger become a proof for third persons.

Where both branches begin with an epoch on one and the same entry, that is a proof of its own (`ledger.twin_epochs`).
A side is whatever holds a finished checkpoint: a note, a receipt, or a ledger in any form that `sources` opens. A
ledger brings its own keys along, judged by its own manifests; files need keys from somebody who verified.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from audit.receipt import keyring_of
from audit.replay import state_at
from cli.errors import RefusedError, UsageFaultError
from cli.options import PATHS
from cli.receipts import read_keyring, tile_reader
from cli.session import Session, example, json_option
from cli.sources import open_ledger
from cli.workspace import apply_changes, change, read_file
from ledger.checkpoint import Checkpoint
from ledger.contradiction import EvidenceError, Fork, ForkEvidence, make_evidence, parse_evidence, verify_evidence
from ledger.errors import LedgerContentError, NoteError
from ledger.keyring import Keyring
from ledger.merkle import range_root
from ledger.proof import TlogProof, parse_proof
from ledger.source import DirectorySource, Source
from ledger.tilenodes import TileNodes
from ledger.twin_epochs import FORMAT as TWINS
from ledger.twin_epochs import (
    EpochFork,
    EpochForkEvidence,
    make_epoch_evidence,
    parse_epoch_evidence,
    verify_epoch_evidence,
)

_PROOF = b"c2sp.org/tlog-proof@v1\n"
KEYS = click.option(
    "--vkeys",
    "key_paths",
    type=PATHS,
    multiple=True,
    help="Keys of the ledger, by whoever judged its Coordinators (may be repeated) [default: verify/ledger.vkeys].",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two things compared: its finished note, its keys, and its ledger if it is one."""

    name: str
    note: bytes
    keys: Keyring | None = None
    source: Source | None = None
    proof: TlogProof | None = None


@click.command(
    short_help="Compare two ledgers; evidence of a fork, if there is one.",
    epilog=example("contrast ledger compare mine/verify/ledger yours/verify/ledger --output fork.json"),
)
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@KEYS
@click.option(
    "-o", "--output", "path", type=PATHS, default=None, help="Where to write the evidence [default: fork.json]."
)
@json_option
@click.pass_obj
def compare(session: Session, *, one: str, other: str, key_paths: tuple[Path, ...], path: Path | None) -> None:
    """Compare two finished checkpoints or ledgers, and turn a contradiction into evidence.

    A and B are checkpoint files, receipts, or ledgers (folder, tar, address); of verify/ledger, what a plain `verify`
    leaves will do where its tiles suffice. Exit code 0: they agree. Exit code 1:
    they contradict each other, and the evidence is written, or one of them does not count. Of two sizes, the longer
    side must be a ledger, since only its tiles show what it was at the smaller size. Receipts (`ledger receipt --seq`)
    of two entries that opened a Coordinator's epoch on one and the same entry prove a fork whatever their sizes are.
    """
    output = session.output
    with ExitStack() as stack:
        sides = [_side(stack, each) for each in (one, other)]
        keyrings = _keyrings(session, sides, key_paths)
        checkpoints = [_finished(side, keyrings) for side in sides]
        pairs = [(side.note, checkpoint) for side, checkpoint in zip(sides, checkpoints, strict=True)]

        def history(longer: Checkpoint, size: int) -> tuple[bytes, Sequence[bytes]]:
            side = next(side for side, checkpoint in zip(sides, checkpoints, strict=True) if checkpoint == longer)
            if side.source is None:
                raise UsageFaultError(
                    f"two checkpoints of sizes {size} and {longer.size} alone contradict nothing: give the ledger that "
                    f"{side.name} is of, so that it can be seen what it was at {size}"
                )
            nodes = TileNodes(longer.size, tile_reader(side.source))
            try:
                return range_root(0, size, nodes.node), nodes.consistency(size)
            except LedgerContentError:
                if side.keys is not None:
                    raise
                raise UsageFaultError(
                    f"{side.name} holds only the tiles that `contrast verify` needed, and those of size {size} are not "
                    "among them: `contrast verify --full` leaves the whole ledger"
                ) from None

        twins = _twins(sides, keyrings)
        files: dict[Path, bytes] = {}
        target = path or Path("fork.json")
        try:
            evidence = make_evidence(pairs[0], pairs[1], history=history)
        except UsageFaultError:
            if twins is None:
                raise
            evidence = None
    sizes = " and ".join(str(checkpoint.size) for checkpoint in checkpoints)
    words: list[str] = []
    if evidence is not None:
        words += _words(verify_evidence(evidence, keyrings))
        files[target] = evidence.text()
    if twins is not None:
        words += _twin_words(verify_epoch_evidence(twins, keyrings))
        files[target.with_stem(target.stem + "-epochs") if files else target] = twins.text()
    if not files:
        output.document({"ok": True, "agree": True, "sizes": [checkpoint.size for checkpoint in checkpoints]})
        output.say(f"they agree: one history of {checkpoints[0].origin}, at sizes {sizes}", style="bold green")
        return
    apply_changes(tuple(each for name, raw in files.items() for each in change(name, raw, what="evidence")))
    names = " and ".join(map(str, files))
    raise RefusedError(f"the ledger is FORKED; the evidence is in {names}", details=tuple(words))


@click.command(name="check-evidence", epilog=example("contrast ledger check-evidence fork.json --vkeys ledger.vkeys"))
@click.argument("path", metavar="FILE", type=PATHS)
@KEYS
@json_option
@click.pass_obj
def check_evidence(session: Session, *, path: Path, key_paths: tuple[Path, ...]) -> None:
    """Check offline that a file proves a fork. Exit code 0: it does.

    Needs the keys of the ledger by somebody who verified it. A Coordinator's epoch that these keys do not name, or that
    was not open at that size, makes a checkpoint count for nothing.
    """
    raw = read_file(path, what="evidence")
    keyrings = [read_keyring(session, each) for each in key_paths or (None,)]
    if TWINS.encode() in raw[:100]:
        _check_twins(session, verify_epoch_evidence(parse_epoch_evidence(raw), keyrings))
        return
    evidence: ForkEvidence = parse_evidence(raw)
    fork = verify_evidence(evidence, keyrings)
    session.output.document(
        {
            "ok": True,
            "origin": fork.first.origin,
            "sizes": [fork.first.size, fork.second.size],
            "roots": [fork.first.root.hex(), fork.second.root.hex()],
            "epochs": [fork.first_epoch.key.public.hex(), fork.second_epoch.key.public.hex()],
        }
    )
    session.output.say(f"PROVEN: {fork.first.origin} has told two histories", style="bold red")
    for line in _words(fork):
        session.output.say(line)


def _check_twins(session: Session, fork: EpochFork) -> None:
    sides = (fork.first, fork.second)
    session.output.document(
        {
            "ok": True,
            "origin": fork.first.checkpoint.origin,
            "opened": fork.seq,
            "parent": fork.parent.hex(),
            "sizes": [side.checkpoint.size for side in sides],
            "roots": [side.checkpoint.root.hex() for side in sides],
            "epochs": [side.epoch.key.public.hex() for side in sides],
        }
    )
    origin = fork.first.checkpoint.origin
    session.output.say(f"PROVEN: {origin} has two Coordinators on one entry, and so two histories", style="bold red")
    for line in _twin_words(fork):
        session.output.say(line)


def _twin_words(fork: EpochFork) -> tuple[str, ...]:
    return tuple(
        f"epoch {side.epoch.key.public.hex()[:16]} opened at entry {fork.seq} on {fork.parent.hex()[:16]}, in the tree "
        f"of {side.checkpoint.size} entries with root {side.checkpoint.root.hex()}"
        for side in (fork.first, fork.second)
    )


def _twins(sides: Sequence[Side], keyrings: Sequence[Keyring]) -> EpochForkEvidence | None:
    """Two epochs on one parent, if the sides prove any: receipts as they are, ledgers by their epochs' keys."""
    one, other = sides
    for mine in _openings(one, other):
        for yours in _openings(other, one):
            try:
                found = make_epoch_evidence(mine, yours)
                if found is not None:
                    verify_epoch_evidence(found, keyrings)
                    return found
            except EvidenceError:
                continue  # Receipts of something else than epochs that these keys know; the notes may still contradict.
    return None


def _openings(side: Side, other: Side) -> list[TlogProof]:
    """Receipts of the entries that opened epochs which the other side does not know."""
    if side.proof is not None:
        return [side.proof] if side.proof.extra else []
    if side.keys is None or side.source is None:
        return []
    known = set() if other.keys is None else {each.key for each in other.keys.epochs}
    size = int(side.note.split(b"\n", 2)[1])
    nodes = TileNodes(size, tile_reader(side.source))
    return [
        TlogProof(seq, tuple(nodes.inclusion(seq)), side.note.decode(), side.source.entry(seq))
        for seq in (each.first - 1 for each in side.keys.epochs if each.key not in known)
        if seq < size
    ]


def _side(stack: ExitStack, where: str) -> Side:
    path = Path(where)
    if "://" not in where and path.is_file():
        raw = read_file(path, what="checkpoint")
        if raw.startswith(_PROOF):
            proof = parse_proof(raw)
            return Side(name=where, note=proof.checkpoint_raw.encode(), proof=proof)
        if raw.startswith(b"contrast.invalid/"):
            return Side(name=where, note=raw)
    if (path / "checkpoint").is_file() and not (path / "tile" / "entries").is_dir():
        # What a plain `verify` leaves: the checkpoint, and the hash tiles that its proofs needed. It names no keys.
        source = DirectorySource(path)
        return Side(name=where, note=source.checkpoint(), source=source)
    opened = stack.enter_context(open_ledger(where))
    note = opened.source.checkpoint()
    size = int(note.split(b"\n", 2)[1])
    return Side(name=where, note=note, keys=keyring_of(state_at(opened.source, size)), source=opened.source)


def _keyrings(session: Session, sides: Sequence[Side], paths: Sequence[Path]) -> list[Keyring]:
    found = [read_keyring(session, each) for each in paths]
    found += [side.keys for side in sides if side.keys is not None]
    return found or [read_keyring(session, None)]


def _finished(side: Side, keyrings: Sequence[Keyring]) -> Checkpoint:
    reason: NoteError | None = None
    for keys in [side.keys] if side.keys is not None else keyrings:
        try:
            return keys.open_finished(side.note)[0]
        except NoteError as error:
            reason = error
    raise RefusedError(f"{side.name} is no finished checkpoint by the keys at hand: {reason}")


def _words(fork: Fork) -> tuple[str, ...]:
    return tuple(
        f"{checkpoint.size} entries, root {checkpoint.root.hex()}, signed by the ledger and epoch "
        f"{epoch.key.public.hex()[:16]}"
        for checkpoint, epoch in ((fork.first, fork.first_epoch), (fork.second, fork.second_epoch))
    )
