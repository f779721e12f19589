"""Heads that the operator knows from elsewhere: files, and witnesses. What a ledger must satisfy stands in `heads`.

A file is whatever holds a head: a checkpoint, a receipt, or heads.json (verify/head) of another workspace. Checkpoints
count only if the ledger's own key has signed them. The epoch's signature is not asked for here: the offered ledger may
be the one that hides that epoch, and a head that is too much refuses, it never lets through.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.errors import ForkedError, HeadError, RefusedError, RolledBackError
from cli.heads import Head, parse_heads
from cli.output import clean
from cli.workspace import read_file
from ledger.checkpoint import parse_checkpoint
from ledger.errors import LedgerError, NoteError
from ledger.note import VerifierKey, ed25519_key, open_note
from ledger.policyfile import Policy, Witness, parse_policy
from ledger.proof import parse_proof
from ledger.witness import monitor_path
from wire.problem import UnreachableError
from wire.witnesses import WitnessClient

_PROOF = b"c2sp.org/tlog-proof@v1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHead:
    """A head, and from where it is known."""

    size: int
    root: bytes
    source: str

    def __str__(self) -> str:
        return f"{self.size} entries, root {self.root.hex()} ({self.source})"


def read_known_heads(paths: Sequence[Path], ledger: VerifierKey) -> tuple[KnownHead, ...]:
    """Return the heads in the files at *paths*.

    Raises:
        RefusedError: a file holds no head of the ledger whose key is *ledger*.
        LocalFileError: a file cannot be read.
    """
    return tuple(head for path in paths for head in _heads_in(read_file(path, what="known head"), str(path), ledger))


def _heads_in(raw: bytes, name: str, ledger: VerifierKey) -> tuple[KnownHead, ...]:
    if raw.lstrip().startswith(b"{"):
        found = [head for head in parse_heads(raw, name=name).values() if head.origin == ledger.name]
        if not found:
            raise RefusedError(f"{name} holds no head of {ledger.name}")
        return tuple(KnownHead(size=head.size, root=head.root, source=name) for head in found)
    try:
        note = parse_proof(raw).checkpoint_raw.encode() if raw.startswith(_PROOF) else raw
        return (_signed_head(note, [ledger], ledger.name, source=name),)
    except LedgerError as error:
        raise RefusedError(f"{name} is no checkpoint of {ledger.name}: {error}") from None


def read_policy(path: Path) -> Policy:
    """Return the witness policy at *path*.

    Raises:
        PolicyError: it is malformed.
        LocalFileError: it cannot be read.
    """
    return parse_policy(read_file(path, what="witness policy"))


async def ask_witnesses(policy: Policy, ledger: VerifierKey, *, timeout_s: float) -> tuple[KnownHead, ...]:
    """Return what the witnesses of *policy* cosigned last for this ledger.

    Silence proves nothing, and neither does "unknown": whoever is in between can say that. So a whole quorum must show
    a cosigned checkpoint.

    Raises:
        RefusedError: fewer than a quorum did; what each of the others said is told.
    """
    async with WitnessClient(timeout_s=timeout_s) as client:
        answers = await asyncio.gather(*(_ask(client, each, ledger) for each in policy.witnesses))
    heads = {
        witness.name: answer
        for witness, answer in zip(policy.witnesses, answers, strict=True)
        if isinstance(answer, KnownHead)
    }
    if not policy.satisfied_by(heads):
        raise RefusedError(
            "fewer witnesses than the policy's quorum say what they know of this ledger. Whoever hides newer entries "
            "would keep them from answering: ask again, or recover without --witness-policy if you know why",
            details=tuple(answer for answer in answers if isinstance(answer, str)),
        )
    return tuple(heads.values())


async def _ask(client: WitnessClient, witness: Witness, ledger: VerifierKey) -> KnownHead | str:
    if not witness.url:
        return f"{witness.name}: the policy has no URL of it"
    try:
        answer = await client.newest(witness.url, monitor_path(ledger.name))
        if answer.status != 200:
            return f"{witness.name}: answered {answer.status}"
        return _signed_head(answer.body, [ledger, witness.key], ledger.name, source=f"witness {witness.name}")
    except (UnreachableError, NoteError) as error:
        return clean(f"{witness.name}: {error}")


def _signed_head(note: bytes, keys: Sequence[VerifierKey], origin: str, *, source: str) -> KnownHead:
    """The head in *note*, which all *keys* have signed."""
    text, signed = open_note(note, keys)
    missing = [key.name for key in keys if key not in signed]
    if missing:
        raise NoteError(f"the checkpoint is not signed by {', '.join(missing)}")
    checkpoint = parse_checkpoint(text)
    if checkpoint.origin != origin:
        raise NoteError(f"the checkpoint is of {checkpoint.origin}")
    return KnownHead(size=checkpoint.size, root=checkpoint.root, source=source)


def contradicted(heads: Sequence[KnownHead], offered: Head, root_at: Callable[[int], bytes]) -> tuple[KnownHead, ...]:
    """Return those of *heads* that the *offered* ledger does not extend.

    Args:
        heads: known from anywhere.
        offered: the head that the ledger has now.
        root_at: gives the root that the offered ledger had at an earlier size, from its own verified entries.
    """
    return tuple(head for head in heads if head.size > offered.size or root_at(head.size) != head.root)


def refusal(heads: Sequence[KnownHead], offered: Head, *, address: str) -> HeadError:
    """Return what to tell about a ledger that does not extend *heads*."""
    details = (*(f"known:   {head}" for head in heads), f"offered: {offered}")
    if all(head.size > offered.size for head in heads):
        return RolledBackError(
            f"the ledger at {address} was rolled back: it lacks entries that are known from elsewhere. Find the newest "
            "copy of its storage. If it is lost for ever, --accept-fork-UNSAFE goes on without, and records that",
            details=details,
        )
    return ForkedError(
        f"the ledger at {address} is forked: it tells another history than the one that is known from elsewhere. "
        "Do not trust it; `contrast ledger compare` makes the proof. --accept-fork-UNSAFE goes on, and records that",
        details=details,
    )


def ledger_key(origin: str, public_hex: str) -> VerifierKey:
    """Return the verifier key of the ledger that a statement names."""
    return ed25519_key(origin, bytes.fromhex(public_hex))
