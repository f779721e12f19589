"""Collects why a request is not as expected: field, seen, wanted, origin in the pod spec; compares as Rego does."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

Data: TypeAlias = Mapping[str, object]  # a request, a policy's expectations, or a guest's state
NODE: Final = "what an honest node asks"
"""The source of an expectation that no YAML decides."""
CRI: Final = "io.kubernetes.cri."  # Before the runtime's annotations.
_MAX_SHOWN: Final = 300


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING: Final = _Missing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One difference. *source* names the part of the pod spec (or the node's behaviour) that it comes from."""

    field: str
    seen: str
    wanted: str
    source: str

    def __str__(self) -> str:
        return f"{self.field}: seen {self.seen}, wanted {self.wanted} ({self.source})"


@dataclass(slots=True)
class Findings:
    """Grows while one request is read."""

    reasons: list[Reason] = field(default_factory=list)

    def add(self, where: str, seen: object, wanted: str, source: str) -> None:
        """Note a difference."""
        self.reasons.append(Reason(field=where, seen=show(seen), wanted=wanted, source=source))

    def equal(self, where: str, seen: object, wanted: object, source: str) -> None:
        """*seen* must be *wanted*."""
        if not same(seen, wanted):
            self.add(where, seen, show(wanted), source)

    def empty(self, where: str, seen: object, source: str) -> None:
        """*seen* must be an empty list or mapping (or text, which Rego counts too)."""
        if not isinstance(seen, list | dict | str) or seen:
            self.add(where, seen, "an empty list", source)

    def known(self, where: str, seen: object, fields: Collection[str]) -> None:
        """*seen* may have further fields than *fields* only where they are empty."""
        for name, value in table(seen).items():
            if name not in fields and not _empty(value):
                text = "nothing: a field that this version does not know"
                self.add(f"{where}.{name}" if where else name, value, text, NODE)

    def listed(self, where: str, seen: object, source: str) -> None:
        """*seen* must be a list."""
        if not isinstance(seen, list):
            self.add(where, seen, "a list", source)

    def matches(self, where: str, seen: object, pattern: str, wanted: str, source: str) -> None:
        """*seen* must be a text that *pattern* finds."""
        if not found(pattern, seen):
            self.add(where, seen, wanted, source)


def get(value: object, *path: str | int) -> object:
    """The value at *path*, MISSING where there is none."""
    for part in path:
        if isinstance(value, dict):
            value = value.get(part, MISSING)
        elif isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value):
            value = value[part]
        else:
            return MISSING
    return value


def items(value: object) -> Sequence[object]:
    """The items of a list; anything else has none."""
    return value if isinstance(value, list) else ()


def table(value: object) -> Mapping[str, object]:
    """A mapping; anything else is an empty one."""
    return value if isinstance(value, dict) else {}


def texts(value: object) -> list[str]:
    """The texts among the items of a list."""
    return [item for item in items(value) if isinstance(item, str)]


def same(one: object, other: object) -> bool:
    """Whether Rego calls them equal: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


def _empty(value: object) -> bool:
    """Whether it is what protobuf has where nothing was set."""
    defaults: tuple[object, ...] = (None, False, 0, "", [], {})
    return any(same(value, default) for default in defaults)


def found(pattern: str, text: object) -> bool:
    """Whether *pattern* finds something in *text*; ``$`` is the very end, as in RE2 and Rust."""
    if not isinstance(text, str):
        return False
    return re.search(re.sub(r"(?<!\\)\$(?=$|[|)])", r"\\Z", pattern), text, re.ASCII) is not None


def show(value: object) -> str:
    """*value* for a person, bounded."""
    text = "nothing" if value is MISSING else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def difference(seen: Iterable[str], wanted: Iterable[str]) -> tuple[list[str], list[str]]:
    """What is in *seen* only, and in *wanted* only; each as often as it is too much."""
    left = list(wanted)
    more: list[str] = []
    for item in seen:
        if item in left:
            left.remove(item)
        else:
            more.append(item)
    return more, left
