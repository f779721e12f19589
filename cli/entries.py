"""Which entry of the manifest each pod gets, edits of people kept; reads no YAML, writes no file.

An entry is found again when the policy it stood under changes: the annotation that the YAML carried before names the
old digest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manifest.model import Manifest, Policy, Role
from manifest.render import WantedPolicy, merge_policies


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One confidential pod of the YAML.

    Attributes:
        name: of the resource.
        namespace: of the resource, `default` where none is written.
        kind: with group and version, as in `apps/v1/Deployment`.
        services: names of the Services that select it.
        digest: SHA-256 of the policy computed now.
        before: SHA-256 of the policy in the annotation that the file carried; None without one.
        coordinator: whether it is one.
        secret_id: what the annotation asks for: None says nothing, an empty text no secret.
        where: file and line, for messages.
    """

    name: str
    namespace: str
    kind: str
    services: tuple[str, ...]
    digest: bytes
    before: bytes | None
    coordinator: bool
    secret_id: str | None
    where: str


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries, and what a person should know about how they came about."""

    policies: Mapping[bytes, Policy]
    notes: tuple[str, ...]


def default_sans(subject: Subject) -> tuple[str, ...]:
    """Return the names under which others reach the pod: its own, and those that DNS gives its Services."""
    sans = [subject.name]
    for service in subject.services:
        sans += [
            service,
            f"{service}.{subject.namespace}",
            f"{service}.{subject.namespace}.svc",
            f"{service}.{subject.namespace}.svc.cluster.local",
        ]
    return tuple(dict.fromkeys(sans))


def default_policy(subject: Subject) -> Policy:
    """Return the entry of a pod that the manifest did not name before."""
    if subject.coordinator:
        return Policy(sans=default_sans(subject), role=Role.COORDINATOR)
    secret = f"{subject.kind}/{subject.namespace}/{subject.name}" if subject.secret_id is None else subject.secret_id
    return Policy(sans=default_sans(subject), workload_secret_id=secret or None)


def entries(subjects: Sequence[Subject], existing: Manifest | None) -> Entries:
    """Return the entries for *subjects*, taking over what *existing* says of each.

    The role follows the YAML alone: nothing becomes a Coordinator by an edit that nobody sees there.
    """
    wanted = [
        WantedPolicy(digest=subject.digest, default=default_policy(subject), replaces=subject.before)
        for subject in subjects
    ]
    policies = merge_policies(existing, wanted)
    return Entries(policies, (*_twins(subjects, policies), *_left_out(subjects, existing)))


def _twins(subjects: Sequence[Subject], policies: Mapping[bytes, Policy]) -> tuple[str, ...]:
    first: dict[bytes, Subject] = {}
    notes = []
    for subject in subjects:
        other = first.setdefault(subject.digest, subject)
        if other is not subject:
            sans = ", ".join(policies[subject.digest].sans)
            notes.append(
                f"{other.name} ({other.where}) and {subject.name} ({subject.where}) have the same policy, so "
                f"nobody can tell them apart: both get a certificate for {sans}"
            )
    return tuple(notes)


def left_out(subjects: Sequence[Subject], existing: Manifest | None) -> Mapping[bytes, Policy]:
    """Return the entries of *existing* that belong to no pod any more."""
    kept = {subject.digest for subject in subjects} | {subject.before for subject in subjects}
    policies: Mapping[bytes, Policy] = {} if existing is None else existing.policies
    return {digest: policy for digest, policy in policies.items() if digest not in kept}


def _left_out(subjects: Sequence[Subject], existing: Manifest | None) -> tuple[str, ...]:
    return tuple(
        f"the entry {digest.hex()} ({', '.join(policy.sans)}) is left out: no pod of the YAML has this policy"
        for digest, policy in left_out(subjects, existing).items()
    )
