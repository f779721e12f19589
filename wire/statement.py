"""What a Coordinator says of itself, in bytes that its evidence covers; that evidence is judged elsewhere.

Only what the TEE itself knows stands at the top. In state `recovery` the Coordinator holds no seed: everything it read
from storage stands under `unverified`, and nobody may act on it but `recover`.
"""

import hashlib
from typing import Annotated, Final, Literal, assert_never

from msgspec import Meta

from wire.json import MessageError, decode, encode
from wire.messages import MAX_STATEMENT, ApiVersions, Certificate, Hex32, Message, Size

STATEMENT_VERSION: Final = 1
API_VERSION: Final = "v1"

Origin = Annotated[str, Meta(pattern="^contrast\\.invalid/[0-9a-f]{64}$", min_length=81, max_length=81)]
NoteText = Annotated[str, Meta(min_length=1, max_length=32_768)]
Generation = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class ControlHead(Message, frozen=True, kw_only=True):
    """The newest control event: its place and SHA-256(body)."""

    seq: Size
    hash: Hex32


class Unverified(Message, frozen=True, kw_only=True):
    """What replaying the storage gave while the Coordinator has no seed: consistent in itself, and nothing more.

    `draft` is the newest checkpoint signed by the last epoch alone, `checkpoint` the newest finished note, if one is
    stored.
    """

    origin: Origin
    ledger_key: Hex32
    size: Size
    root: Hex32
    draft: NoteText
    generation: Generation
    checkpoint: NoteText | None = None
    control_head: ControlHead | None = None
    transition: Hex32 | None = None
    root_ca: Certificate | None = None
    mesh_ca: Certificate | None = None


class Statement(Message, frozen=True, kw_only=True):
    """The subject of evidence of purpose `coordinator` (DESIGN: Attestation over HTTP).

    `checkpoint` is a finished note. `epoch_key`, `tls_cert_sha256` and `hpke_public_key` belong to this process alone.
    """

    version: Literal[1]
    state: Literal["empty", "recovery", "active"]
    epoch_key: Hex32
    tls_cert_sha256: Hex32
    hpke_public_key: Hex32
    generation: Generation
    api_versions: ApiVersions
    simulated: bool
    origin: Origin | None = None
    ledger_key: Hex32 | None = None
    checkpoint: NoteText | None = None
    control_head: ControlHead | None = None
    transition: Hex32 | None = None
    root_ca: Certificate | None = None
    mesh_ca: Certificate | None = None
    unverified: Unverified | None = None


def parse_statement(raw: bytes) -> Statement:
    """The statement in *raw*, with the fields that its state demands and no others.

    Raises:
        MessageError: it is no statement, or contradicts itself.
    """
    statement = decode(raw, Statement, limit=MAX_STATEMENT)
    check_statement(statement)
    return statement


def statement_bytes(statement: Statement) -> bytes:
    """The bytes to attest and send; refuses what `parse_statement` would refuse."""
    check_statement(statement)
    return encode(statement)


def check_statement(statement: Statement) -> None:
    """Demand of each state exactly its fields, and of an origin that it is the hash of the ledger key.

    Raises:
        MessageError: a field is missing, or stands where it must not.
    """
    identity = ("origin", "ledger_key")
    history = ("checkpoint", "control_head", "transition", "root_ca", "mesh_ca")
    wanted: tuple[str, ...]
    generation: bool
    match statement.state:
        case "empty":
            wanted, generation = identity, statement.generation == 0
        case "active":
            wanted, generation = identity + history, statement.generation > 0
        case "recovery":
            wanted, generation = ("unverified",), statement.generation == 0
        case _:
            assert_never(statement.state)
    for field in (*identity, *history, "unverified"):
        present = getattr(statement, field) is not None
        if present != (field in wanted):
            fault = "must not stand here" if present else "is missing"
            raise MessageError(f"this field {fault} in state {statement.state!r}", path=field)
    if not generation:
        raise MessageError(f"{statement.generation} does not fit state {statement.state!r}", path="generation")
    named = statement if statement.unverified is None else statement.unverified
    if named.ledger_key is not None and named.origin != origin_of(bytes.fromhex(named.ledger_key)):
        raise MessageError("the origin is not the hash of the ledger key", path="origin")


def origin_of(ledger_public_key: bytes) -> str:
    """The ledger's name: `contrast.invalid/` and SHA-256 of its Ed25519 public key (docs/formats.md section 4)."""
    return "contrast.invalid/" + hashlib.sha256(ledger_public_key).hexdigest()
