"""A few paths of an image as all its layers make them, and where links lead from there; reads no layer.

Links are followed as in a process whose root directory is the image: what is absolute or climbs begins at that root.
A hard link is what its target was in the same layer at that moment (overlayfs knows no others).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from images.layerscan import Event, Kind, LayerScan, above

_MAX_LINKS: Final = 40  # As Linux.


@dataclass(frozen=True, slots=True)
class Unknown:
    """Where a path leads cannot be said before *path* is known too."""

    path: str


def merge(layers: Iterable[LayerScan], wanted: frozenset[str]) -> dict[str, Event]:
    """What stands at *wanted* paths and above them, lowest layer first."""
    known = above(wanted)
    tree: dict[str, Event] = {}
    for layer in layers:
        hidden = tuple(layer.hidden)
        tree = {path: node for path, node in tree.items() if not any(_hides(whiteout, path) for whiteout in hidden)}
        own: dict[str, Event] = {}
        for event in layer.events:
            node = event
            if event.kind is Kind.HARD_LINK:
                missing = Event(path=event.path, kind=Kind.OTHER)
                node = own.get(event.target, missing) if event.target in known else event
            if event.kind is not Kind.DIRECTORY:
                below = f"{event.path}/"
                tree, own = (
                    {path: other for path, other in nodes.items() if not path.startswith(below)}
                    for nodes in (tree, own)
                )
            own[event.path] = node
        tree |= own
    return tree


def content(tree: dict[str, Event], wanted: frozenset[str], path: str) -> bytes | Unknown | None:
    """The bytes of the file at *path*, through links; None where there is no file."""
    known = above(wanted)
    todo, done, links = path.split("/")[::-1], list[str](), 0
    while todo:
        part = todo.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            del done[-1:]
            continue
        here = "/".join([*done, part])
        if here not in known or (not todo and here not in wanted):
            return Unknown(here if ".." in todo else "/".join([here, *(name for name in todo[::-1] if name)]))
        node = tree.get(here)
        match None if node is None else node.kind:
            case Kind.DIRECTORY:
                done.append(part)
            case Kind.SYMLINK if node is not None and links < _MAX_LINKS:
                links += 1
                if node.target.startswith("/"):
                    done.clear()
                todo += node.target.split("/")[::-1]
            case Kind.HARD_LINK if node is not None:
                return Unknown(node.target)
            case Kind.FILE if node is not None and not todo:
                return node.data
            case _:
                return None
    return None


def _hides(whiteout: str, path: str) -> bool:
    if whiteout.endswith("/"):
        return whiteout == "/" or path.startswith(whiteout)
    return path == whiteout or path.startswith(f"{whiteout}/")
