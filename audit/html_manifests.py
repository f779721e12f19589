"""The history of manifests for a page: what each changed against the one before, in words and line by line."""

import difflib
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from attestation.reference import AzureReferenceValues, ReferenceValues, SnpReferenceValues
from audit.html_text import brief, esc, mono, when
from audit.report import ManifestEntry
from manifest.model import Manifest, Policy

_MAX_DIFF_LINES: Final = 400
_NEWEST: Final = 100  # With more manifests than that, older ones are only listed.


def manifest_history(entries: Sequence[ManifestEntry]) -> str:
    """Every manifest, newest first."""
    if not entries:
        return '<p class="none">none</p>'
    parts = [_one(after, before.manifest) for before, after in reversed(list(pairwise(entries)))]
    parts.append(_one(entries[0], None))
    if len(parts) > _NEWEST:
        hidden = len(parts) - _NEWEST
        parts = [*parts[:_NEWEST], f'<p class="none">and {hidden} older ones, each judged</p>']
    return "".join(parts)


def _one(entry: ManifestEntry, before: Manifest | None) -> str:
    manifest = entry.manifest
    changes = _first(manifest) if before is None else _changes(before, manifest)
    lines = "".join(f"<li class={kind!r}>{text}</li>".replace("'", '"', 2) for kind, text in changes)
    detail = "" if before is None else _diff(before, manifest)
    return (
        f'<article class="manifest"><h3>Manifest {entry.generation} <span class="soft">entry {entry.seq}, '
        f"{esc(when(entry.time_ms))} UTC, {len(manifest.policies)} policies</span></h3>"
        f"<p>SHA-256 {mono(manifest.digest.hex())}</p><ul>{lines}</ul>{detail}</article>"
    )


def _first(manifest: Manifest) -> list[tuple[str, str]]:
    return [
        *(("added", f"policy {brief(digest)} {_policy(policy)}") for digest, policy in manifest.policies.items()),
        *(("added", f"accepts {_values(values)}") for values in manifest.reference_values),
        ("same", f"owner keys that may replace it: {len(manifest.workload_owner_key_digests)}")
        if manifest.workload_owner_key_digests
        else ("removed", "names no owner key: it can never be replaced"),
        ("same", f"seed share owners, who never change: {len(manifest.seedshare_owner_pub_keys)}"),
    ]


def _changes(before: Manifest, after: Manifest) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for digest in sorted(before.policies.keys() | after.policies.keys()):
        old, new = before.policies.get(digest), after.policies.get(digest)
        if old is None and new is not None:
            found.append(("added", f"policy {brief(digest)} {_policy(new)}"))
        elif new is None and old is not None:
            found.append(("removed", f"policy {brief(digest)} {_policy(old)}"))
        elif old is not None and new is not None and old != new:
            found.append(("changed", f"policy {brief(digest)}: {_policy(old)} became {_policy(new)}"))
    old_values, new_values = before.reference_values, after.reference_values
    found += [("removed", f"accepts no more {_values(each)}") for each in old_values if each not in new_values]
    found += [("added", f"accepts {_values(each)}") for each in new_values if each not in old_values]
    old_keys, new_keys = before.workload_owner_key_digests, after.workload_owner_key_digests
    found += [("removed", f"owner key {brief(key)}") for key in old_keys if key not in new_keys]
    found += [("added", f"owner key {brief(key)}") for key in new_keys if key not in old_keys]
    return found or [("same", "the same content in other bytes")]


def _policy(policy: Policy) -> str:
    role = " <strong>with Role coordinator</strong>" if policy.role is not None else ""
    secret = f", secret {mono(policy.workload_secret_id)}" if policy.workload_secret_id else ""
    return f"for {mono(', '.join(policy.sans) or 'no name')}{role}{secret}"


def _values(values: ReferenceValues) -> str:
    if isinstance(values, SnpReferenceValues):
        simulated = " <strong>(SIMULATED)</strong>" if values.is_simulated else ""
        return f"{esc(values.platform)}, measurement {brief(values.trusted_measurement)}{simulated}"
    if isinstance(values, AzureReferenceValues):
        return f"{esc(values.platform)}, PCRs {', '.join(str(pcr.index) for pcr in values.pcrs)}"
    return f"{esc(values.platform)}, MRTD {brief(values.mr_td)}"


def _diff(before: Manifest, after: Manifest) -> str:
    lines = list(difflib.unified_diff(_lines(before), _lines(after), "before", "after", n=2, lineterm=""))[2:]
    cut = f"\n… and {len(lines) - _MAX_DIFF_LINES} more lines" if len(lines) > _MAX_DIFF_LINES else ""
    kinds = {"+": "added", "-": "removed", "@": "soft"}
    text = "\n".join(
        f'<span class="{kinds.get(line[:1], "same")}">{esc(line)}</span>' for line in lines[:_MAX_DIFF_LINES]
    )
    return f"<details><summary>line by line</summary><pre>{text}{esc(cut)}</pre></details>"


def _lines(manifest: Manifest) -> list[str]:
    return manifest.raw.decode("utf-8", "replace").splitlines()
