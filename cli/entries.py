"""Which entry of the manifest each pod gets, edits of people kept; the YAML is read elsewhere and no file is written here.

An entry is found again when the policy it stood under changes: the annotation that the YAML carried before names the old digest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manifest.model import Policy, Role


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
        return Policy(sans=default_sans(subject), workload_secret_id=None, role=Role.COORDINATOR)
    secret = f"{subject.kind}/{subject.namespace}/{subject.name}" if subject.secret_id is None else subject.secret_id
    return Policy(sans=default_sans(subject), workload_secret_id=secret or None, role=None)


def entries(subjects: Sequence[Subject], existing: Mapping[bytes, Policy]) -> Entries:
    """Return the entries for *subjects*, taking over what *existing* says of each.

    Args:
        subjects: all confidential pods, in the order of the files.
        existing: the policies of the manifest as a person may have edited it.
    """
    result: dict[bytes, Policy] = {}
    owner: dict[bytes, Subject] = {}
    notes: list[str] = []
    kept: set[bytes] = set()
    for subject in subjects:
        policy, source = _entry(subject, existing)
        if source is not None:
            kept.add(source)
        if subject.digest not in result:
            result[subject.digest], owner[subject.digest] = policy, subject
            continue
        first = owner[subject.digest]
        merged = _merged(result[subject.digest], policy)
        notes.append(
            f"{first.name} ({first.where}) and {subject.name} ({subject.where}) have the same policy, so nobody can tell "
            f"them apart: both get a certificate for {', '.join(merged.sans)}"
        )
        result[subject.digest] = merged
    gone = [digest for digest in existing if digest not in kept and digest not in result]
    notes += [
        f"the entry {digest.hex()} ({', '.join(existing[digest].sans)}) is left out: no pod of the YAML has this policy"
        for digest in gone
    ]
    return Entries(result, tuple(notes))


def _entry(subject: Subject, existing: Mapping[bytes, Policy]) -> tuple[Policy, bytes | None]:
    fresh = default_policy(subject)
    for digest in (subject.digest, subject.before):
        if digest is not None and digest in existing:
            old = existing[digest]
            # The role follows the YAML alone: a certificate authority is not made by an edit that nobody sees there.
            return Policy(sans=old.sans, workload_secret_id=old.workload_secret_id, role=fresh.role), digest
    return fresh, None


def _merged(first: Policy, second: Policy) -> Policy:
    return Policy(
        sans=tuple(dict.fromkeys(first.sans + second.sans)),
        workload_secret_id=first.workload_secret_id or second.workload_secret_id,
        role=first.role or second.role,
    )
