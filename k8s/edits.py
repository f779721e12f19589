"""What shall change in a document's data, and what the data is then; where the text goes is not decided here."""

import copy
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from k8s.nodes import Data
from k8s.problems import Path, show_path


@dataclass(frozen=True, slots=True, kw_only=True)
class SetValue:
    """Set what *path* names: a key is added if absent, replaced if present; a list item is replaced.

    Attributes:
        document: Index of the document in its file.
        path: Where, in the data before any edit; everything but the last part must exist.
        value: Plain data.
    """

    document: int
    path: Path
    value: Data


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertItem:
    """Insert *value* into the list at *path*.

    Attributes:
        document: Index of the document in its file.
        path: Of the list, in the data before any edit.
        index: Of the item, before any edit, in front of which it goes; the list's length for the end.
        value: Plain data.
    """

    document: int
    path: Path
    index: int
    value: Data


Edit = SetValue | InsertItem


def apply_to_data(data: Data, edits: Iterable[Edit]) -> Data:
    """Give *data* as it is after *edits*; paths and indexes mean the data before. *data* itself is not touched.

    Raises:
        KeyError: An edit does not fit the data.
    """
    result = copy.deepcopy(data)
    inserts: dict[Path, list[InsertItem]] = defaultdict(list)
    for edit in edits:
        if isinstance(edit, InsertItem):
            inserts[edit.path].append(edit)
            continue
        parent, last = _at(result, edit.path[:-1]), edit.path[-1]
        match parent, last:
            case dict(), str():
                parent[last] = copy.deepcopy(edit.value)
            case list(), int() if 0 <= last < len(parent):
                parent[last] = copy.deepcopy(edit.value)
            case _:
                raise KeyError(show_path(edit.path))
    # Inner lists first, and each from its end: so no insertion moves what another one's path names.
    for path in sorted(inserts, key=len, reverse=True):
        target = _at(result, path)
        if not isinstance(target, list):
            raise KeyError(show_path(path))
        last_first = sorted(enumerate(inserts[path]), key=lambda pair: (pair[1].index, pair[0]), reverse=True)
        for _, edit in last_first:
            if not 0 <= edit.index <= len(target):
                raise KeyError(show_path(path))
            target.insert(edit.index, copy.deepcopy(edit.value))
    return result


def first_difference(one: Data, other: Data, path: Path = ()) -> Path | None:
    """Give the first path where two documents differ, types included (``1`` is not ``true``); None where none do."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in (*one, *(key for key in other if key not in one)):
            if key not in one or key not in other:
                return (*path, key)
            if (found := first_difference(one[key], other[key], (*path, key))) is not None:
                return found
        return None
    if isinstance(one, list) and isinstance(other, list):
        for index, (left, right) in enumerate(zip(one, other, strict=False)):
            if (found := first_difference(left, right, (*path, index))) is not None:
                return found
        return None if len(one) == len(other) else (*path, min(len(one), len(other)))
    return None if type(one) is type(other) and one == other else path


def _at(data: Data, path: Path) -> Data:
    for part in path:
        match data, part:
            case dict(), str() if part in data:
                data = data[part]
            case list(), int() if 0 <= part < len(data):
                data = data[part]
            case _:
                raise KeyError(show_path(path))
    return data
