"""How two manifests differ, in words, all of it; whether that is a reason to refuse is decided elsewhere."""

from collections.abc import Sequence

from manifest.model import Manifest, Policy


def differences(mine: Manifest, theirs: Manifest, *, mine_name: str, theirs_name: str) -> tuple[str, ...]:
    """Return one line for each difference; none only if the bytes are equal."""
    if mine.raw == theirs.raw:
        return ()
    lines = [
        *_policies(mine, theirs, mine_name, theirs_name),
        *_values(mine, theirs, mine_name, theirs_name),
        *_keys(
            "WorkloadOwnerKeyDigests",
            mine.workload_owner_key_digests,
            theirs.workload_owner_key_digests,
            mine_name,
            theirs_name,
        ),
        *_keys(
            "SeedshareOwnerPubKeys",
            mine.seedshare_owner_pub_keys,
            theirs.seedshare_owner_pub_keys,
            mine_name,
            theirs_name,
        ),
    ]
    if not lines:
        lines.append(
            f"the content is equal, the bytes are not (layout or order): SHA-256 {mine.digest.hex()} in {mine_name}, "
            f"{theirs.digest.hex()} in {theirs_name}"
        )
    return tuple(lines)


def _policies(mine: Manifest, theirs: Manifest, mine_name: str, theirs_name: str) -> list[str]:
    lines = []
    for digest in dict.fromkeys((*mine.policies, *theirs.policies)):
        here, there = mine.policies.get(digest), theirs.policies.get(digest)
        path = f"Policies.{digest.hex()}"
        if here is None and there is not None:
            lines.append(f"{path}: only in {theirs_name} ({_entry(there)})")
        elif there is None and here is not None:
            lines.append(f"{path}: only in {mine_name} ({_entry(here)})")
        elif here is not None and there is not None:
            for field, left, right in (
                ("SANs", list(here.sans), list(there.sans)),
                ("WorkloadSecretID", here.workload_secret_id, there.workload_secret_id),
                ("Role", here.role and here.role.value, there.role and there.role.value),
            ):
                if left != right:
                    lines.append(f"{path}.{field}: {left} in {mine_name}, {right} in {theirs_name}")
    return lines


def _values(mine: Manifest, theirs: Manifest, mine_name: str, theirs_name: str) -> list[str]:
    here, there = mine.reference_values, theirs.reference_values
    return [
        *(f"ReferenceValues: only in {mine_name}: {entry.platform}" for entry in here if entry not in there),
        *(f"ReferenceValues: only in {theirs_name}: {entry.platform}" for entry in there if entry not in here),
    ]


def _keys(field: str, mine: Sequence[bytes], theirs: Sequence[bytes], mine_name: str, theirs_name: str) -> list[str]:
    return [
        *(f"{field}: only in {mine_name}: {_cut(key)}" for key in mine if key not in theirs),
        *(f"{field}: only in {theirs_name}: {_cut(key)}" for key in theirs if key not in mine),
    ]


def _entry(policy: Policy) -> str:
    role = f", Role {policy.role.value}" if policy.role else ""
    return f"SANs {', '.join(policy.sans) or 'none'}{role}"


def _cut(key: bytes) -> str:
    text = key.hex()
    return text if len(text) <= 64 else f"{text[:64]}…"
