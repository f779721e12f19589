"""`contrast ledger receipt` and `check-receipt`: proofs that something is recorded, to be checked without a network."""

from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from audit.receipt import Recorded, check_cose_receipt, check_receipt, keyring_of
from audit.replay import state_at
from cli.errors import RefusedError, UsageFaultError
from cli.events import time_text
from cli.options import PATHS
from cli.session import Session, example, json_option
from cli.sources import open_ledger
from cli.workspace import apply_changes, change, read_file
from ledger.checkpoint import read_checkpoint
from ledger.cose import build_receipt
from ledger.keyring import Keyring, parse_keyring
from ledger.proof import TlogProof
from ledger.source import Source
from ledger.tilenodes import ReadTile, TileNodes
from ledger.tiles import Tile


@click.command(
    short_help="Make the receipt of an entry.",
    name="receipt",
    epilog=example("contrast ledger receipt verify/ledger --seq 4 --output certificate.tlog-proof"),
)
@click.argument("source")
@click.option("--seq", type=click.IntRange(0), required=True, help="The entry.")
@click.option("--cose", is_flag=True, help="An RFC 9942 COSE receipt; the entry itself is written beside it.")
@click.option("-o", "--output", "path", type=PATHS, default=None, help="File to write [default: standard output].")
@json_option
@click.pass_obj
def receipt(session: Session, *, source: str, seq: int, cose: bool, path: Path | None) -> None:
    """Make the receipt of an entry: its place in a tree that the ledger and a Coordinator have signed.

    The default is a C2SP tlog-proof that holds the entry. A COSE receipt is for programs of the SCITT world; it is
    signed by the ledger's key, and holds a second one by the Coordinator's.
    """
    if cose and path is None:
        raise UsageFaultError("a COSE receipt is binary, and its entry is a second file: name one with --output")
    with open_ledger(source) as opened:
        note = opened.source.checkpoint()
        checkpoint = read_checkpoint(note)
        keys = keyring_of(state_at(opened.source, checkpoint.size))
        keys.open_finished(note)
        if seq >= checkpoint.size:
            raise UsageFaultError(
                f"there is no entry {seq}: the checkpoint of {source} covers 0 to {checkpoint.size - 1}"
            )
        entry = opened.source.entry(seq)
        hashes = TileNodes(checkpoint.size, tile_reader(opened.source)).inclusion(seq)
    files: dict[Path, bytes] = {}
    if cose and path is not None:
        epochs = [each.key for each in keys.epochs if each.signs(checkpoint.size)]
        files[path] = build_receipt(note, seq, hashes, ledger_key=keys.ledger, epoch_keys=epochs)
        files[path.with_name(path.name + ".entry")] = entry
    else:
        text = TlogProof(seq, tuple(hashes), note.decode(), entry).text()
        if path is None:
            click.echo(text, nl=False)
            return
        files[path] = text.encode()
    apply_changes(tuple(each for name, raw in files.items() for each in change(name, raw, what="receipt")))
    names = [str(name) for name in files]
    session.output.document({"ok": True, "seq": seq, "size": checkpoint.size, "written": names})
    session.output.say(f"entry {seq} in the ledger of {checkpoint.size} entries: {', '.join(names)}")


@click.command(
    name="check-receipt",
    epilog=example("contrast ledger check-receipt certChain.pem cert.tlog-proof --vkeys verify/ledger.vkeys"),
)
@click.argument("certificate", type=PATHS)
@click.argument("receipt_path", metavar="RECEIPT", type=PATHS)
@click.option(
    "--vkeys", "keys_path", type=PATHS, default=None, help="Keys of the ledger [default: verify/ledger.vkeys]."
)
@click.option("--entry", "entry_path", type=PATHS, default=None, help="The entry, for a COSE receipt.")
@json_option
@click.pass_obj
def check_receipt_command(
    session: Session, *, certificate: Path, receipt_path: Path, keys_path: Path | None, entry_path: Path | None
) -> None:
    """Check offline that a certificate's issuance is recorded.

    Needs the certificate (the first of a PEM file), its receipt (cert.tlog-proof in the pod's TLS directory), and the
    keys that `contrast verify` left. The tree must be signed by the ledger and by a Coordinator that was judged then.
    """
    keys = read_keyring(session, keys_path)
    leaf = _leaf(certificate)
    raw = read_file(receipt_path, what="receipt")
    if entry_path is None:
        found = check_receipt(leaf, raw, keys)
    else:
        found = check_cose_receipt(leaf, raw, read_file(entry_path, what="entry"), keys)
    _tell(session, found, certificate)


def read_keyring(session: Session, path: Path | None) -> Keyring:
    """Return the keys at *path*, by default those that `verify` left.

    Raises:
        LocalFileError: the file cannot be read.
        KeyringError: it is malformed.
    """
    return parse_keyring(read_file(path or session.workspace.verify / "ledger.vkeys", what="verifier keys"))


def tile_reader(source: Source) -> ReadTile:
    """Return what reads the hash tiles of *source*."""

    def read(tile: Tile) -> bytes:
        assert tile.level != "entries"  # noqa: S101 - proofs are made of hash tiles
        return source.tile(tile.level, tile.index, tile.width)

    return read


def _leaf(path: Path) -> bytes:
    raw = read_file(path, what="certificate")
    try:
        if raw.lstrip().startswith(b"-----"):
            return x509.load_pem_x509_certificates(raw)[0].public_bytes(Encoding.DER)
        x509.load_der_x509_certificate(raw)
    except ValueError:
        raise RefusedError(f"{path} holds no certificate: wanted one in PEM or DER") from None
    return raw


def _tell(session: Session, found: Recorded, certificate: Path) -> None:
    output, event = session.output, found.event
    output.document(
        {
            "ok": True,
            "origin": found.checkpoint.origin,
            "seq": found.seq,
            "time_ms": found.time_ms,
            "size": found.checkpoint.size,
            "root": found.checkpoint.root.hex(),
            "certificate": event.certificate.hex(),
            "sans": list(event.sans),
            "writer": found.writer.key.public.hex(),
        }
    )
    output.say(f"entry {found.seq} of {found.checkpoint.origin}, {time_text(found.time_ms)}: {', '.join(event.sans)}")
    output.say(f"written by epoch {found.writer.key.public.hex()[:16]}, in the tree of {found.checkpoint.size} entries")
    output.say(f"the issuance of {certificate} is recorded", style="bold green")
