"""The documents that entries name by their hash, as rules read them: bytes, evidence, manifests. It judges nothing."""

from collections.abc import Callable

from attestation.errors import EvidenceError
from attestation.evidence import Evidence
from coordinator.events import References
from coordinator.refusals import RuleBrokenError, UnprovenError
from manifest.errors import ManifestError
from manifest.model import Manifest
from manifest.parse import parse_manifest

Blob = Callable[[bytes], bytes | None]


class Documents:
    """Blobs and earlier entries of one ledger.

    Args:
        blob: The blob with this SHA-256, or None when it is not there.
        body_hash: SHA-256(body) of an earlier entry, by seq.
    """

    def __init__(self, *, blob: Blob, body_hash: Callable[[int], bytes]) -> None:
        self._blob = blob
        self.body_hash = body_hash
        self._manifest: tuple[bytes, Manifest] | None = None

    def need(self, digest: bytes, seq: int, what: str) -> bytes:
        """The document *what* that entry *seq* names. Raises UnprovenError if it is missing."""
        data = self._blob(digest)
        if data is None:
            raise UnprovenError(seq, f"{what} (blob {digest.hex()})")
        return data

    def manifest(self, digest: bytes, *, seq: int = 0) -> Manifest:
        """The manifest with this SHA-256, parsed; the newest one is kept.

        Raises:
            UnprovenError: its bytes are missing.
            RuleBrokenError: they are no manifest.
        """
        if self._manifest is not None and self._manifest[0] == digest:
            return self._manifest[1]
        try:
            parsed = parse_manifest(self.need(digest, seq, "the manifest"), recorded=True)
        except ManifestError as error:
            raise RuleBrokenError(seq, "the manifest's bytes are no manifest", seen=str(error)) from None
        self._manifest = (digest, parsed)
        return parsed

    def evidence(self, references: References, seq: int) -> Evidence:
        """The evidence that *references* name.

        Raises:
            UnprovenError: a part is missing.
            RuleBrokenError: the parts are no evidence.
        """
        kind, parts = references
        try:
            return Evidence.make(kind, {role: self.need(digest, seq, f"evidence {role}") for role, digest in parts})
        except EvidenceError as error:
            raise RuleBrokenError(seq, "the evidence is malformed", seen=str(error)) from None
