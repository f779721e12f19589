"""Where the paths of a container lie on this machine; used on what the policy has judged already, never before."""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# An absolute path within a text: at its start, or behind what separates paths in options and lists (--out=/x, /a:/b).
# Two slashes begin the authority of a URL, not a path.
_PATHS = re.compile(r"(?<![^\s=:,;])/(?!/)[^\s=:,;]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMap:
    """The root file system and the mounts of one container, as directories of this machine.

    A path below a mount belongs to the mount, the longest destination first. Another path belongs to the root, but in
    free text (arguments, environment) only if it is there, or its folder is: ``/api/list`` may be a URL's path.
    """

    root: Path
    mounts: Mapping[str, Path]

    def path(self, inside: str) -> Path:
        """The place of the absolute path *inside*; ``..`` cannot leave the root."""
        clean = _clean(inside)
        mount = self._mount(clean)
        if mount is None:
            return self.root / clean.lstrip("/")
        return self.mounts[mount] / clean[len(mount) :].lstrip("/")

    def text(self, value: str) -> str:
        """Return *value* with the paths in it replaced by their places."""
        if value == "/":
            return str(self.root)
        return _PATHS.sub(lambda found: self._replace(found[0]), value)

    def _replace(self, written: str) -> str:
        clean = _clean(written)
        if clean == "/":
            return written
        place = self.path(clean)
        in_root = place.exists() or (posixpath.dirname(clean) != "/" and place.parent.is_dir())
        if self._mount(clean) is None and not in_root:
            return written
        return str(place) + ("/" if written.endswith("/") else "")

    def _mount(self, clean: str) -> str | None:
        below = [d for d in self.mounts if clean == d or clean.startswith(d.rstrip("/") + "/")]
        return max(below, key=len, default=None)


def _clean(path: str) -> str:
    return "/" + posixpath.normpath("/" + path).lstrip("/")
