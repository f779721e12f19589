"""How Kubernetes names the pods of a workload, and numbers them: as patterns, and one example; nothing is looked up."""

from collections.abc import Mapping
from dataclasses import dataclass

from k8s.resources import Workload
from policy.text import SUFFIX, escape

_MAX_NAME = 63  # Longer pod names get a host name cut at a place that nobody can foretell.
ORDINAL = "(0|[1-9][0-9]{0,9})"
# What each kind appends, and how long that can be.
_APPENDED: Mapping[str, tuple[str, int, str]] = {
    "Pod": ("", 0, ""),
    "Deployment": (f"-{SUFFIX}-{SUFFIX}", 17, "-5d4f7c8b9-x{index}"),
    "ReplicaSet": (f"-{SUFFIX}", 6, "-x{index}"),
    "ReplicationController": (f"-{SUFFIX}", 6, "-x{index}"),
    "DaemonSet": (f"-{SUFFIX}", 6, "-x{index}"),
    "StatefulSet": (f"-{ORDINAL}", 4, "-{ordinal}"),
    "Job": (f"-{SUFFIX}", 6, "-x{index}"),
    "CronJob": (f"-[0-9]{{1,10}}-{SUFFIX}", 15, "-29000000-x{index}"),
}
_ALPHABET = "bcdfghjklmnpqrst"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNames:
    """The names of the pods of one workload.

    Attributes:
        pattern: a regular expression for them.
        numbered: the same with two groups, what a host name has of it and the pod's number; empty where pods have none.
        stem: whether the host name is that part of the name: so it is for indexed jobs.
        longest: how long the workload's name may be, so that every pod's name fits into a host name.
        example: the name of one.
    """

    pattern: str
    numbered: str
    stem: bool
    longest: int
    example: str


def pod_names(workload: Workload, index: int = 0) -> PodNames:
    """The names of the pods of *workload*; *index* chooses the example.

    An indexed Job puts its pod's number, decimal and below ``completions``, before the random end, and makes a host
    name of what stands before that.
    """
    kind, name = workload.kind, workload.name
    made = workload.generate_name is not None
    digits = "".join(_ALPHABET[(index >> shift) & 15] for shift in (12, 8, 4, 0))
    appended, length, example = _APPENDED[kind]
    own = escape(name) + (SUFFIX if made else "")
    shown = name + (f"x{digits}" if made else "")
    limit = _MAX_NAME - length - (5 if made else 0)
    completions = _completions(workload)
    numbered = ""
    if completions is not None:
        number = below(completions)
        before = appended.removesuffix(f"-{SUFFIX}")
        appended = f"{before}-{number}-{SUFFIX}"
        numbered = f"^({own}{before}-({number}))-{SUFFIX}$"
        limit -= 1 + len(str(completions - 1))
        example = example.replace("-x{index}", "-{ordinal}-x{index}")
    elif kind == "StatefulSet":
        numbered = f"^({own}-({ORDINAL}))$"
    return PodNames(
        pattern=f"^{own}{appended}$",
        numbered=numbered,
        stem=completions is not None,
        longest=limit,
        example=shown + example.format(index=digits, ordinal=index),
    )


def below(limit: int) -> str:
    """A regular expression for the decimal numbers from 0 to *limit* - 1, without leading zeros."""
    last = str(max(limit, 1) - 1)
    parts = [f"[1-9][0-9]{{{length - 1}}}" if length > 1 else "[0-9]" for length in range(1, len(last))]
    for place, digit in enumerate(last):
        rest = len(last) - place - 1
        low = 1 if place == 0 and rest else 0
        high = int(digit) - (1 if rest else 0)
        if high >= low:
            parts.append(last[:place] + f"[{low}-{high}]" + (f"[0-9]{{{rest}}}" if rest else ""))
    return f"({'|'.join(parts)})"


def _completions(workload: Workload) -> int | None:
    """How many numbers an indexed Job has; None for all other workloads."""
    for path in (("spec",), ("spec", "jobTemplate", "spec")):
        if workload.get(*path, "completionMode") == "Indexed":
            number = workload.get(*path, "completions")
            return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else 1
    return None
