"""The facts that the ledger records, one frozen shape each, and their bytes. What they do is in state.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple, TypeAlias

from ledger.codec import MAX_INT, Value, pack_trusted, unpack_trusting
from ledger.entry import Entry

PAYLOAD_VERSION: Final = 1
FORMAT_VERSIONS: Final = (1, 1, 1)  # entry, statement, bundle
MAX_SEED_SHARES: Final = 16
MAX_SIGNATURES: Final = 16
MAX_FORK_HEADS: Final = 16
MAX_REFUSAL_TEXT: Final = 512
ZERO_HASH: Final = bytes(32)

Shares: TypeAlias = tuple[tuple[bytes, bytes], ...]
Heads: TypeAlias = tuple[tuple[int, bytes], ...]
References: TypeAlias = tuple[str, tuple[tuple[str, bytes], ...]]


class EventError(Exception):
    """A payload that this version would not have written: wrong shape, unknown type or version."""

    code = "bad_event"


class Link(NamedTuple):
    """Where the control event before this one stands: its seq and SHA-256(body)."""

    seq: int
    body_hash: bytes


NO_LINK: Final = Link(0, ZERO_HASH)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCreated:
    """The ledger's own keys, root CA and sealed seed shares. Seq 0 of every ledger."""

    type: ClassVar[str] = "ledger.created"
    origin: str
    verifier_keys: tuple[str, ...]
    root_ca: bytes
    seed_shares: Shares
    formats: tuple[int, ...] = FORMAT_VERSIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochOpened:
    """A Coordinator instance: its keys, and the evidence that binds them to an earlier entry, the anchor."""

    type: ClassVar[str] = "epoch.opened"
    epoch_key: bytes
    tls_certificate: bytes
    hpke_key: bytes
    anchor_seq: int
    subject: bytes
    evidence: References
    policy: bytes
    rules: int
    verdict: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSet:
    """A manifest came into force, authorised by owners' signatures, with a mesh CA of its own."""

    type: ClassVar[str] = "manifest.set"
    generation: int
    manifest: bytes
    previous: bytes
    transition: bytes
    signatures: Shares
    intermediate: bytes
    mesh_ca: bytes
    closed_epochs: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRecovered:
    """A new epoch took the seed from a share owner and closed every earlier one."""

    type: ClassVar[str] = "ledger.recovered"
    epoch_key: bytes
    share_owner: bytes
    statement: bytes
    size: int
    root: bytes
    signature: bytes
    closed_epochs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkAccepted:
    """A share owner recovered a ledger that does not extend *heads*, knowing it: history was lost, or is told twice."""

    type: ClassVar[str] = "ledger.fork_accepted"
    share_owner: bytes
    heads: Heads
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationAccepted:
    """Evidence was judged and passed the manifest in force."""

    type: ClassVar[str] = "attestation.accepted"
    purpose: str
    evidence: References
    nonce: bytes
    subject: bytes
    rules: int
    outcomes: bytes
    verdict: bytes
    policy: bytes
    manifest_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationRefused:
    """Refusals of one code over a while: how many, and one sample of what was seen and wanted."""

    type: ClassVar[str] = "attestation.refused"
    refusal: str
    count: int
    first_ms: int
    last_ms: int
    seen: str
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateIssued:
    """A leaf certificate, for the key of the attestation named by its seq. Times are Unix seconds."""

    type: ClassVar[str] = "certificate.issued"
    certificate: bytes
    attestation_seq: int
    sans: tuple[str, ...]
    not_before: int
    not_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretReleased:
    """A workload secret went to the holder of a certificate. *check* is what the leaf names, never the secret."""

    type: ClassVar[str] = "secret.released"
    secret_id: str
    policy: bytes
    attestation_seq: int
    certificate: bytes
    check: bytes


ControlEvent: TypeAlias = LedgerCreated | EpochOpened | ManifestSet | LedgerRecovered | ForkAccepted
Event: TypeAlias = ControlEvent | AttestationAccepted | AttestationRefused | CertificateIssued | SecretReleased

