"""Events of the ledger in words and as JSON, for people who look at it; nothing is decided here."""

import base64
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import assert_never

from coordinator.events import (
    AttestationAccepted,
    AttestationRefused,
    CertificateIssued,
    EpochOpened,
    Event,
    ForkAccepted,
    LedgerCreated,
    LedgerRecovered,
    ManifestSet,
    SecretReleased,
    decode_event,
)
from coordinator.state import AcceptedFork, State
from ledger.entry import Entry


def describe(event: Event) -> str:
    """Return one line on *event*, digests shortened."""
    match event:
        case LedgerCreated():
            return f"{event.origin}, {_count(len(event.seed_shares), 'seed share')}"
        case EpochOpened():
            return f"Coordinator {short(event.epoch_key)} on {event.evidence[0]}, policy {short(event.policy)}"
        case ManifestSet():
            closed = f", closes {_count(len(event.closed_epochs), 'epoch')}" if event.closed_epochs else ""
            signed = _count(len(event.signatures), "signature")
            return f"manifest {event.generation}: {short(event.manifest)}, {signed}{closed}"
        case LedgerRecovered():
            return (
                f"Coordinator {short(event.epoch_key)} by share owner {short(event.share_owner)}, "
                f"from size {event.size}, closes {_count(len(event.closed_epochs), 'epoch')}"
            )
        case ForkAccepted():
            heads = ", ".join(f"size {size} root {short(root)}" for size, root in event.heads)
            return f"share owner {short(event.share_owner)} went on although this ledger does not extend {heads}"
        case AttestationAccepted():
            judged = f"by the manifest at {event.manifest_seq}"
            return f"{event.purpose} on {event.evidence[0]}, policy {short(event.policy)}, {judged}"
        case AttestationRefused():
            return f"{event.refusal}, {event.count} times: seen {event.seen}, wanted {event.wanted}"
        case CertificateIssued():
            until = time_text(event.not_after * 1000).partition(" ")[0]
            names = ", ".join(event.sans)
            return f"{short(event.certificate)} for {names} until {until}, attested at {event.attestation_seq}"
        case SecretReleased():
            return f"secret {event.secret_id} to {short(event.certificate)}, attested at {event.attestation_seq}"
        case _:
            assert_never(event)


def given_up(fork: AcceptedFork) -> str:
    """Return what everybody must be told of a ledger that went on without a part of its history."""
    return (
        f"HISTORY WAS GIVEN UP at entry {fork.seq}, {time_text(fork.time_ms)}: this ledger went on although it "
        f"does not extend one of {fork.event.heads[-1][0]} entries. What stood there is lost or hidden: ask why."
    )


def fork_json(fork: AcceptedFork) -> dict[str, object]:
    """Return the same as JSON values, with every head that was given up."""
    heads = [{"size": size, "root": root.hex()} for size, root in fork.event.heads]
    return {"seq": fork.seq, "time_ms": fork.time_ms, "heads": heads}


def short(digest: bytes) -> str:
    """Return the start of a digest, enough to tell it from others on a screen and never to compare it."""
    return digest.hex()[:12]


def time_text(time_ms: int) -> str:
    """Return Unix time in ms as UTC; what no calendar holds, which only a stranger's ledger has, is its number."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def row(entry: Entry) -> tuple[str, str, str, str, str]:
    """Return the cells of one entry: seq, time, type, signer, in words."""
    event, _ = decode_event(entry)
    body = entry.body
    return (str(body.seq), time_text(body.time_ms), body.type, short(body.signer), describe(event))


def entry_json(entry: Entry) -> dict[str, object]:
    """Return everything that *entry* says."""
    event, link = decode_event(entry)
    body = entry.body
    document: dict[str, object] = {
        "seq": body.seq,
        "time_ms": body.time_ms,
        "time": time_text(body.time_ms),
        "type": body.type,
        "signer": body.signer.hex(),
        "prev": body.prev.hex(),
        "request_id": body.request_id.hex(),
        "body_sha256": entry.body_hash.hex(),
        "leaf_hash": entry.leaf_hash.hex(),
        "event": plain(event),
    }
    if link is not None:
        document["link"] = {"seq": link.seq, "hash": link.body_hash.hex()}
    return document


def state_json(state: State) -> object:
    """Return the state as JSON values."""
    document = plain(state)
    if isinstance(document, dict):
        document |= {"generation": state.generation, "transition": state.transition.hex()}
    return document


def plain(value: object) -> object:
    """Return *value* as JSON values: digests and keys in hex, longer bytes in base64."""
    match value:
        case bytes():
            return value.hex() if len(value) <= 64 else base64.b64encode(value).decode()
        case str() | int() | None:
            return value
        case tuple() | list() | frozenset() | set():
            return [plain(item) for item in value]
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case _ if is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        case _:
            raise TypeError(f"no JSON for {type(value).__name__}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
