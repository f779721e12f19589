"""Reads a pod spec after injection with the place of every field, and collects everything that cannot be."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from k8s.problems import Path, show_path
from k8s.resources import ResourceSet, Workload
from policy.errors import Unsupported

Table = Mapping[str, object]


@dataclass(slots=True, kw_only=True)
class Reader:
    """One workload's pod; ``pod`` is its spec after injection. ``problems`` grows while it is read."""

    workload: Workload
    pod: Table
    resources: ResourceSet | None = None
    problems: list[Unsupported] = field(default_factory=list)

    def refuse(self, path: Path, reason: str, instead: str) -> None:
        """Note that what stands at *path* of the pod spec cannot be."""
        problem = Unsupported(
            file=self.workload.file.path,
            line=self.workload.pod_line(*self._written(path)),
            path=show_path((*self.workload.pod_path, *path)),
            reason=reason,
            instead=instead,
        )
        if problem not in self.problems:
            self.problems.append(problem)

    def _written(self, path: Path) -> Path:
        """Where *path* stands in the file: injection puts items before the author's."""
        if len(path) < 2 or not isinstance(path[0], str) or not isinstance(path[1], int):
            return path
        injected, written = self.pod.get(path[0]), self.workload.pod_spec.get(path[0])
        if not isinstance(injected, list) or not isinstance(written, list) or path[1] >= len(injected):
            return path
        item = injected[path[1]]
        name = item.get("name") if isinstance(item, dict) else None
        for index, original in enumerate(written):
            if isinstance(original, dict) and original.get("name") == name:
                return (path[0], index, *path[2:])
        return path[:1]

    def text(self, table: Table, name: str, path: Path) -> str | None:
        """The text at *name*; another type is refused."""
        return cast("str | None", self._typed(table, name, path, str, "a text (put it in quotes)"))

    def flag(self, table: Table, name: str, path: Path) -> bool | None:
        """The boolean at *name*; another type is refused."""
        return cast("bool | None", self._typed(table, name, path, bool, "true or false"))

    def number(self, table: Table, name: str, path: Path, limit: int = (1 << 32) - 1) -> int | None:
        """The number from 0 to *limit* at *name*; another type or size is refused."""
        value = table.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
            self.refuse((*path, name), f"{value!r} stands here", f"write a number from 0 to {limit}")
            return None
        return value

    def table(self, table: Table, name: str, path: Path) -> Table:
        """The mapping at *name*, an empty one where there is none; another type is refused."""
        value = self._typed(table, name, path, dict, "a mapping")
        return {} if value is None else cast("Table", value)

    def texts(self, table: Table, name: str, path: Path) -> tuple[str, ...] | None:
        """The list of texts at *name*; another type is refused."""
        value = self._typed(table, name, path, list, "a list")
        if value is None:
            return None
        items = cast("Sequence[object]", value)
        for index, item in enumerate(items):
            if not isinstance(item, str):
                self.refuse((*path, name, index), f"{item!r} is no text", "put it in quotes")
        return tuple(item for item in items if isinstance(item, str))

    def items(self, table: Table, name: str, path: Path) -> Iterator[tuple[Path, Table]]:
        """The mappings listed at *name*, each with its path; other types are refused."""
        value = self._typed(table, name, path, list, "a list")
        for index, item in enumerate(cast("Sequence[object]", value or ())):
            if isinstance(item, dict):
                yield (*path, name, index), cast("Table", item)
            else:
                self.refuse((*path, name, index), f"{item!r} stands here", "write a mapping")

    def _typed(self, table: Table, name: str, path: Path, kind: type, wanted: str) -> object:
        value = table.get(name)
        if value is None or isinstance(value, kind):
            return value
        self.refuse((*path, name), f"{value!r} stands here", f"write {wanted}")
        return None
