"""What a Coordinator is judged by: reference values, policy digests, and where they are from; judging is elsewhere."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from attestation.reference import ReferenceValues, SnpReferenceValues
from cli.errors import RefusedError, UsageFaultError
from cli.release import Release
from manifest.model import Manifest
from manifest.reference_file import parse_reference_values

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """The verifier's own values.

    Attributes:
        reference_values: guests that are acceptable.
        coordinator_policies: digests of acceptable Coordinator policies.
        sources: one line each on which values are used and where they came from.
        from_file: the reference values stand in a file that the user gave.
        advice: what to do about a Coordinator that runs under another policy.
    """

    reference_values: tuple[ReferenceValues, ...]
    coordinator_policies: frozenset[bytes]
    sources: tuple[str, ...]
    from_file: bool
    advice: str = "if you reviewed that policy, name it with --coordinator-policy-hash"

    @property
    def anchors(self) -> frozenset[bytes]:
        """SHA-256 of the simulated vendors' roots that are named; empty for real hardware."""
        return frozenset(
            entry.trust_anchor
            for entry in self.reference_values
            if isinstance(entry, SnpReferenceValues) and entry.trust_anchor is not None
        )


def by_manifest(
    manifest: Manifest,
    *,
    name: str,
    policy_hashes: Sequence[bytes] = (),
    file: tuple[str, bytes] | None = None,
) -> Yardstick:
    """Return the values that *manifest* names, with the user's own *policy_hashes* beside its Coordinators.

    Where `--reference-values` names a *file* (name and bytes), its values count and the manifest's do not.

    Raises:
        ManifestError: that file is malformed.
    """
    values, where = tuple(manifest.reference_values), name
    if file is not None:
        values, where = tuple(parse_reference_values(file[1], name=file[0])), file[0]
    return Yardstick(
        reference_values=values,
        coordinator_policies=manifest.coordinator_policies | frozenset(policy_hashes),
        sources=(
            f"reference values: {where} ({_platforms(values)})",
            f"Coordinator policies: {name} ({_digests(manifest.coordinator_policies)})",
            *_given(policy_hashes),
        ),
        from_file=True,
    )


def by_values(
    release: Release,
    *,
    file: tuple[str, bytes] | None,
    policy_hashes: Sequence[bytes],
    policy_file: tuple[str, bytes] | None,
) -> Yardstick:
    """Return the values for a verifier without a manifest.

    Args:
        release: what was released with this CLI, used where nothing else is given.
        file: name and bytes of `--reference-values`.
        policy_hashes: of `--coordinator-policy-hash`.
        policy_file: name and bytes of `coordinator-policy.sha256`, where it stands in the workspace.

    Raises:
        UsageFaultError: no reference values or no policy digest at all.
        ManifestError: the file of reference values is malformed.
    """
    if file is not None:
        values = tuple(parse_reference_values(file[1], name=file[0]))
        where = file[0]
    else:
        values, where = release.reference_values, f"released with contrast {release.version}"
    if not values:
        raise UsageFaultError(
            "there are no reference values to judge the Coordinator by: give a manifest that you reviewed (-m), or a "
            "file of them (--reference-values; in a trial .contrast-dev/reference-values.json). "
            f"{release.note or 'This release names none.'}"
        )
    sources = [f"reference values: {where} ({_platforms(values)})"]
    policies = set(policy_hashes)
    sources += _given(policy_hashes)
    if policy_file is not None:
        written = parse_policy_file(policy_file[1], name=policy_file[0])
        policies |= written
        sources.append(
            f"Coordinator policies: {policy_file[0]}, left here by `contrast generate` ({_digests(written)})"
        )
    elif not policy_hashes and release.coordinator_policies:
        policies |= set(release.coordinator_policies)
        sources.append(f"Coordinator policies: {where} ({_digests(release.coordinator_policies)})")
    if not policies:
        raise UsageFaultError(
            "there is no Coordinator policy to judge by: give its digest with --coordinator-policy-hash "
            "(`contrast generate` leaves it in coordinator-policy.sha256), or the manifest with -m"
        )
    return Yardstick(
        reference_values=values,
        coordinator_policies=frozenset(policies),
        sources=tuple(sources),
        from_file=file is not None,
    )


def check_simulated(yardstick: Yardstick, *, allowed: bool) -> None:
    """Hold the conditions for simulated platforms: the user says so, and a file of the user's names the anchor.

    Raises:
        RefusedError: a simulated anchor is named and --allow-simulated is missing.
        UsageFaultError: --allow-simulated without such a file.
    """
    if yardstick.anchors and not allowed:
        raise RefusedError(
            "these reference values name a simulated platform, which protects nothing: "
            "add --allow-simulated if this is a trial on your own machine",
            details=yardstick.sources,
        )
    if allowed and not (yardstick.anchors and yardstick.from_file):
        raise UsageFaultError(
            "--allow-simulated works only with a file (-m or --reference-values) that names the simulated anchor; "
            "these values name none",
            details=yardstick.sources,
        )


def parse_policy_file(raw: bytes, *, name: str) -> frozenset[bytes]:
    """Return the digests of the file that `generate` leaves: one in each line.

    Raises:
        RefusedError: a line is none.
    """
    lines = raw.decode("utf-8", "replace").split("\n")
    digests = [line.strip() for line in lines if line.strip()]
    for number, digest in enumerate(digests, 1):
        if not _DIGEST.fullmatch(digest):
            raise RefusedError(f"{name}:{number}: wanted a SHA-256 in lower-case hex, seen {digest[:80]!r}")
    return frozenset(bytes.fromhex(digest) for digest in digests)


def render_policy_file(digests: Sequence[bytes]) -> bytes:
    """Return the bytes of that file."""
    return "".join(f"{digest.hex()}\n" for digest in digests).encode()


def _given(policy_hashes: Sequence[bytes]) -> list[str]:
    return [f"Coordinator policies: --coordinator-policy-hash ({_digests(policy_hashes)})"] if policy_hashes else []


def _digests(digests: Sequence[bytes] | frozenset[bytes]) -> str:
    return ", ".join(sorted(digest.hex() for digest in digests)) or "none"


def _platforms(values: Sequence[ReferenceValues]) -> str:
    shown = []
    for entry in values:
        anchor = entry.trust_anchor if isinstance(entry, SnpReferenceValues) else None
        shown.append(entry.platform if anchor is None else f"{entry.platform}, SIMULATED, anchor {anchor.hex()}")
    return "; ".join(shown)
