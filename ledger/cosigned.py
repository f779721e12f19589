"""Who else has seen a ledger: cosignatures under its checkpoints, held against a witness policy. Asks nobody.

A witness cosigns only what extends what it cosigned before. So whoever has cosigned a tree of N entries vouches for
every smaller tree of it too, and cosignatures of several checkpoints count together: a quorum has seen as many entries
as its least informed member. A checkpoint counts only if the ledger's own key has signed it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import NoteError
from ledger.note import SignatureLine, VerifierKey, cosignature_time, open_note, split_note
from ledger.policyfile import Policy, PolicyError, Witness, shown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A verified cosignature: which witness saw how many entries, when by its clock (Unix seconds), said where."""

    witness: str
    key: VerifierKey
    size: int
    root: bytes
    time_s: int
    source: str


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose cosignatures count, and checkpoints beside the ledger's own: (where each comes from, its bytes)."""

    policy: Policy
    notes: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """What witnesses say of a ledger.

    Attributes:
        sightings: The largest of each witness, all of this very tree.
        silent: Witnesses of the policy without one.
        false: Lines that name a witness's key and are not its, in words.
        contradictions: Cosigned checkpoints that this ledger does not extend, in words.
        quorum: A quorum of the policy has cosigned the whole ledger.
        wanted: The policy asks for a quorum at all.
        seen: How many entries a quorum has seen.
        time_s: The latest moment (Unix seconds) that a whole quorum which has seen them vouches for.
    """

    sightings: tuple[Sighting, ...]
    silent: tuple[str, ...]
    false: tuple[str, ...]
    contradictions: tuple[str, ...]
    quorum: bool
    wanted: bool
    seen: int
    time_s: int | None


def cosigned_by(
    asked: Asked,
    own: bytes,
    *,
    ledger_key: VerifierKey,
    checkpoint: Checkpoint,
    root_at: Callable[[int], bytes],
) -> Cosigned:
    """Hold the cosignatures under checkpoints against a policy.

    Args:
        asked: The policy, and further checkpoints.
        own: The ledger's own finished note.
        ledger_key: The ledger's Ed25519 key.
        checkpoint: The end of the ledger, its signatures verified.
        root_at: The root that this ledger had at an earlier size.

    Raises:
        PolicyError: the policy is for other logs.
        NoteError: a note is no checkpoint that this ledger's key has signed.
    """
    policy = asked.policy
    if policy.logs and ledger_key not in [log.key for log in policy.logs]:
        raise PolicyError(f"the witness policy names logs, and the key of {ledger_key.name} is none of them")
    found: dict[str, Sighting] = {}
    false: list[str] = []
    contradictions: list[str] = []
    for source, raw in (("its checkpoint", own), *asked.notes):
        seen = _checkpoint(source, raw, ledger_key)
        fault = _fault(seen, checkpoint, root_at)
        names = []
        for witness, line in _lines(policy, raw):
            name = shown_name(witness.name)
            try:
                witness.key.verify(seen.text(), line.signature)
                time_s = cosignature_time(line.signature)
            except NoteError:
                false.append(f"{source}: the line of witness {name} is not signed by its key")
                continue
            names.append(name)
            old = found.get(witness.name)
            if not fault and (old is None or (old.size, old.time_s) < (seen.size, time_s)):
                found[witness.name] = Sighting(
                    witness=name, key=witness.key, size=seen.size, root=seen.root, time_s=time_s, source=source
                )
        if fault:
            contradictions.append(f"{source}, cosigned by {', '.join(names) or 'nobody of the policy'}: {fault}")
    seen_size = policy.time_of({name: each.size for name, each in found.items()}) or 0
    times = {name: each.time_s for name, each in found.items() if each.size >= seen_size}
    return Cosigned(
        sightings=tuple(found.values()),
        silent=tuple(shown_name(each.name) for each in policy.witnesses if each.name not in found),
        false=tuple(false),
        contradictions=tuple(contradictions),
        quorum=policy.satisfied_by([name for name, each in found.items() if each.size == checkpoint.size]),
        wanted=policy.quorum is not None,
        seen=seen_size,
        time_s=policy.time_of(times) if seen_size else None,
    )


def _checkpoint(source: str, raw: bytes, ledger_key: VerifierKey) -> Checkpoint:
    try:
        text, _ = open_note(raw, [ledger_key])
        seen = parse_checkpoint(text)
    except NoteError as error:
        raise NoteError(f"{source} is no checkpoint of {ledger_key.name}: {error}") from None
    if seen.origin != ledger_key.name:
        raise NoteError(f"{source} is a checkpoint of {seen.origin}, the ledger is {ledger_key.name}")
    return seen


def _fault(seen: Checkpoint, end: Checkpoint, root_at: Callable[[int], bytes]) -> str:
    if seen.size > end.size:
        return f"{seen.size} entries are known there, and this one ends after {end.size}: rolled back, or an older copy"
    if seen.root != root_at(seen.size):
        return f"another history of {seen.size} entries is known there: the ledger is forked"
    return ""


def _lines(policy: Policy, raw: bytes) -> list[tuple[Witness, SignatureLine]]:
    """Each witness's first line."""
    first: dict[tuple[str, bytes], SignatureLine] = {}
    for line in split_note(raw)[1]:
        first.setdefault((line.name, line.key_id), line)
    named = [(witness, first.get((witness.key.name, witness.key.key_id))) for witness in policy.witnesses]
    return [(witness, line) for witness, line in named if line is not None]
