"""Writing a manifest for people to read and edit, and keeping what they edited; files are written elsewhere."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attestation.reference import ReferenceValues
from manifest.model import Manifest, Policy
from manifest.parse import DOCUMENT, Document, parse_manifest
from manifest.reference_file import ReferenceSet


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedPolicy:
    """A policy that a manifest shall name: `default` is its entry unless a person has edited it.

    Attributes:
        digest: SHA-256 of the policy as it is now.
        replaces: SHA-256 of the policy that the same pod had before, whose entry is continued, or None.
    """

    digest: bytes
    default: Policy
    replaces: bytes | None = None


def merge_policies(existing: Manifest | None, wanted: Sequence[WantedPolicy]) -> dict[bytes, Policy]:
    """The entries of *wanted*, with the SANs and secret ids that *existing* has for them; the role is the default's.

    Policies of the existing manifest that nothing wants any more are left out: their pods are gone from the YAML. Two
    pods with one policy share its entry: their names are joined, and the first secret id stands.
    """
    merged: dict[bytes, Policy] = {}
    kept = {} if existing is None else existing.policies
    for item in wanted:
        edited = kept.get(item.digest) or (kept.get(item.replaces) if item.replaces is not None else None)
        if edited is not None:
            entry = Policy(sans=edited.sans, workload_secret_id=edited.workload_secret_id, role=item.default.role)
        else:
            entry = item.default
        before = merged.get(item.digest)
        if before is not None:
            entry = Policy(
                sans=tuple(dict.fromkeys(before.sans + entry.sans)),
                workload_secret_id=before.workload_secret_id or entry.workload_secret_id,
                role=before.role or entry.role,
            )
        merged[item.digest] = entry
    return merged


def render_manifest(
    *,
    policies: Mapping[bytes, Policy],
    reference_values: Sequence[ReferenceValues],
    workload_owner_key_digests: Sequence[bytes],
    seedshare_owner_pub_keys: Sequence[bytes],
    existing: Manifest | None = None,
) -> bytes:
    """The bytes of a manifest with this content: JSON, two spaces, fields in the order of the documentation.

    Policies that *existing* has come first and in its order, then the new ones by digest. Where *existing* says the
    same already, its own bytes are returned, layout included, so that writing a manifest again changes nothing.

    Raises:
        ManifestError: the content is none that `parse_manifest` accepts.
    """
    kept = [] if existing is None else [digest for digest in existing.policies if digest in policies]
    order = kept + sorted(set(policies) - set(kept))
    document = Document(
        policies=tuple((digest, policies[digest]) for digest in order),
        reference_values=ReferenceSet.of(tuple(reference_values)),
        workload_owner_key_digests=tuple(workload_owner_key_digests),
        seedshare_owner_pub_keys=tuple(seedshare_owner_pub_keys),
    )
    if existing is not None and document == _document(existing):
        return existing.raw
    raw = json.dumps(DOCUMENT.write(document), indent=2, ensure_ascii=False).encode() + b"\n"
    if _document(parse_manifest(raw)) != document:
        raise RuntimeError("a rendered manifest reads differently from what was rendered")
    return raw


def _document(manifest: Manifest) -> Document:
    return Document(
        policies=tuple(manifest.policies.items()),
        reference_values=ReferenceSet(
            snp=manifest.snp, tdx=manifest.tdx, azure=manifest.azure, simulated=manifest.simulated
        ),
        workload_owner_key_digests=manifest.workload_owner_key_digests,
        seedshare_owner_pub_keys=manifest.seedshare_owner_pub_keys,
    )
