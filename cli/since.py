"""What `generate` says at its end: pods, images, policies, and what changed since last time; it decides nothing.

"Last time" is the policy that a pod's annotation held when the YAML was read, and the manifest that was there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

from cli.entries import Subject
from cli.output import Output, clean
from cli.planning import UsedImage
from manifest.model import Policy
from policy.carrier import policy_in
from policy.errors import PolicyTextError
from policy.rego import policy_data, split_policy
from policy.words import Change, differences

_MOST_LINES: Final = 40  # Of differences, in all; `--json` has every one.
_MOST_NAMES: Final = 3
_RULES: Final = "the fixed rules are those of another version of this program, or of another form of images"


class Since(StrEnum):
    """What became of a pod's policy."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "unchanged"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One pod, and how its policy differs from the one of last time.

    Attributes:
        subject: the pod.
        label: its name, with its namespace where two pods have that name.
        since: what became of its policy.
        changes: in which fields; none where the older policy is not one of ours.
        rules: whether the fixed rules differ too.
    """

    subject: Subject
    label: str
    since: Since
    changes: tuple[Change, ...] = ()
    rules: bool = False

    def lines(self) -> Iterator[str]:
        """The differences as they are shown."""
        part = None
        for change in self.changes:
            if change.part != part:
                part = change.part
                yield part
            for sign, values in (("-", change.removed), ("+", change.added)):
                for value in values:
                    yield f"  {sign} {f'{change.field}: {value}' if change.field else value}"
        if self.rules:
            yield _RULES


def seen(subjects: Sequence[Subject], new: Mapping[bytes, bytes], old: Mapping[bytes, bytes]) -> tuple[Seen, ...]:
    """Compare every pod's policy with the one it had.

    Args:
        subjects: the pods.
        new: the policies computed now, by digest.
        old: the policies that the annotations held, by digest.
    """
    names = [subject.name for subject in subjects]
    found = []
    for subject in subjects:
        label = subject.name if names.count(subject.name) == 1 else f"{subject.namespace}/{subject.name}"
        if subject.before is None:
            found.append(Seen(subject=subject, label=label, since=Since.NEW))
        elif subject.before == subject.digest:
            found.append(Seen(subject=subject, label=label, since=Since.SAME))
        else:
            changes, rules = _compared(old.get(subject.before, b""), new[subject.digest])
            found.append(Seen(subject=subject, label=label, since=Since.CHANGED, changes=changes, rules=rules))
    return tuple(found)


def document(
    pods: Sequence[Seen], images: Sequence[UsedImage], policies: Mapping[bytes, Policy], removed: Mapping[bytes, Policy]
) -> dict[str, object]:
    """What stands in the JSON document of `generate` about pods and images."""
    return {
        "pods": [
            {
                "name": pod.subject.name,
                "namespace": pod.subject.namespace,
                "kind": pod.subject.kind,
                "where": pod.subject.where,
                "policy": pod.subject.digest.hex(),
                "before": pod.subject.before and pod.subject.before.hex(),
                "since": pod.since,
                "changes": [change.json() for change in pod.changes],
                "rules": pod.rules,
                "sans": list(policies[pod.subject.digest].sans),
                "workload_secret_id": policies[pod.subject.digest].workload_secret_id,
                "coordinator": pod.subject.coordinator,
            }
            for pod in pods
        ],
        "removed": [{"policy": digest.hex(), "sans": list(policy.sans)} for digest, policy in removed.items()],
        "images": [
            {"image": image.reference, "pods": list(image.pods), "pinned": image.pinned_at is not None}
            for image in images
        ],
    }


def show(
    output: Output,
    pods: Sequence[Seen],
    images: Sequence[UsedImage],
    policies: Mapping[bytes, Policy],
    removed: Mapping[bytes, Policy],
) -> None:
    """Print tables of pods and images, and the differences of those that changed."""
    rows = [
        (
            f"{pod.label}{' (Coordinator)' if pod.subject.coordinator else ''}",
            pod.subject.digest.hex()[:16],
            str(pod.since),
            folded_names(policies[pod.subject.digest].sans),
        )
        for pod in pods
    ]
    rows += [
        (next(iter(policy.sans), "?"), digest.hex()[:16], str(Since.REMOVED), folded_names(policy.sans))
        for digest, policy in removed.items()
    ]
    output.table("", ["pod", "policy", "since last time", "names in its certificate"], rows)
    output.say()
    output.table("", ["digest", "used by", "image"], [_image_row(image) for image in images])
    for line in changed_lines(pods):
        output.say(line)


def changed_lines(pods: Sequence[Seen]) -> Iterator[str]:
    """The differences of all changed pods, those with the same differences together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for pod in pods:
        if pod.since is Since.CHANGED:
            groups.setdefault(tuple(pod.lines()), []).append(pod.label)
    left = _MOST_LINES
    for lines, labels in groups.items():
        yield ""
        what = "changed" if lines else "changed: what it was before was not made by this program"
        yield f"{clean(_some(labels))} {what}"
        for line in lines[:left]:
            yield f"  {clean(line)}"
        if lines[left:]:
            yield f"  … and {len(lines[left:])} more lines (--json has all)"
        left = max(left - len(lines), 2)


def folded_names(names: Sequence[str]) -> str:
    """*names*, those that DNS makes of one Service behind it in brackets: ``a[.ns[.svc[.cluster.local]]]``."""
    found: list[str] = []
    left = list(names)
    while left:
        name = left.pop(0)
        longer = [other for other in left if other.startswith(f"{name}.")]
        chain = sorted(longer, key=len)
        if chain and all(one.startswith(f"{short}.") for short, one in pairwise(chain)):
            ends = [one[len(short) :] for short, one in pairwise([name, *chain])]
            name += "".join(f"[{end}" for end in ends) + "]" * len(ends)
            left = [other for other in left if other not in chain]
        found.append(name)
    return ", ".join(found)


def _image_row(image: UsedImage) -> tuple[str, str, str]:
    name, _, digest = image.reference.partition("@sha256:")
    pinned = " (pinned now)" if image.pinned_at is not None else ""
    return digest[:16], _some(image.pods), f"{name}{pinned}"


def _some(labels: Sequence[str]) -> str:
    if len(labels) <= _MOST_NAMES + 1:
        return ", ".join(labels)
    return f"{', '.join(labels[:_MOST_NAMES])} and {len(labels) - _MOST_NAMES} more"


def _compared(old: bytes, new: bytes) -> tuple[tuple[Change, ...], bool]:
    try:
        before, after = policy_in(old), policy_in(new)
        return differences(policy_data(before), policy_data(after)), split_policy(before)[0] != split_policy(after)[0]
    except (PolicyTextError, KeyError, TypeError, ValueError, AttributeError):  # Of a stranger, or of an older release.
        return (), False
