"""How Kubernetes names the pods of a workload: as a pattern, and one example; nothing is looked up."""

from collections.abc import Mapping

from policy.text import SUFFIX, escape

_MAX_NAME = 63  # Longer pod names get a host name cut at a place that nobody can foretell.
# What each kind appends, and how long that can be.
_APPENDED: Mapping[str, tuple[str, int, str]] = {
    "Pod": ("", 0, ""),
    "Deployment": (f"-{SUFFIX}-{SUFFIX}", 17, "-5d4f7c8b9-x{index}"),
    "ReplicaSet": (f"-{SUFFIX}", 6, "-x{index}"),
    "ReplicationController": (f"-{SUFFIX}", 6, "-x{index}"),
    "DaemonSet": (f"-{SUFFIX}", 6, "-x{index}"),
    "StatefulSet": ("-[0-9]{1,10}", 4, "-{ordinal}"),
    "Job": (f"(-[0-9]{{1,10}})?-{SUFFIX}", 6, "-x{index}"),
    "CronJob": (f"-[0-9]{{1,10}}(-[0-9]{{1,10}})?-{SUFFIX}", 15, "-29000000-x{index}"),
}
_ALPHABET = "bcdfghjklmnpqrst"


def name_pattern(kind: str, name: str, *, generated: bool) -> str:
    """A regular expression for the names of the pods of a *kind* called *name* (``generateName`` if *generated*)."""
    appended = SUFFIX if generated else _APPENDED[kind][0]
    return f"^{escape(name)}{appended}$"


def longest(kind: str, *, generated: bool) -> int:
    """How long *name* may be, so that every pod's name fits into a host name."""
    return _MAX_NAME - (5 if generated else _APPENDED[kind][1])


def example_name(kind: str, name: str, index: int = 0, *, generated: bool = False) -> str:
    """The name of pod number *index* of a workload, as the stand-in for a cluster gives it."""
    digits = "".join(_ALPHABET[(index >> shift) & 15] for shift in (12, 8, 4, 0))
    if generated:
        return f"{name}x{digits}"
    return name + _APPENDED[kind][2].format(index=digits, ordinal=index)
