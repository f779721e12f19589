"""What the CA certificates of a recorded ledger must be: its root, and a mesh CA of its own for every manifest."""

from collections.abc import Callable

from coordinator import ca
from coordinator.documents import Documents
from coordinator.events import LedgerCreated, ManifestSet
from coordinator.refusals import RuleBrokenError
from coordinator.state import State
from coordinator.times import moment
from ledger.entry import Entry


class CaRules:
    """Judges root, intermediate and mesh CA certificates."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._keys: dict[bytes, bytes] = {}  # SHA-256 of a mesh CA -> its key; a certificate never changes.

    def root(self, entry: Entry, event: LedgerCreated) -> None:
        """The root CA that a ledger begins with."""
        seq = entry.body.seq
        _judged(seq, lambda: ca.check_root(self._documents.need(event.root_ca, seq, "the root CA")))

    def mesh(self, state: State, entry: Entry, event: ManifestSet) -> None:
        """Intermediate and mesh CA of a manifest: under the root, valid at their entry, with a key of their own."""
        seq, at = entry.body.seq, moment(entry.body.time_ms)
        root = self._documents.need(state.root_ca, seq, "the root CA")
        middle = self._documents.need(event.intermediate, seq, "the intermediate CA")
        mesh = self._documents.need(event.mesh_ca, seq, "the mesh CA")
        _judged(seq, lambda: ca.check_ca_chain(root, middle, mesh, at=at))
        key = self._key(event.mesh_ca, seq)
        if any(self._key(earlier.mesh_ca, seq) == key for earlier in state.history):
            raise RuleBrokenError(seq, "a mesh CA key serves two manifests")

    def _key(self, mesh_ca: bytes, seq: int) -> bytes:
        key = self._keys.get(mesh_ca)
        if key is None:
            certificate = ca.load(self._documents.need(mesh_ca, seq, "the mesh CA"), "mesh CA")
            key = self._keys[mesh_ca] = ca.spki(certificate)
        return key


def _judged(seq: int, check: Callable[[], None]) -> None:
    try:
        check()
    except ca.CertificateError as error:
        raise RuleBrokenError(seq, "a CA certificate breaks the rules", seen=str(error)) from None