CONTROL_TYPES: Final = frozenset(
    {LedgerCreated.type, EpochOpened.type, ManifestSet.type, LedgerRecovered.type, ForkAccepted.type}
)


# --- Shapes: what a field may hold. Each looks at an unpacked value, arrays as tuples, and gives that very value back.

Shape: TypeAlias = Callable[[Value], Value]


def _integer(value: Value) -> Value:
    if type(value) is not int or not 0 <= value <= MAX_INT:
        raise EventError(f"an integer from 0 to 2^63-1 was wanted, {type(value).__name__} seen")
    return value


def _hash(value: Value) -> Value:
    if type(value) is not bytes or len(value) != 32:
        raise EventError("32 bytes were wanted")
    return value


def _bytes(limit: int) -> Shape:
    def read(value: Value) -> Value:
        if type(value) is not bytes or len(value) > limit:
            raise EventError(f"at most {limit} bytes were wanted")
        return value

    return read


def _text(limit: int) -> Shape:
    def read(value: Value) -> Value:
        if type(value) is not str or len(value.encode()) > limit:
            raise EventError(f"text of at most {limit} bytes was wanted")
        return value

    return read


def _many(shape: Shape, limit: int) -> Shape:
    def read(value: Value) -> Value:
        if type(value) is not tuple or len(value) > limit:
            raise EventError(f"an array of at most {limit} elements was wanted")
        for item in value:
            shape(item)
        return value

    return read


def _pair(first: Shape, second: Shape) -> Shape:
    def read(value: Value) -> Value:
        if type(value) is not tuple or len(value) != 2:
            raise EventError("an array of two elements was wanted")
        first(value[0])
        second(value[1])
        return value

    return read


_role = _text(32)


def _parts(value: Value) -> Value:
    """As _many(_pair(_role, _hash), 16), in one loop: every attestation has five of them."""
    if type(value) is not tuple or len(value) > 16:
        raise EventError("an array of at most 16 elements was wanted")
    for part in value:
        if type(part) is not tuple or len(part) != 2:
            raise EventError("an array of two elements was wanted")
        role, digest = part
        if type(digest) is not bytes or len(digest) != 32:
            raise EventError("32 bytes were wanted")
        if type(role) is not str or len(role) > 8:  # so short that 32 bytes hold it in any script
            _role(role)
    return value


_evidence = _pair(_text(16), _parts)

_SHAPES: Final[dict[str, tuple[type, tuple[tuple[str, Shape], ...]]]] = {
    "ledger.created": (
        LedgerCreated,
        (
            ("origin", _text(128)),
            ("verifier_keys", _many(_text(4096), 8)),
            ("root_ca", _hash),
            ("seed_shares", _many(_pair(_hash, _bytes(1024)), MAX_SEED_SHARES)),
            ("formats", _many(_integer, 8)),
        ),
    ),
    "epoch.opened": (
        EpochOpened,
        (
            ("epoch_key", _hash),
            ("tls_certificate", _hash),
            ("hpke_key", _hash),
            ("anchor_seq", _integer),
            ("subject", _hash),
            ("evidence", _evidence),
            ("policy", _hash),
            ("rules", _integer),
            ("verdict", _hash),
        ),
    ),
    "manifest.set": (
        ManifestSet,
        (
            ("generation", _integer),
            ("manifest", _hash),
            ("previous", _hash),
            ("transition", _hash),
            ("signatures", _many(_pair(_bytes(256), _bytes(256)), MAX_SIGNATURES)),
            ("intermediate", _hash),
            ("mesh_ca", _hash),
            ("closed_epochs", _many(_hash, 64)),
        ),
    ),
    "ledger.recovered": (
        LedgerRecovered,
        (
            ("epoch_key", _hash),
            ("share_owner", _hash),
            ("statement", _hash),
            ("size", _integer),
            ("root", _hash),
            ("signature", _bytes(1024)),
            ("closed_epochs", _many(_hash, 64)),
        ),
    ),
    "ledger.fork_accepted": (
        ForkAccepted,
        (
            ("share_owner", _hash),
            ("heads", _many(_pair(_integer, _hash), MAX_FORK_HEADS)),
            ("signature", _bytes(1024)),
        ),
    ),
    "attestation.accepted": (
        AttestationAccepted,
        (
            ("purpose", _text(16)),
            ("evidence", _evidence),
            ("nonce", _hash),
            ("subject", _bytes(1024)),
            ("rules", _integer),
            ("outcomes", _bytes(64)),
            ("verdict", _hash),
            ("policy", _hash),
            ("manifest_seq", _integer),
        ),
    ),
    "attestation.refused": (
        AttestationRefused,
        (
            ("refusal", _text(64)),
            ("count", _integer),
            ("first_ms", _integer),
            ("last_ms", _integer),
            ("seen", _text(MAX_REFUSAL_TEXT)),
            ("wanted", _text(MAX_REFUSAL_TEXT)),
        ),
    ),
    "certificate.issued": (
        CertificateIssued,
        (
            ("certificate", _hash),
            ("attestation_seq", _integer),
            ("sans", _many(_text(1024), 64)),
            ("not_before", _integer),
            ("not_after", _integer),
        ),
    ),
    "secret.released": (
        SecretReleased,
        (
            ("secret_id", _text(256)),
            ("policy", _hash),
            ("attestation_seq", _integer),
            ("certificate", _hash),
            ("check", _hash),
        ),
    ),
}


