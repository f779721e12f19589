"""What somebody with every key of a Coordinator can write, and where he can put it. He has no owner's key, no chip's.

Each function takes a ledger and gives another one, whose chain, links, tree and signatures are right.
"""

import hashlib
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator import ca
from coordinator.events import ManifestSet
from coordinator.times import moment
from ledger.entry import parse_entry
from ledger.lmdb_store import LmdbStore
from ledger.merkle import Frontier
from ledger.note import split_note
from ledger.store import EMPTY_HEAD, Batch, Head
from ledger.tiles import bundles_of, encode_bundle, tiles_of
from manifest.authorise import sign_transition, transition
from manifest.sans import parse_san
from tests.support.deployment import Deployment
from tests.support.dishonest import Ledger, ListSource, Written


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What an insider changes of a leaf; None leaves it as it is."""

    sans: tuple[str, ...] | None = None
    name: str | None = None
    public_key: Any = None
    signer: ec.EllipticCurvePrivateKey | None = None
    begins: timedelta = timedelta(0)
    ends: timedelta = timedelta(0)
    is_ca: bool | None = None
    usage: x509.KeyUsage | None = None
    purposes: Sequence[x509.ObjectIdentifier] | None = None
    more: x509.ExtensionType | None = None
    value: tuple[x509.ObjectIdentifier, bytes, bytes] | None = None  # extension, old bytes, new bytes of one length


def with_leaf(ledger: Ledger, at: int, how: Leaf) -> Ledger:
    """The ledger, cut after it, with another leaf at the certificate *at*, recorded as it is."""
    issued: Any = ledger.written[at].event
    leaf = x509.load_der_x509_certificate(ledger.blobs[issued.certificate])
    sets = [written.event for written in ledger.written[:at] if isinstance(written.event, ManifestSet)]
    name = leaf.subject if how.name is None else x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, how.name)])
    builder = (
        x509.CertificateBuilder()
        .issuer_name(leaf.issuer)
        .subject_name(name)
        .public_key(how.public_key or leaf.public_key())
        .serial_number(leaf.serial_number)
        .not_valid_before(leaf.not_valid_before_utc + how.begins)
        .not_valid_after(leaf.not_valid_after_utc + how.ends)
    )
    for extension in leaf.extensions:
        value = _changed(extension, how)
        if value is not None:
            builder = builder.add_extension(value, extension.critical)
    if how.sans:
        names = [ca.general_name(san) for san in map(parse_san, how.sans)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if how.more is not None:
        builder = builder.add_extension(how.more, critical=False)
    signed = builder.sign(how.signer or ledger.seed.mesh_ca_key(sets[-1].transition), hashes.SHA384())
    der = signed.public_bytes(serialization.Encoding.DER)
    return ledger.with_blob(der).changed(
        at,
        certificate=hashlib.sha256(der).digest(),
        not_before=int(signed.not_valid_before_utc.timestamp()),
        not_after=int(signed.not_valid_after_utc.timestamp()),
    )


def _changed(extension: x509.Extension[Any], how: Leaf) -> x509.ExtensionType | None:
    value: x509.ExtensionType = extension.value
    if isinstance(value, x509.SubjectAlternativeName) and how.sans is not None:
        return None
    if isinstance(value, x509.BasicConstraints) and how.is_ca is not None:
        return x509.BasicConstraints(ca=how.is_ca, path_length=None)
    if isinstance(value, x509.KeyUsage) and how.usage is not None:
        return how.usage
    if isinstance(value, x509.ExtendedKeyUsage) and how.purposes is not None:
        return x509.ExtendedKeyUsage(how.purposes)
    if isinstance(value, x509.UnrecognizedExtension) and how.value is not None and how.value[0] == extension.oid:
        return x509.UnrecognizedExtension(extension.oid, value.value.replace(*how.value[1:]))
    return value


def with_set(
    ledger: Ledger,
    deployment: Deployment,
    signers: Sequence[ec.EllipticCurvePrivateKey],
    *,
    mesh_key: ec.EllipticCurvePrivateKey | None = None,
    root_key: ec.EllipticCurvePrivateKey | None = None,
    **fields: object,
) -> Ledger:
    """The ledger, followed by a manifest that *signers* have signed, with CA certificates as a Coordinator makes them.

    Args:
        ledger: Whose newest epoch writes.
        deployment: The manifest and its policies.
        signers: Owners, or those who are none.
        mesh_key: Instead of the one that the seed gives.
        root_key: Instead of the ledger's.
        fields: Of the event, as the insider wants them.
    """
    last = ledger.written[-1]
    before = [written.event for written in ledger.written if isinstance(written.event, ManifestSet)][-1]
    created: Any = ledger.written[0].event
    raw = deployment.manifest
    after = transition(hashlib.sha256(raw).digest(), before.transition)
    key = mesh_key or ledger.seed.mesh_ca_key(after)
    now = moment(last.time_ms)
    middle = ca.intermediate_certificate(
        root_key or ledger.seed.root_ca_key(), ledger.blobs[created.root_ca], key, transition=after, now=now,
        serial=2**126,
    )  # fmt: skip
    mesh = ca.mesh_certificate(key, transition=after, now=now, serial=2**126 + 1)
    signatures = [sign_transition(each, ledger.origin, after) for each in signers]
    event = ManifestSet(
        generation=before.generation + 1,
        manifest=hashlib.sha256(raw).digest(),
        previous=before.transition,
        transition=after,
        signatures=tuple((each.spki, each.signature) for each in signatures),
        intermediate=hashlib.sha256(middle).digest(),
        mesh_ca=hashlib.sha256(mesh).digest(),
        closed_epochs=(),
    )
    for blob in (raw, middle, mesh, *deployment.policies):
        ledger = ledger.with_blob(blob)
    return followed(ledger, Written(last.signer, last.time_ms, after, replace(event, **fields)))  # type: ignore[arg-type]


def followed(ledger: Ledger, *more: Written) -> Ledger:
    """The ledger with more entries at its end."""
    return replace(ledger, written=(*ledger.written, *more))


def cut(ledger: Ledger, size: int) -> Ledger:
    """The first *size* entries."""
    return replace(ledger, written=ledger.written[:size])


def store(source: ListSource, folder: Path) -> None:
    """Put a ledger into a Coordinator's folder, as a host with a hex editor would."""
    frontier = Frontier()
    entries = [parse_entry(raw) for raw in source.raws]
    nodes = frontier.extend([entry.leaf_hash for entry in entries])
    text, lines = split_note(source.note)
    draft = f"{text}\n{lines[1].text()}".encode()
    lmdb = LmdbStore(folder)
    try:
        lmdb.append(
            Batch(
                previous=EMPTY_HEAD,
                head=Head(len(entries), entries[-1].body_hash),
                entries=source.raws,
                nodes=nodes,
                blobs=dict(source.blobs),
                draft=draft,
                finished=source.note,
            )
        )
    finally:
        lmdb.close()


def export(source: ListSource, folder: Path) -> None:
    """Put a ledger into a directory, as an export has it, whatever it says."""
    for tile in tiles_of(len(source.raws)):
        assert tile.level != "entries"
        _write(folder / tile.path(), source.tile(tile.level, tile.index, tile.width))
    for tile in bundles_of(len(source.raws)):
        first = tile.index * 256
        _write(folder / tile.path(), encode_bundle(source.raws[first : first + tile.width]))
    for digest, blob in source.blobs.items():
        _write(folder / "blob" / digest.hex(), blob)
    _write(folder / "checkpoint", source.note)


def pack(folder: Path, path: Path) -> None:
    """A directory as a tar."""
    with tarfile.open(path, "w") as tar:
        for name in sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()):
            tar.add(folder / name, name)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
