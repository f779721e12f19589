"""What the auditor's commands judge Coordinators by: the user's own values where there are any. Judges nothing."""

from pathlib import Path

from cli.output import Output
from cli.release import release
from cli.workspace import Workspace, read_file, read_optional
from cli.yardstick import Yardstick, by_manifest, by_values, check_simulated, parse_policy_file
from manifest.model import Manifest


def own_yardstick(
    workspace: Workspace,
    output: Output,
    *,
    reference_path: Path | None,
    policy_hashes: tuple[bytes, ...],
    allow_simulated: bool,
    manifest: tuple[str, Manifest] | None = None,
) -> Yardstick | None:
    """Return the user's values and say where they come from; None, with a warning, where there are none.

    Raises:
        RefusedError: they name a simulated anchor and that was not allowed.
        ManifestError: the file of reference values is malformed.
    """
    file = None if reference_path is None else (str(reference_path), read_file(reference_path, what="reference values"))
    if manifest is not None:
        name, parsed = manifest
        yardstick = by_manifest(parsed, name=name, policy_hashes=policy_hashes, file=file)
    elif file is None and not release().reference_values:
        output.warn("no reference values: the Coordinators are judged by this ledger's own manifests alone")
        return None
    else:
        found = policy_file(workspace)
        yardstick = by_values(release(), file=file, policy_hashes=policy_hashes, policy_file=found)
    check_simulated(yardstick, allowed=allow_simulated)
    for line in yardstick.sources:
        output.note(line)
    return yardstick


def known_policies(
    workspace: Workspace, yardstick: Yardstick | None, policy_hashes: tuple[bytes, ...]
) -> frozenset[bytes] | None:
    """Return the Coordinator policies that the user knows; None where none is known, so that none can be strange."""
    if yardstick is not None:
        return yardstick.coordinator_policies or None
    found = policy_file(workspace)
    written = frozenset[bytes]() if found is None else parse_policy_file(found[1], name=found[0])
    return frozenset(policy_hashes) | written or None


def policy_file(workspace: Workspace) -> tuple[str, bytes] | None:
    """Return name and content of the file with the Coordinator policy's digest; None where there is none."""
    raw = read_optional(workspace.coordinator_policy, what="Coordinator policy digest")
    return None if raw is None else (workspace.shown(workspace.coordinator_policy), raw)