def pack_event(event: Event, link: Link = NO_LINK) -> tuple[str, bytes]:
    """Type and payload of *event*; *link* enters control events only. ``docs/formats.md`` section 3."""
    _, shapes = _SHAPES[event.type]
    fields: list[Value] = [PAYLOAD_VERSION]
    if event.type in CONTROL_TYPES:
        fields.append((link.seq, link.body_hash))
    fields.extend(getattr(event, name) for name, _ in shapes)
    # Reading it, which is what whoever writes it does next, checks every type: once is enough on the hot path.
    return event.type, pack_trusted(fields)


def decode_payload(kind: str, payload: bytes) -> tuple[Event, Link | None]:
    """The event of *payload*, and its link when it is a control event.

    Raises:
        EventError: unknown type or version, or a shape that :func:`pack_event` would not have written.
    """
    entry = _SHAPES.get(kind)
    if entry is None:
        raise EventError(f"type {kind!r} is not known to this version")
    cls, shapes = entry
    value = unpack_trusting(payload)  # Every type is checked by the shapes below, the encoding by packing it again.
    if type(value) is not tuple or not value or value[0] != PAYLOAD_VERSION or type(value[0]) is not int:
        raise EventError(f"{kind}: payload version {PAYLOAD_VERSION} was wanted")
    fields = value[1:]
    link = None
    if kind in CONTROL_TYPES:
        if not fields:
            raise EventError(f"{kind}: the link to the control event before is missing")
        link = _read_link(fields[0])
        fields = fields[1:]
    if len(fields) != len(shapes):
        raise EventError(f"{kind}: {len(shapes)} fields were wanted, {len(fields)} seen")
    try:
        event: Event = cls(**{name: shape(field) for (name, shape), field in zip(shapes, fields, strict=True)})
    except EventError as error:
        raise EventError(f"{kind}: {error}") from None
    if isinstance(event, AttestationRefused) and len((event.seen + event.wanted).encode()) > MAX_REFUSAL_TEXT:
        raise EventError(f"{kind}: seen and wanted are longer than {MAX_REFUSAL_TEXT} bytes together")
    if pack_trusted(value) != payload:
        raise EventError(f"{kind}: the bytes are not the shortest encoding of their value")
    return event, link


def decode_event(entry: Entry) -> tuple[Event, Link | None]:
    """As :func:`decode_payload`, of a whole entry."""
    return decode_payload(entry.body.type, entry.body.payload)


def _read_link(value: Value) -> Link:
    if isinstance(value, (list, tuple)) and len(value) == 2:
        seq, body_hash = value
        if type(seq) is int and 0 <= seq <= MAX_INT and type(body_hash) is bytes and len(body_hash) == 32:
            return Link(seq, body_hash)
    raise EventError("a link is [seq, 32 bytes]")
